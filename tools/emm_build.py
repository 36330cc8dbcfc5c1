"""The in-tree build backend: setuptools, after emitting the C that cffi needs.

Purpose: `emm.kernel._native` is declared in pyproject.toml (`[[tool.setuptools.ext-modules]]`); its cffi
glue is generated from the declarations in `emm_kernel.h` before each build, so they are written once.
Invariants: runs from the project root (PEP 517); the generated file is never part of an archive; the
extension is optional, so a machine without a compiler installs all the same.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401 - the hooks that need nothing from us
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

HEADER = Path("emm/kernel/c/emm_kernel.h")
OUTPUT = Path("emm/kernel/_native.c")


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
