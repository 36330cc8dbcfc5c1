"""Arithmetic vectors: inputs, and the bytes of M, P̄, U and GainScalars after 1, 2, 17 and 1,000 writes.

Purpose: let an implementer check section 7 without a file. Invariants: inputs are SplitMix64 numbers and short lists of
gates, written down in arithmetic.json; what the library computes is committed, and tests hold every backend of the
library and the rational twin (`spec/twin.py`) to it. A number in JSON is the exact value of a binary32 number.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np

from emm import kernel
from emm.codec.payload import encode_scalars, state_digest
from emm.layout import Rule
from emm.state import MatrixState, Parameters, empty_state

from .stream import Numbers

AFTER = (1, 2, 17, 1000)
HEX_AFTER = 2  # up to this many writes the bytes themselves are given, not only their SHA-256
DIM, KEY_DIM, RANK, SEED = 3, 24, 16, 7


def f32(number: float) -> float:
    return float(np.float32(number))


GATES: dict[str, tuple[list[float], list[float]]] = {  # name → (decay gates, write gates), used in turn
    "plain": ([1.0], [1.0]),
    "decay": ([f32(0.999), 1.0, f32(0.7)], [1.0]),
    "mixed": ([1.0, 0.75, 1.0, 1.0, f32(0.9)], [1.0, f32(0.3), 0.0625, f32(2.0**-10), 0.5]),
    "strong": ([1.0, 1.0, f32(0.99)], [32.0, 1.0, f32(7.3)]),
}

# p·q + r: ties, the two sides of a tie, cancellation, subnormal results and signed zeros.
FMA: tuple[tuple[float, float, float], ...] = (
    (1 + 2.0**-12, 1 + 2.0**-12, 0.0),
    (1 + 2.0**-12, 1 + 2.0**-12, 2.0**-80),
    (1 + 2.0**-12, 1 + 2.0**-12, -(2.0**-80)),
    (1 + 2.0**-23, 1.0, 2.0**-24),
    (1 + 2.0**-22, 1.0, 2.0**-24),
    (1.0, 1.0, 2.0**-24),
    (1.0, 1.0, 2.0**-24 + 2.0**-47),
    (-1.0, 1 + 2.0**-23, 1.0),
    (1 + 2.0**-23, 1 - 2.0**-24, -1.0),
    (2.0**-75, 2.0**-75, 0.0),
    (1.5 * 2.0**-75, 2.0**-75, 0.0),
    (2.0**-75, 2.0**-75, 2.0**-149),
    (2.0**-75, -(2.0**-75), -(2.0**-148)),
    (2.0**-100, -(2.0**-100), 0.0),
    (1.0, -0.0, -0.0),
    (1.0, -0.0, 0.0),
    (1.0, -1.0, 1.0),
    (2.0**20 + 1, 2.0**20 - 1, -(2.0**40)),
)
PHI = ((16, 16, 0x454D4D34), (24, 16, 7), (100, 96, (1 << 64) - 1), (64, 48, 1), (17, 16, 3))


def vectors() -> dict[str, Any]:
    """The whole of arithmetic.json."""
    return {
        "about": __doc__,
        "numbers": "number k of a seed: ((word k of SplitMix64 (A-6) >> 40) - 2^23) / 2^23, counting from 0",
        "inputs": "pair i of a run: the next key_dim numbers are its key, the next dim its value; gates in turn",
        "runs": [
            run(rule, gates) for rule in Rule for gates in GATES if gates != "strong" or rule is not Rule.GATED_DELTA
        ],
        "operations": operations(),
        "phi": [phi(*shape) for shape in PHI],
        "fma": [{"p": p, "q": q, "r": r, "result": fma(p, q, r)} for p, q, r in FMA],
    }


def parameters_of(entry: dict[str, Any]) -> Parameters:
    return Parameters(
        entry["dim"],
        entry["key_dim"],
        entry["rank"],
        Rule(entry["rule"]),
        seed=entry["projection_seed"],
        ridge=entry["ridge"],
    )


def shape(rule: Rule, ridge: float) -> dict[str, Any]:
    return {"rule": int(rule), "dim": DIM, "key_dim": KEY_DIM, "rank": RANK, "projection_seed": SEED, "ridge": ridge}


def pairs(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(keys, values) of the first n pairs of a run."""
    rows = Numbers(seed).rows(n, KEY_DIM + DIM)
    return np.ascontiguousarray(rows[:, :KEY_DIM]), np.ascontiguousarray(rows[:, KEY_DIM:])


def gates(name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    decay, write = GATES[name]
    return np.resize(np.array(decay, np.float32), n), np.resize(np.array(write, np.float32), n)


def run(rule: Rule, gate_mix: str) -> dict[str, Any]:
    """One run of 1,000 writes."""
    ridge = f32(0.3) if gate_mix in ("mixed", "strong") else 2.0**-6
    entry = {"name": f"{rule.name.lower()}-{gate_mix}", **shape(rule, ridge), "seed": 100 + 10 * rule + len(gate_mix)}
    entry["decay_gates"], entry["write_gates"] = GATES[gate_mix]
    parameters = parameters_of(entry)
    keys, values = pairs(entry["seed"], AFTER[-1])
    decay, write = gates(gate_mix, AFTER[-1])
    state, done, after = empty_state(parameters), 0, {}
    x = kernel.project(keys, parameters)
    for n in AFTER:
        kernel.write(state, x[done:n], values[done:n], decay[done:n], write[done:n])
        done = n
        after[str(n)] = described(state, n, with_bytes=n <= HEX_AFTER)
    return entry | {"after": after}


def operations() -> list[dict[str, Any]]:
    """Unlearn, forget and expand after five writes with λ = 1, and all of them one after another."""
    found = []
    for rule in Rule:
        for name in ("unlearn", "forget", "expand", "all"):
            if rule is not Rule.PRECONDITIONED and name in ("unlearn", "all"):
                continue
            entry = {
                "name": f"{rule.name.lower()}-{name}",
                "operation": name,
                **shape(rule, 1.0),
                "seed": 500 + rule,
                "writes": 5,
            }
            entry["unlearned"] = [4, 1] if name in ("unlearn", "all") else []
            entry["forgotten"] = [[2, 0, 2]] if name in ("forget", "all") else []
            entry["key_dim"], entry["expanded_to"] = 40, 32 if name in ("expand", "all") else None
            found.append(entry | {"after": described(operated(entry), 0, with_bytes=True)})
    return found


def operated(entry: dict[str, Any]) -> MatrixState:
    """The state after the writes, unlearns, forgets, the expansion and one more write (of pair 0) of an entry."""
    parameters = parameters_of(entry)
    rows = Numbers(entry["seed"]).rows(entry["writes"], entry["key_dim"] + entry["dim"])
    keys, values = rows[:, : entry["key_dim"]].copy(), rows[:, entry["key_dim"] :].copy()
    state, x = empty_state(parameters), kernel.project(keys, parameters)
    kernel.write(state, x, values)
    for index in entry["unlearned"]:
        kernel.unlearn(state, x[index], values[index])
    for batch in entry["forgotten"]:
        kernel.forget(state, x[batch])
    if entry["expanded_to"]:
        state = kernel.expand(state, entry["expanded_to"])
    kernel.write(state, kernel.project(keys[:1], state.parameters), values[:1])
    return state


def described(state: MatrixState, lsn: int, *, with_bytes: bool) -> dict[str, Any]:
    parts = {"M": state.matrix.tobytes()}
    if state.gain is not None:
        parts |= {"P": state.gain.pbar.tobytes(), "U": state.gain.u.tobytes(), "scalars": encode_scalars(state.gain)}
    found: dict[str, Any] = {"digest": state_digest(state, lsn).hex(), "lsn": lsn}
    for name, data in parts.items():
        found[name] = {"sha256": hashlib.sha256(data).hexdigest()}
        if name == "scalars" or (with_bytes and name == "M"):
            found[name]["hex"] = data.hex()
    return found


def phi(key_dim: int, rank: int, seed: int) -> dict[str, Any]:
    key = Numbers(key_dim).rows(1, key_dim)
    x = kernel.project(key, Parameters(1, key_dim, rank, seed=seed))
    return {"key_dim": key_dim, "rank": rank, "projection_seed": seed, "seed": key_dim, "x": x.tobytes().hex()}


def fma(p: float, q: float, r: float) -> str:
    """fma(p, q, r) as little-endian hexadecimal: rule 0 with M = r, v = p, x = (q, 1, 0 …)."""
    parameters = Parameters(1, 16, 16, Rule.OUTER_PRODUCT)
    state = empty_state(parameters)
    state.matrix[0, 0] = r
    x = np.zeros((1, 16), np.float32)
    x[0, :2] = q, 1.0
    kernel.write(state, x, np.full((1, 1), p, np.float32))
    return struct.pack("<f", state.matrix[0, 0]).hex()
