"""The in-tree build backend: setuptools, after emitting the C that cffi needs.

Purpose: `emm.kernel._native` is declared in pyproject.toml (`[[tool.setuptools.ext-modules]]`); its cffi
glue is generated from the declarations in `emm_kernel.h` before each build, so they are written once.
A kernel whose compiler breaks IEEE-754 arithmetic is refused: what was built is run, and must digest to what the
NumPy reference digests to. Invariants: runs from the project root (PEP 517); the generated file is never part of an
archive; the extension is optional, so a machine without a compiler, or with such a one, installs all the same.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import sysconfig
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401 - the hooks that need nothing from us
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

HEADER = Path("emm/kernel/c/emm_kernel.h")
OUTPUT = Path("emm/kernel/_native.c")
NATIVE = Path("emm/kernel/native.py")


class BuildKernel(build_ext):  # type: ignore[misc, unused-ignore]
    """Builds the extension, then asks it for its self-test."""

    def build_extension(self, ext):  # type: ignore[no-untyped-def]
        super().build_extension(ext)
        path = Path(self.get_ext_fullpath(ext.name))
        if self.plat_name != sysconfig.get_platform():
            return  # built for another machine; the test runs there at first use
        try:
            wrong = wrong_levels(path)
            fault = f"breaks IEEE-754 arithmetic: the kernel computes wrong results at level {wrong}" if wrong else ""
        except ImportError as error:
            fault = f"built a kernel that cannot be loaded: {error}"
        if fault:
            path.unlink()
            raise CompileError(f"this compiler (or its CFLAGS) {fault}")


def wrong_levels(path: Path) -> list[int]:
    """The levels this machine runs whose self-test fails, in the extension at `path`."""
    match = re.search(r"^SELF_TEST = (0x[0-9A-F]+)", NATIVE.read_text(encoding="utf-8"), re.MULTILINE)
    assert match, f"{NATIVE} has lost SELF_TEST"
    loader = importlib.machinery.ExtensionFileLoader("_native", str(path))
    spec = importlib.util.spec_from_file_location("_native", path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    ffi, lib = module.ffi, module.lib
    work = ffi.new("float[]", lib.emm_self_test_floats())
    return [
        level for level in range(4) if lib.emm_level_runs(level) and lib.emm_self_test(level, work) != int(match[1], 16)
    ]


def emit_glue() -> None:
    """Write `_native.c` from the part of the header between its two marks."""
    from cffi import FFI

    text = HEADER.read_text(encoding="utf-8")
    _, _, declarations = text.partition("/* cdef begins */")
    declarations, mark, _ = declarations.partition("/* cdef ends */")
    assert mark, f"{HEADER} has lost its cdef marks"
    ffi = FFI()
    ffi.cdef(declarations)
    ffi.set_source("emm.kernel._native", '#include "emm_kernel.h"')
    ffi.emit_c_code(str(OUTPUT))


def build_sdist(sdist_directory, config_settings=None):  # type: ignore[no-untyped-def]
    OUTPUT.unlink(missing_ok=True)  # listed among the sources, but made anew by every build
    return build_meta.build_sdist(sdist_directory, config_settings)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):  # type: ignore[no-untyped-def]
    emit_glue()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):  # type: ignore[no-untyped-def]
    emit_glue()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
