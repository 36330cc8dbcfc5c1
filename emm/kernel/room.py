"""What a thread keeps between calls of the compiled kernel: buffers, and where the arrays of its last state are.

Purpose: a single write takes a few microseconds, so it may neither allocate nor look at arrays that it
looked at a moment ago. Invariants: nothing here outlives its thread or keeps a state alive (arrays are
remembered weakly); an address is used only while the very array object that it came from is alive, has
the same shape and, for writing, is writable.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np

from emm.kernel._native import ffi, lib  # type: ignore[import-not-found, import-untyped, unused-ignore]
from emm.kernel.checks import check_gain, check_matrix
from emm.state import Float32Array, GainState, MatrixState

FLOATS = ffi.typeof("float[]")
BYTES = ffi.typeof("uint8_t[]")
ADDRESS = ffi.typeof("float *")

WORK_BYTES_MAX = 1 << 24  # a larger buffer is not kept


def _nothing() -> None:
    return None


class Room:
    """One thread's buffers."""

    __slots__ = (
        "_pbar", "_prior", "_u", "_work", "gain_addresses", "matrix", "matrix_address", "outcome", "scalars", "single",
        "work_address",
    )  # fmt: skip

    def __init__(self) -> None:
        self.outcome = ffi.new("emm_outcome *")
        self.scalars = ffi.new("emm_gain_scalars *")
        self._work = np.empty(0, np.float32)
        self.work_address: Any = ffi.NULL
        self.single: tuple[int, int] | None = None  # the shape whose single writes `work_address` serves
        self._prior = (0.0, 0.0)
        self.matrix: Any = _nothing
        self.matrix_address: Any = ffi.NULL
        self._pbar: Any = _nothing
        self._u: Any = _nothing
        self.gain_addresses: Any = (ffi.NULL, ffi.NULL)

    def work(self, floats: int) -> Any:
        """At least `floats` numbers, as they happen to be; good until the next call on this thread."""
        self.single = None
        if self._work.size < floats:
            self._work = np.empty(floats, np.float32)
            self.work_address = ffi.from_buffer(FLOATS, self._work)
        address = self.work_address
        if self._work.nbytes > WORK_BYTES_MAX:
            self._work, self.work_address = np.empty(0, np.float32), ffi.NULL  # `address` keeps it for this call
        return address

    def single_work(self, dim: int, rank: int) -> Any:
        """The buffer of a single write."""
        address = self.work(lib.emm_write_one_floats(dim, rank))
        if address is self.work_address:
            self.single = (dim, rank)
        return address

    def prior(self, ridge: float) -> float:
        """P₀ = fl(1/λ)."""
        if self._prior[0] != ridge:
            self._prior = (ridge, float(np.float32(1) / np.float32(ridge)))
        return self._prior[1]

    def matrix_of(self, state: MatrixState) -> Any:
        """The address of M; `AssertionError` unless M is what the state's parameters say."""
        matrix, parameters = state.matrix, state.parameters
        if self.matrix() is not matrix or matrix.shape != (parameters.dim, parameters.rank):
            check_matrix(state)
            self.matrix = weakref.ref(matrix)
            self.matrix_address = _address(matrix)
        return self.matrix_address

    def gain_of(self, gain: GainState, rank: int) -> Any:
        """The addresses of P̄ and U, checked likewise."""
        pbar, u = gain.pbar, gain.u
        if self._pbar() is not pbar or self._u() is not u or pbar.shape != (rank, rank) or u.shape != (16, rank):
            check_gain(gain, rank)
            self._pbar, self._u = weakref.ref(pbar), weakref.ref(u)
            self.gain_addresses = (_address(pbar), _address(u))
        assert 0 <= gain.count < 16, "count is 0 to 15"
        if not u.flags.writeable:
            raise BufferError("u is read-only: copy the state before writing")
        return self.gain_addresses


_local = threading.local()


def room() -> Room:
    """The calling thread's."""
    try:
        return _local.room  # type: ignore[no-any-return]
    except AttributeError:
        _local.room = Room()
        return _local.room  # type: ignore[no-any-return]


def _address(array: Float32Array) -> Any:
    return ffi.cast(ADDRESS, ffi.from_buffer(FLOATS, array))
