"""What `emm bench kernel` measures: the kernel against what a user would take instead, in one run, on the same numbers.

Purpose: µs of a write, a query and a key for four shapes, α = 1 and 0.999, one and two threads, with the limits of the
machine beside them. Invariants: kernel and peers take turns, so that a busy moment hits them alike; minimum, median and
quartiles of every figure are stored; a peer that is not installed is missing from the table, never estimated. On a busy
machine the minima are what to compare: a median then times the neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np

from emm import kernel
from emm.layout import Projection, Rule
from emm.state import Float32Array, MatrixState, Parameters, empty_state
from emm.testing.kernel_peers import check, module, writers
from emm.testing.machine import this_machine

SHAPES = ((768, 64), (768, 256), (1024, 512), (1024, 1024))  # dim × rank
PAIRS = 4096
SINGLE_WRITES = 256
QUERIES = 256
REPEATS = 8  # of a call that is over in a fraction of a millisecond: what the task before left in the caches fades
ROUNDS = 7
SETTLE = 0.25  # s: OpenMP keeps the threads of a library spinning for 0.2 s after its last call

Task = tuple[Callable[[], object], int]  # what to time, and how many writes or queries it makes
Figures = dict[str, dict[str, float]]


def timed(tasks: dict[str, Task], rounds: int, settle: float = 0.0) -> Figures:
    """µs for each name: minimum, quartiles, median; the tasks take turns, with `settle` seconds of rest before each.

    With several threads a rest is needed: else each task shares its processors with the spinning threads of the one
    before it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for task, _ in tasks.values():
        task()
    for _ in range(rounds):
        for name, (task, _) in tasks.items():
            time.sleep(settle)
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    found = {}
    for name, (_, count) in tasks.items():
        low, middle, high = np.percentile(seconds[name], [25, 50, 75]) / count * 1e6
        found[name] = {"minimum": min(seconds[name]) / count * 1e6, "q1": low, "median": middle, "q3": high}
    return found


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """`threads` for the kernel, for BLAS and for torch."""
    kernel.use_threads(threads)
    writers()  # loads every library that has threads, so that each is limited
    torch, control = module("torch"), module("threadpoolctl")
    if torch is not None:
        torch.set_num_threads(threads)
    if control is None:
        yield
    else:
        with control.threadpool_limits(threads):
            yield
    kernel.use_threads(None)


def unit_rows(random: np.random.Generator, n: int, columns: int) -> Float32Array:
    rows = random.standard_normal((n, columns)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def state_of(dim: int, rank: int, rule: Rule) -> MatrixState:
    return empty_state(Parameters(dim, rank, rank, rule, Projection.NONE))


def batch_tasks(dim: int, rank: int, alpha: float, random: np.random.Generator) -> dict[str, Task]:
    """A batch of 4,096 pairs."""
    x, values = unit_rows(random, PAIRS, rank), random.standard_normal((PAIRS, dim)).astype(np.float32)

    def write(rule: Rule, n: int = PAIRS) -> Float32Array:
        state = state_of(dim, rank, rule)
        kernel.write(state, x[:n], values[:n], alpha)
        return state.matrix

    tasks: dict[str, Task] = {
        "emm rule 1": (lambda: write(Rule.GATED_DELTA), PAIRS),
        "emm rule 2": (lambda: write(Rule.PRECONDITIONED), PAIRS),
    }
    for name, (peer, most) in writers().items():
        n = min(most, PAIRS)
        check(peer(x[:n], values[:n], alpha), write(Rule.GATED_DELTA, n), name)
        tasks[name] = (lambda peer=peer, n=n: peer(x[:n], values[:n], alpha), n)  # type: ignore[misc]
    product = np.empty((dim, PAIRS), np.float32)
    matrix, columns = random.standard_normal((dim, rank)).astype(np.float32), np.ascontiguousarray(x.T)
    tasks["sgemm of the shape"] = (lambda: np.matmul(matrix, columns, out=product), PAIRS)  # dim·rank multiplications
    return tasks


def single_tasks(dim: int, rank: int, random: np.random.Generator) -> dict[str, Task]:
    """One pair, one query or 256 queries a call."""
    x, values = unit_rows(random, PAIRS, rank), random.standard_normal((SINGLE_WRITES, dim)).astype(np.float32)
    states = {rule: state_of(dim, rank, rule) for rule in (Rule.GATED_DELTA, Rule.PRECONDITIONED)}
    keys = list(x[:SINGLE_WRITES])
    tasks: dict[str, Task] = {}
    for rule, state in states.items():
        kernel.write(state, x, random.standard_normal((PAIRS, dim)).astype(np.float32))
        tasks[f"emm write, rule {int(rule)}"] = (
            lambda state=state: [kernel.write(state, k, v) for k, v in zip(keys, values, strict=True)],  # type: ignore[misc]
            SINGLE_WRITES,
        )
    matrix = np.ascontiguousarray(states[Rule.GATED_DELTA].matrix)

    def numpy_writes() -> None:
        for key, value in zip(keys, values, strict=True):
            matrix[...] += np.outer(value - matrix @ key, key / (key @ key))

    frozen = state_of(dim, rank, Rule.GATED_DELTA)
    frozen.matrix[...] = matrix
    queries = x[:QUERIES]
    tasks["numpy write"] = (numpy_writes, SINGLE_WRITES)
    tasks["emm recall"] = (lambda: [kernel.recall(frozen, key) for key in keys], SINGLE_WRITES)
    tasks["numpy recall"] = (lambda: [frozen.matrix @ key for key in keys], SINGLE_WRITES)
    one = np.float32(1)  # in place: reads and stores every number once, as a write has to
    tasks["numpy in place"] = (lambda: [np.multiply(matrix, one, out=matrix) for _ in keys], SINGLE_WRITES)
    tasks["emm recall, 256"] = (lambda: [kernel.recall(frozen, queries) for _ in range(REPEATS)], QUERIES * REPEATS)
    tasks["numpy recall, 256"] = (lambda: [queries @ frozen.matrix.T for _ in range(REPEATS)], QUERIES * REPEATS)
    torch = module("torch")
    if torch is not None:
        there, many = torch.from_numpy(frozen.matrix), torch.from_numpy(queries)
        tasks["torch recall, 256"] = (lambda: [torch.mm(many, there.t()) for _ in range(REPEATS)], QUERIES * REPEATS)
    return tasks


def small_tasks(random: np.random.Generator) -> dict[str, Task]:
    """Calls so small that they are all overhead, and φ."""
    tasks: dict[str, Task] = {}
    for rule in (Rule.GATED_DELTA, Rule.PRECONDITIONED):
        state = state_of(16, 16, rule)
        key, value = unit_rows(random, 1, 16)[0], unit_rows(random, 1, 16)[0]
        tasks[f"emm write 16×16, rule {int(rule)}"] = (
            lambda state=state, key=key, value=value: [kernel.write(state, key, value) for _ in range(1000)],  # type: ignore[misc]
            1000,
        )
    keys, parameters = unit_rows(random, 1000, 768), Parameters(1, 768, 768)
    tasks["φ 768 → 1024"] = (lambda: kernel.project(keys, parameters), 1000)
    return tasks


def limits(rounds: int) -> dict[str, float]:
    """sgemm GFLOP/s at 2048³ and triad GB/s over 3 × 64 MiB: the best of NumPy and torch."""
    a, b = np.ones((2, 2048, 2048), np.float32)
    vectors = np.ones((3, 1 << 24), np.float32)
    tasks: dict[str, Task] = {"sgemm numpy": (lambda: a @ b, 1)}
    torch = module("torch")
    if torch is not None:
        left, right = torch.from_numpy(a), torch.from_numpy(b)
        tasks["sgemm torch"] = (lambda: left @ right, 1)
        x, y, z = (torch.from_numpy(vector) for vector in vectors)
        tasks["triad torch"] = (lambda: torch.add(y, z, alpha=3.0, out=x), 1)
    else:
        tasks["triad numpy"] = (lambda: np.add(vectors[1], vectors[2], out=vectors[0]), 1)
    found = timed(tasks, rounds)
    best = {
        kind: min(f["minimum"] for name, f in found.items() if name.startswith(kind)) for kind in ("sgemm", "triad")
    }
    return {
        "sgemm_gflops": 2 * 2048**3 / best["sgemm"] / 1e3,
        "triad_gb_s": 3 * vectors[0].nbytes / best["triad"] / 1e3,
    }


def about() -> dict[str, Any]:
    """Where, with which versions and when a run was made."""
    found: dict[str, Any] = asdict(this_machine())
    for package in ("scipy", "torch"):  # not imported: that would count in the memory of whoever asks
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return {**found, "when": datetime.now(UTC).isoformat(timespec="seconds")}


def sections(threads: int, rounds: int) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(0)
    settle = SETTLE if threads > 1 else 0.0
    for dim, rank in SHAPES:
        for alpha in (1.0, 0.999):
            figures = timed(batch_tasks(dim, rank, alpha, random), rounds, settle)
            against = {name: "emm rule 1" for name in figures if name != "emm rule 1"}
            title = f"batch of {PAIRS}, {dim} × {rank}, α = {alpha:g}, threads: {threads}"
            yield {"title": title, "dim": dim, "rank": rank, "alpha": alpha, "figures": figures, "against": against}
        figures = timed(single_tasks(dim, rank, random), rounds, settle)
        against = {name: "emm write, rule 1" for name in figures if name.endswith("write") or name.endswith("rule 2")}
        against |= {name: "emm recall, 256" for name in figures if name.endswith("recall, 256") and "emm" not in name}
        against |= {"numpy recall": "emm recall"}
        title = f"calls from Python, {dim} × {rank}, threads: {threads}"
        yield {"title": title, "dim": dim, "rank": rank, "figures": figures, "against": against}
    figures = timed(small_tasks(random), rounds, settle)
    yield {"title": f"overhead and φ, threads: {threads}", "figures": figures, "against": {}}
