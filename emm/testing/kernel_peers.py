"""What else a user could take to write a matrix memory: the peers of `emm.testing.kernel_bench`.

Purpose: the gated delta rule (rule 1) with NumPy, with BLAS in place through SciPy, and with torch one key at a time
or chunkwise. Invariants: every peer leaves the same memory, within rounding (`check`); a package that is missing
leaves its peers out, it is no dependency; keys have norm 1, so that the published equations apply as they are.
Source of the chunkwise form: Yang, Kautz, Hatamizadeh, "Gated Delta Networks" (2025, arXiv 2412.06464), §3.3: the WY
representation of a chunk's updates with the UT transform; only the state is computed, no outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from emm.state import Float32Array

Writer = Callable[[Float32Array, Float32Array, float], Float32Array]  # keys, values, α -> M


def module(name: str) -> Any:
    """A package that need not be there; None when it is not."""
    try:
        return import_module(name)
    except ImportError:
        return None


def numpy_loop(keys: Float32Array, values: Float32Array, alpha: float) -> Float32Array:
    """As one would write it."""
    matrix = np.zeros((values.shape[1], keys.shape[1]), np.float32)
    for key, value in zip(keys, values, strict=True):
        if alpha != 1:
            matrix *= np.float32(alpha)
        error = value - matrix @ key
        matrix += np.outer(error, key / (key @ key))
    return matrix


def scipy_in_place(keys: Float32Array, values: Float32Array, alpha: float) -> Float32Array:
    """sgemv and sger on one Fortran-ordered matrix, nothing allocated but the error."""
    blas = module("scipy.linalg.blas")
    matrix = np.zeros((values.shape[1], keys.shape[1]), np.float32, order="F")
    for key, value in zip(keys, values, strict=True):
        if alpha != 1:
            np.multiply(matrix, np.float32(alpha), out=matrix)
        error = blas.sgemv(-1.0, matrix, key, beta=1.0, y=value)
        matrix = blas.sger(1.0 / float(key @ key), error, key, a=matrix, overwrite_a=1)
    return matrix


def torch_in_place(keys: Float32Array, values: Float32Array, alpha: float) -> Float32Array:
    """mv and addr_, which takes the decay along."""
    torch = module("torch")
    with torch.inference_mode():
        matrix = torch.zeros(values.shape[1], keys.shape[1])
        for key, value in zip(torch.from_numpy(keys), torch.from_numpy(values), strict=True):
            error = torch.addmv(value, matrix, key, alpha=-alpha)
            matrix.addr_(error, key, beta=alpha)
        return np.asarray(matrix.numpy())


def torch_chunkwise(chunk: int) -> Writer:
    """The WY form in chunks of `chunk` keys; what does not depend on the state is computed for all chunks at once.

    With γ the running product of α in a chunk and Γᵢⱼ = γᵢ/γⱼ: T = (I + strictly lower (Γ ∘ K Kᵀ))⁻¹, U = T V,
    W = T diag(γ) K, then per chunk Δ = U − W Sᵀ and S ← γ_C S + Δᵀ diag(γ_C/γ) K.
    """

    def write(keys: Float32Array, values: Float32Array, alpha: float) -> Float32Array:
        torch = module("torch")
        n, rank = keys.shape
        assert n % chunk == 0, "the peer takes whole chunks"
        with torch.inference_mode():
            k = torch.from_numpy(keys).view(-1, chunk, rank)
            v = torch.from_numpy(values).view(-1, chunk, values.shape[1])
            gamma = torch.cumprod(torch.full((chunk,), alpha), 0)
            unit = torch.eye(chunk).expand(len(k), chunk, chunk)
            lower = torch.tril(torch.bmm(k, k.transpose(1, 2)) * (gamma[:, None] / gamma), -1) + unit
            t = torch.linalg.solve_triangular(lower, unit, upper=False, unitriangular=True)
            u, w = torch.bmm(t, v), torch.bmm(t, gamma[:, None] * k)
            ahead = ((gamma[-1] / gamma)[:, None] * k).transpose(1, 2)
            state, last = torch.zeros(rank, values.shape[1]), float(gamma[-1])
            for i in range(len(k)):
                delta = torch.addmm(u[i], w[i], state, alpha=-1)
                state.addmm_(ahead[i], delta, beta=last)
            return np.asarray(state.t().numpy())

    return write


def writers() -> dict[str, tuple[Writer, int]]:
    """The peers that can run here, and how many pairs of a batch each gets: fewer where it takes one at a time."""
    found: dict[str, tuple[Writer, int]] = {"numpy loop": (numpy_loop, 256)}
    if module("scipy.linalg.blas") is not None:
        found["scipy sgemv/sger"] = (scipy_in_place, 256)
    if module("torch") is not None:
        found["torch mv/addr_"] = (torch_in_place, 256)
        found["torch WY chunk 64"] = (torch_chunkwise(64), 1 << 30)
        found["torch WY chunk 128"] = (torch_chunkwise(128), 1 << 30)
    return found


def check(found: Float32Array, expected: Float32Array, name: str) -> None:
    """A peer that computes something else is no peer."""
    distance = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    if not distance < 1e-3:
        raise AssertionError(f"{name} does not compute the gated delta rule: it is {distance:.1e} away")
