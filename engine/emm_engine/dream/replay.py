"""Replay for memories of the gated delta rule: most surprising first, with a gate that anneals.

Purpose: one pass of the delta rule leaves the pairs it wrote first disturbed by those it wrote last. Writing again
what the memory now gets most wrong repairs that; a gate that shrinks from pass to pass lets it settle, where β = 1
only trades one error for another. Invariants: deterministic; each pass is one commit, so a replay that was killed
goes on at the next pass; only pairs that are kept are ever written.
Source: prioritised replay (Moore & Atkeson 1993), Kaczmarz's method with relaxation; `emm bench dream` measures it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

import emm
from emm_engine.embeddings.provider import Float32Array

PASS_SHARE: Final = 8  # a pass writes the most surprising 1/8 of the pairs
PASS_PAIRS_MAX: Final = 8192  # in one commit
GATE_MIN: Final = 2.0**-10
_ROWS: Final = 4096  # recalled together


def pass_size(n_pairs: int) -> int:
    """Pairs written again in one pass."""
    return min(max(1, n_pairs // PASS_SHARE), PASS_PAIRS_MAX)


def gate_of(number: int) -> float:
    """β of pass `number`, counted from 0: 1, 2/3, 1/2, 2/5, …"""
    return max(1.0 / (1.0 + number / 2.0), GATE_MIN)


def surprises(memory: emm.Memory, keys: Float32Array, values: Float32Array) -> Float32Array:
    """(n,) ‖v − M φ(k)‖ of (n, key_dim) keys and (n, dim) values."""
    found = np.empty(len(keys), np.float32)
    for low in range(0, len(keys), _ROWS):
        part = slice(low, low + _ROWS)
        found[part] = np.linalg.norm(values[part] - memory.recall(keys[part]), axis=1)
    return found


def replay_pass(
    memory: emm.Memory,
    keys: Float32Array,  # (n, key_dim) of every kept pair
    values: Float32Array,  # (n, dim)
    count: int,
    gate: float,
) -> int:
    """Write the `count` most surprising pairs again, as one commit; returns how many."""
    order = np.argsort(-surprises(memory, keys, values), kind="stable")[:count]
    memory.write(np.ascontiguousarray(keys[order]), np.ascontiguousarray(values[order]), write_gate=gate)
    return len(order)


def replay(
    memory: emm.Memory,
    keys: Float32Array,
    values: Float32Array,
    budget: int,
    gate: Callable[[int], float] = gate_of,
) -> int:
    """`budget` extra writes, pass after pass; returns how many were made."""
    done, number = 0, 0
    while done < budget and len(keys):
        done += replay_pass(memory, keys, values, min(pass_size(len(keys)), budget - done), gate(number))
        number += 1
    return done
