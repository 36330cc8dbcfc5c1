"""The in-tree build backend: setuptools, after emitting the C that cffi needs.

Purpose: the extensions are declared in pyproject.toml (`[[tool.setuptools.ext-modules]]`); their cffi glue is
generated from the declarations in their headers (`GLUE`) before each build, so they are written once.
A kernel whose compiler breaks IEEE-754 arithmetic is refused: what was built is run, and must digest to what the
NumPy reference digests to. Invariants: runs from the project root (PEP 517); the generated file is never part of an
archive; the extensions are optional, so a machine without a compiler, or with such a one, installs all the same.
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

GLUE = {  # by extension: the header that declares its entries
    "emm.kernel._native": Path("emm/kernel/c/emm_kernel.h"),
    "emm.codec._blocks": Path("emm/codec/c/emm_blocks.h"),
    "emm_engine._loops": Path("engine/emm_engine/c/emm_loops.h"),
}
KERNEL = "emm.kernel._native"
NATIVE = Path("emm/kernel/native.py")


class BuildKernel(build_ext):  # type: ignore[misc, unused-ignore]
    """Builds an extension, then asks a kernel for its self-test."""

    def build_extension(self, ext):  # type: ignore[no-untyped-def]
        super().build_extension(ext)
        path = Path(self.get_ext_fullpath(ext.name))
        if ext.name != KERNEL or self.plat_name != sysconfig.get_platform():
            return  # tested at first use, as is a kernel built for another machine
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


def output_of(extension: str) -> Path:
    """The file that its glue goes to: above the folder of its header."""
    return GLUE[extension].parents[1] / f"{extension.rpartition('.')[2]}.c"


def emit_glue() -> None:
    """Write the glue of each extension from the part of its header between the two marks."""
    from cffi import FFI

    for extension, header in GLUE.items():
        _, _, declarations = header.read_text(encoding="utf-8").partition("/* cdef begins */")
        declarations, mark, _ = declarations.partition("/* cdef ends */")
        assert mark, f"{header} has lost its cdef marks"
        ffi = FFI()
        ffi.cdef(declarations)
        ffi.set_source(extension, f'#include "{header.name}"')
        ffi.emit_c_code(str(output_of(extension)))


def build_sdist(sdist_directory, config_settings=None):  # type: ignore[no-untyped-def]
    for extension in GLUE:  # listed among the sources, but made anew by every build
        output_of(extension).unlink(missing_ok=True)
    return build_meta.build_sdist(sdist_directory, config_settings)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):  # type: ignore[no-untyped-def]
    emit_glue()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):  # type: ignore[no-untyped-def]
    emit_glue()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
