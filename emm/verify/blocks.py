"""Read and judge the blocks of one payload, a megabyte at a time, on one thread or several.

Purpose: the inner loop of checking: each byte is read once and its CRC-32 and SHA-256 are taken while it is in the
cache. Invariants: verdicts come in the order of the blocks whatever the number of threads; at most two batches a
thread are in memory; a batch that cannot be read is read again block by block, so that one bad sector hides nothing
beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from emm.codec.integrity import RUN_BLOCKS, BlockEntry, blocks_in_doubt, check_block
from emm.errors import EmmError, FormatError, MissingError, StorageError, TruncatedError
from emm.layout import BLOCK_BYTES
from emm.vfs.protocol import Directory

BATCH_BLOCKS: Final = RUN_BLOCKS
_THREADED_BLOCKS_MIN: Final = 128  # below 8 MiB a thread costs more than it saves

Judge = Callable[[bytes | memoryview, BlockEntry, int, int], None]


@dataclass(frozen=True, slots=True)
class BadBlock:
    """A block that fails, with its bytes, or that could not be read."""

    index: int
    error: EmmError
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What was seen of a few blocks."""

    n_read: int
    bad: tuple[BadBlock, ...]


@dataclass(frozen=True, slots=True)
class BlockReader:
    """Judges blocks of one file against its table. `MissingError` and `TruncatedError`: the file changed."""

    directory: Directory
    name: str
    table: Sequence[BlockEntry]
    payload_offset: int
    judge: Judge = check_block

    def batches(self, indices: Sequence[int], threads: int) -> Iterator[Batch]:
        """Verdicts on these blocks, in order."""
        parts = [indices[start : start + BATCH_BLOCKS] for start in range(0, len(indices), BATCH_BLOCKS)]
        if threads < 2 or len(indices) < _THREADED_BLOCKS_MIN:
            yield from map(self._batch, parts)
            return
        pool = ThreadPoolExecutor(threads, thread_name_prefix="emm-verify")
        waiting: deque[Future[Batch]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(self._batch, part))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(self, indices: Sequence[int]) -> Batch:
        unreadable: list[BadBlock] = []
        try:
            runs = self._together(indices)
        except MissingError:
            raise
        except (StorageError, TruncatedError):
            runs = self._one_by_one(indices, unreadable)
        bad = [each for first, run in runs for each in self._judged(first, run)]
        bad = sorted(bad + unreadable, key=lambda each: each.index)
        return Batch(len(indices) - len(unreadable), tuple(bad))

    def _judged(self, first: int, run: memoryview) -> Iterator[BadBlock]:
        """The bad ones of the consecutive blocks in `run`, of which the first has this index."""
        entries = self.table[first : first + len(run) // BLOCK_BYTES]
        doubtful = blocks_in_doubt(run, entries) if self.judge is check_block else enumerate(entries)
        for place, entry in doubtful:
            block = run[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES]
            index = first + place
            try:
                self.judge(block, entry, index, self.payload_offset + index * BLOCK_BYTES)
            except FormatError as error:
                yield BadBlock(index, error, bytes(block))

    def _together(self, indices: Sequence[int]) -> list[tuple[int, memoryview]]:
        """All of them in one call; neighbours in one read, because a new buffer for each costs as much as its hash."""
        firsts: list[int] = []
        ranges: list[tuple[int, int]] = []
        for index in indices:
            offset = self.payload_offset + index * BLOCK_BYTES
            if ranges and sum(ranges[-1]) == offset:
                ranges[-1] = ranges[-1][0], ranges[-1][1] + BLOCK_BYTES
            else:
                firsts.append(index)
                ranges.append((offset, BLOCK_BYTES))
        found = self.directory.read_ranges(self.name, ranges)
        return [(first, memoryview(run)) for first, run in zip(firsts, found, strict=True)]

    def _one_by_one(self, indices: Sequence[int], unreadable: list[BadBlock]) -> list[tuple[int, memoryview]]:
        found: list[tuple[int, memoryview]] = []
        for index in indices:
            try:
                data = self.directory.read_at(self.name, self.payload_offset + index * BLOCK_BYTES, BLOCK_BYTES)
            except MissingError:
                raise
            except StorageError as error:
                unreadable.append(BadBlock(index, error, None))
            else:
                found.append((index, memoryview(data)))
        return found
