"""How fast a journal is replayed, beside the kernel on the same pairs: for tests and for `emm bench replay`.

Purpose: recovery must cost little more than the arithmetic. Invariants: kernel and replay take turns in one process,
on the same pairs, so their ratio is of one machine in one mood; memory is measured in a process of its own; the
journal is the library's own writer's, only without waiting for the medium.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emm import kernel
from emm.codec.header import payload_bytes
from emm.codec.journal import decode_segment_header
from emm.codec.pairs import PairBatch, encode_pairs
from emm.layout import SEGMENT_HEADER, RecordType
from emm.memory.opening import create
from emm.state import Float32Array, Parameters, empty_state
from emm.storage.journal_writer import JournalWriter
from emm.storage.names import list_memory, segment_name
from emm.storage.recovery import check_chain, recover
from emm.storage.segment_file import SegmentReader
from emm.vfs.handles import LocalAppender
from emm.vfs.local import LocalDirectory

COMMIT_PAIRS = (1, 16, 256)
RATIO_WANTED = 0.7  # of the kernel's own rate
KERNEL_BATCH = 4096
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """One journal: medians over the rounds; rates are pairs a second."""

    commit_pairs: int
    n_pairs: int
    journal_mib: float
    write_rate: float  # kernel.write alone, batches of 4,096
    kernel_rate: float  # kernel.project and kernel.write, on as many threads as the machine gives
    single_rate: float  # the same on one thread: recovery applies on one, while another reads ahead
    replay_rate: float  # recover() of the directory: read, check, decode, project, write
    ratio: float  # median over the rounds of replay_rate ÷ kernel_rate
    ratio_min: float
    ratio_max: float
    single_ratio: float  # median over the rounds of replay_rate ÷ single_rate
    cpu_ratio: float  # the same of processor time, of all threads: what other programs disturb less
    kernel_us: float  # processor time of a pair: project and write
    reading_us: float  # of reading, checksums and chain values alone
    replay_us: float  # of all of recovery
    rss_mib: float  # what recovery added to the resident memory of a fresh process, at its peak
    state_mib: float  # of which the state, once for the snapshot and once for the copy moved forward


class UnsyncedDirectory(LocalDirectory):
    """A local directory whose appenders do not wait for the medium: to make a journal, never to keep one."""

    def open_append(self, name: str) -> LocalAppender:
        appender = super().open_append(name)
        appender.sync = lambda: None  # type: ignore[method-assign]
        return appender


def chunks(parameters: Parameters, n_pairs: int, seed: int) -> Iterator[tuple[Float32Array, Float32Array]]:
    """Pairs with keys of norm about 1, at most 4,096 at a time: (n, key_dim), (n, dim)."""
    random = np.random.default_rng([seed, parameters.key_dim])
    for start in range(0, n_pairs, _CHUNK):
        n = min(_CHUNK, n_pairs - start)
        keys = random.standard_normal((n, parameters.key_dim), np.float32) / np.float32(parameters.key_dim**0.5)
        yield keys, random.standard_normal((n, parameters.dim), np.float32)


def make_journal(path: Path, parameters: Parameters, n_pairs: int, commit_pairs: int, seed: int = 0) -> int:
    """A memory directory whose journal holds the pairs and whose snapshot none of them; bytes of the journal."""
    create(
        path, dim=parameters.dim, rank=parameters.rank, key_dim=parameters.key_dim, ridge=parameters.ridge, expand_at=0
    ).close()
    directory = UnsyncedDirectory(path)
    lock = directory.lock()
    recovered = recover(directory)
    writer = JournalWriter(directory, recovered, recovered.snapshot.uuid, bytes(16))
    for keys, values in chunks(parameters, n_pairs, seed):
        ones = np.ones(len(keys), np.float32)
        whole = PairBatch(parameters.rank, keys, values, ones, ones)
        for start in range(0, len(keys), commit_pairs):
            part = whole.rows(slice(start, start + commit_pairs))
            payload = encode_pairs(RecordType.WRITE, part)
            writer.append([(RecordType.WRITE, payload)], rank=parameters.rank, n_pairs=len(part), surprise=0.0)
    written = writer.logged_bytes
    writer.close()
    lock.release()
    directory.close()
    return written


@dataclass(frozen=True, slots=True)
class Taken:
    """What something took: seconds on the clock and of the processor."""

    wall_s: float
    cpu_s: float
    write_s: float = 0.0  # of which kernel.write


def run_kernel(parameters: Parameters, n_pairs: int, seed: int = 0) -> Taken:
    """kernel.project and kernel.write for the pairs of the journal; making them is not counted."""
    state = empty_state(parameters)
    wall_s = cpu_s = write_s = 0.0
    for keys, values in chunks(parameters, n_pairs, seed):
        began, cpu_began = time.perf_counter(), time.process_time()
        x = kernel.project(keys, parameters)
        projected = time.perf_counter()
        kernel.write(state, x, values)
        ended = time.perf_counter()
        cpu_s += time.process_time() - cpu_began
        wall_s += ended - began
        write_s += ended - projected
    return Taken(wall_s, cpu_s, write_s)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """The kernel keeps to one thread meanwhile."""
    before = kernel.threads()
    kernel.use_threads(1)
    try:
        yield
    finally:
        kernel.use_threads(before)


def run_replay(path: Path) -> Taken:
    """Recovery of a directory."""
    directory = LocalDirectory(path)
    began, cpu_began = time.perf_counter(), time.process_time()
    recover(directory)
    return Taken(time.perf_counter() - began, time.process_time() - cpu_began)


def run_reading(path: Path) -> Taken:
    """What recovery does beside decoding and arithmetic: reading records, their checksums, the chain values."""
    directory = LocalDirectory(path)
    began, cpu_began = time.perf_counter(), time.process_time()
    uuid = decode_segment_header(directory.read_at(segment_name(1), 0, SEGMENT_HEADER.size)).uuid
    for number in list_memory(directory).segments:
        reader = SegmentReader(directory, number, uuid)
        chain = reader.header.chain
        for logged in reader.commits():
            check_chain(chain, logged)
            chain = logged.commit.chain
    return Taken(time.perf_counter() - began, time.process_time() - cpu_began)


def _added_rss_mib(path: str) -> float:
    """In a process of its own: what the peak of resident memory rises by while a directory is recovered."""
    kernel.level()  # the kernel is loaded before, as are the modules
    before = _peak_rss_kib()
    recover(LocalDirectory(path))
    return (_peak_rss_kib() - before) / 1024


def _peak_rss_kib() -> int:
    """VmHWM: unlike getrusage's figure it is not inherited from the parent."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def added_rss_mib(path: Path) -> float:
    """MiB that recovering a directory adds to a process of its own, at its peak."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_added_rss_mib, str(path)).result()


def measure_replay(
    dim: int,
    key_dim: int,
    rank: int,
    n_pairs: int,
    commit_pairs: int,
    *,
    rounds: int = 3,
    folder: Path | None = None,
    seed: int = 0,
) -> ReplayRow:
    """One row of the table. The journal is made below `folder` (the system's place for such) and removed."""
    parameters = Parameters(dim, key_dim, rank)
    with tempfile.TemporaryDirectory(dir=folder, prefix="emm-replay-") as scratch:
        path = Path(scratch) / "memory"
        journal_bytes = make_journal(path, parameters, n_pairs, commit_pairs, seed)
        run_kernel(parameters, min(n_pairs, KERNEL_BATCH), seed)  # the first call chooses the backend
        kernels, singles, replays, readings = [], [], [], []
        for _ in range(rounds):
            kernels.append(run_kernel(parameters, n_pairs, seed))
            with one_thread():
                singles.append(run_kernel(parameters, n_pairs, seed))
            replays.append(run_replay(path))
            readings.append(run_reading(path))

        def us(taken: list[Taken]) -> float:
            return 1e6 * statistics.median(each.cpu_s for each in taken) / n_pairs

        ratios = [one.wall_s / other.wall_s for one, other in zip(kernels, replays, strict=True)]
        single_ratios = [one.wall_s / other.wall_s for one, other in zip(singles, replays, strict=True)]
        cpu_ratios = [one.cpu_s / other.cpu_s for one, other in zip(kernels, replays, strict=True)]
        return ReplayRow(
            commit_pairs,
            n_pairs,
            journal_bytes / 2**20,
            n_pairs / statistics.median(each.write_s for each in kernels),
            n_pairs / statistics.median(each.wall_s for each in kernels),
            n_pairs / statistics.median(each.wall_s for each in singles),
            n_pairs / statistics.median(each.wall_s for each in replays),
            statistics.median(ratios),
            min(ratios),
            max(ratios),
            statistics.median(single_ratios),
            statistics.median(cpu_ratios),
            us(kernels),
            us(readings),
            us(replays),
            added_rss_mib(path),
            2 * payload_bytes(parameters) / 2**20,
        )
