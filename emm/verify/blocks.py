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

from emm.codec.integrity import BlockEntry, check_block
from emm.errors import EmmError, FormatError, MissingError, StorageError, TruncatedError
from emm.layout import BLOCK_BYTES
from emm.vfs.protocol import Directory

BATCH_BLOCKS: Final = 16
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
        errors: dict[int, EmmError] = {}
        try:
            blocks: Sequence[bytes | memoryview | None] = self._together(indices)
        except MissingError:
            raise
        except (StorageError, TruncatedError):
            blocks = self._one_by_one(indices, errors)
        bad = []
        for index, block in zip(indices, blocks, strict=True):
            if block is None:
                bad.append(BadBlock(index, errors[index], None))
                continue
            try:
                self.judge(block, self.table[index], index, self.payload_offset + index * BLOCK_BYTES)
            except FormatError as error:
                bad.append(BadBlock(index, error, bytes(block)))
        return Batch(len(indices) - len(errors), tuple(bad))

    def _together(self, indices: Sequence[int]) -> list[bytes | memoryview]:
        """All of them in one call; neighbours in one read, because a new buffer for each costs as much as its hash."""
        ranges: list[tuple[int, int]] = []
        for index in indices:
            offset = self.payload_offset + index * BLOCK_BYTES
            if ranges and sum(ranges[-1]) == offset:
                ranges[-1] = ranges[-1][0], ranges[-1][1] + BLOCK_BYTES
            else:
                ranges.append((offset, BLOCK_BYTES))
        found = [memoryview(run) for run in self.directory.read_ranges(self.name, ranges)]
        return [run[start : start + BLOCK_BYTES] for run in found for start in range(0, len(run), BLOCK_BYTES)]

    def _one_by_one(self, indices: Sequence[int], errors: dict[int, EmmError]) -> list[bytes | memoryview | None]:
        blocks: list[bytes | memoryview | None] = []
        for index in indices:
            try:
                blocks.append(self.directory.read_at(self.name, self.payload_offset + index * BLOCK_BYTES, BLOCK_BYTES))
            except MissingError:
                raise
            except StorageError as error:
                errors[index] = error
                blocks.append(None)
        return blocks
