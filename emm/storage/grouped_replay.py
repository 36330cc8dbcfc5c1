"""Replay plain writes many commits at a time, while the caller reads on.

Purpose: recovery at the pace of the batch kernel, whatever the size of the commits. A kernel call for every small
commit costs several times the arithmetic; and reading, checksums and chain values need no part of the state, so they
run beside the kernel. Invariants: the bits are those of one commit after another, because batching must not change a
bit (spec A-5) and the kernel refuses a batch whole or not at all; a group that is refused is gone through again commit
by commit, so the error is that of the first commit that cannot be applied; at most two groups are in memory; between
`apply` and `settle` nobody else touches the replayer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from emm.codec.pairs import decode_writes
from emm.errors import FormatError, InputError
from emm.layout import RecordType
from emm.storage.replay import Replayer
from emm.storage.segment_file import LoggedCommit

GROUP_BYTES = 4 << 20  # of journal in one kernel call; 680 pairs of 768 + 768 numbers
ALONE_BYTES = 512 << 10  # a commit from which joining costs more than a kernel call of its own


class GroupedReplay:
    """Moves a `Replayer` forward; a context manager, because a thread may work for it."""

    def __init__(self, replayer: Replayer) -> None:
        self.replayer = replayer
        self._group: list[LoggedCommit] = []
        self._group_bytes = 0
        self._worker: ThreadPoolExecutor | None = None  # started for the first group that is full
        self._running: Future[None] | None = None

    def apply(self, commit: LoggedCommit) -> None:
        """Apply one commit, now or with others; raises what an earlier commit of a group raises."""
        size = commit.end - commit.offset
        if size >= GROUP_BYTES or any(record.type is not RecordType.WRITE for record in commit.records):
            self.settle()
            self.replayer.apply(commit)
            return
        self._group.append(commit)
        self._group_bytes += size
        if self._group_bytes >= GROUP_BYTES:
            self._start()

    def settle(self) -> None:
        """Return when every commit given so far has been applied. Raises as `Replayer.apply`, for the first of them."""
        self._wait()
        group, self._group, self._group_bytes = self._group, [], 0
        apply_group(self.replayer, group)

    def _start(self) -> None:
        self._wait()
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="emm-replay")
        group, self._group, self._group_bytes = self._group, [], 0
        self._running = self._worker.submit(apply_group, self.replayer, group)

    def _wait(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            try:
                running.result()
            except BaseException:  # what follows the commit that failed is not applied, nor may its error be seen
                self._group, self._group_bytes = [], 0
                raise

    def __enter__(self) -> GroupedReplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker is not None:
            self._worker.shutdown(wait=True)


def apply_group(replayer: Replayer, group: Sequence[LoggedCommit]) -> None:
    """Apply commits that hold writes only, the small ones in one kernel call where they can be."""
    for alone, run in itertools.groupby(group, key=lambda commit: commit.end - commit.offset >= ALONE_BYTES):
        commits = list(run)
        if alone or not _apply_joined(replayer, commits):
            for commit in commits:
                replayer.apply(commit)


def _apply_joined(replayer: Replayer, commits: Sequence[LoggedCommit]) -> bool:
    """True when all of them were applied by one call; else nothing has changed."""
    parameters = replayer.state.parameters
    records = [record for commit in commits for record in commit.records]
    if not records:  # a re-solve leaves out pairs that were taken out again
        return True
    try:
        batch = decode_writes(records, parameters.key_dim, parameters.dim)
        if batch is None:
            return False
        replayer.apply_pairs(RecordType.WRITE, batch)
    except (FormatError, InputError):  # which commit it was is found one by one
        return False
    return True
