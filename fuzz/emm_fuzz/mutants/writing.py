"""Bugs in writing: proofs too early or missing, a wrong order, locks not held, arithmetic that replay gets wrong.

Purpose: the mutants of the journal writer, the session, checkpoints, opening and replay.
"""

from __future__ import annotations

from typing import Final

from emm_fuzz.damage import flip
from emm_fuzz.mutants.killers import contract, damaged, explored, overtaken
from emm_fuzz.mutants.planting import Mutant, Patch

PUBLISH: Final = "emm.vfs.local:LocalDirectory.publish"
CREATE: Final = "emm.vfs.local:LocalDirectory.create"
LOG: Final = "emm.storage.journal_writer:JournalWriter.append"
SEAL: Final = "emm.storage.journal_writer:JournalWriter.seal"
SNAPSHOT: Final = "emm.storage.session:Session._publish"
COMMIT: Final = "emm.storage.session:Session._commit"
PRUNE: Final = "emm.storage.checkpoint:prune"
OPEN: Final = "emm.memory.opening:open"
RELOG: Final = "emm.storage.journal_writer:JournalWriter._log_again"
WAL1: Final = "0000000000000001.wal"
EMM1: Final = "0000000000000001.emm"
EMM2: Final = "0000000000000002.emm"

PROOFS: Final = (
    Mutant(
        "synced-through-too-high",
        "A record claims to be durable while it is being written.",
        (
            Patch(
                LOG, "encode_record(kind, lsn, self._synced_through, payload", "encode_record(kind, lsn, lsn, payload"
            ),
        ),
        explored("write-large"),
    ),
    Mutant(
        "synced-through-too-low",
        "No record proves the ones before it; damage among them looks like a torn tail.",
        (Patch(LOG, "encode_record(kind, lsn, self._synced_through, payload", "encode_record(kind, lsn, 0, payload"),),
        damaged("write", "write", "write", by=flip(WAL1, 200), must_refuse=True),
    ),
    Mutant(
        "mark-missing",
        "After an idle second nothing proves the last commit.",
        (
            Patch(
                "emm.storage.journal_writer:JournalWriter._mark_if_idle",
                'self._write(encode_record(RecordType.MARK, self.lsn, self.lsn, b"", self._uuid))',
                "pass",
            ),
        ),
        damaged("write", "mark", by=flip(WAL1, 200), must_refuse=True),
    ),
    Mutant(
        "mark-too-early",
        "The mark goes out together with the commit that it proves.",
        (
            Patch(
                LOG,
                "if self._appender is None:",
                'data += encode_record(RecordType.MARK, lsn, lsn, b"", self._uuid)\nif self._appender is None:',
            ),
        ),
        explored("write-large"),
    ),
    Mutant(
        "no-mark-after-logging-again",
        "What a take-over made durable is not proven; damage to it looks like a torn tail.",
        (
            Patch(
                "emm.storage.journal_writer:JournalWriter._again",
                'yield encode_record(RecordType.MARK, lsn, lsn, b"", self._uuid)',
                "pass",
            ),
        ),
        damaged("write", "kill", by=flip("0000000000000002.wal", 200), must_refuse=True),
    ),
    Mutant(
        "seal-missing",
        "A segment ends without its seal.",
        (Patch(SEAL, 'self._write(encode_record(RecordType.SEAL, self.lsn, self.lsn, b"", self._uuid))', "pass"),),
        explored("write", "close"),
    ),
    Mutant(
        "seal-too-early",
        "The seal goes out with a commit that is not durable yet.",
        (
            Patch(
                LOG,
                "if self._appender is None:",
                'data += encode_record(RecordType.SEAL, lsn, lsn, b"", self._uuid)\nif self._appender is None:',
            ),
        ),
        explored("write-large"),
    ),
    Mutant(
        "sealed-after-the-snapshot",
        "The snapshot that ends a segment is published before the segment's seal.",
        (
            Patch(SNAPSHOT, "writer.seal()", "pass"),
            Patch(SNAPSHOT, "self.snapshot = snapshot", "self.snapshot = snapshot\nwriter.seal()"),
        ),
        explored("write", "checkpoint"),
    ),
    Mutant(
        "logged-again-from-the-wrong-place",
        "A take-over states as first LSN what follows the commits it logs again.",
        (Patch(RELOG, "recovered.proven_lsn + 1)", "recovered.lsn + 1)"),),
        explored("write"),
    ),
)

ORDER: Final = (
    Mutant(
        "pruned-before-the-newer-is-durable",
        "Older snapshots go first, then the new one is published.",
        (
            Patch(
                SNAPSHOT,
                "self._snapshot_sha256 = publish_snapshot",
                "for each in [n for n in self.directory.list() if n.endswith('.emm')]:\n"
                "    self.directory.remove(each)\n"
                "self._snapshot_sha256 = publish_snapshot",
            ),
        ),
        explored("write", "checkpoint"),
    ),
    Mutant(
        "pruned-out-of-order",
        "Newer files are removed before older ones.",
        (Patch(PRUNE, "for name in names:", "for name in reversed(names):"),),
        explored("write", "checkpoint", "write", "checkpoint", "prune"),
    ),
    Mutant(
        "pruned-segments-that-are-needed",
        "Off by one: the segment that the kept snapshot is followed by goes as well.",
        (Patch(PRUNE, "if segment < needed]", "if segment <= needed]"),),
        explored("write", "checkpoint", "write", "prune-journal"),
    ),
    Mutant(
        "applied-after-the-log",
        "A write is logged before the kernel has accepted it; what it refuses cannot be replayed.",
        (
            Patch(COMMIT, "surprise = apply()", "surprise = None"),
            Patch(COMMIT, "surprise=mean)", "surprise=mean)\nsurprise = apply()"),
        ),
        explored("write", "refused"),
    ),
    Mutant(
        "expansion-not-journalled",
        "The rank doubles in memory only.",
        (
            Patch(
                "emm.storage.session:Session.expand_bare",
                "return self._commit([(RecordType.EXPAND, encode_expand(rank))], 0, lambda: ",
                "return self.lsn + 0 * bool(",
            ),
        ),
        explored("write", "bare"),
    ),
    Mutant(
        "resolved-as-a-checkpoint",
        "A re-solved state claims to follow from the journal before it.",
        (
            Patch(
                "emm.storage.session:Session.install_resolved",
                "self._publish(Origin.RESOLVE, resolved)",
                "self._publish(Origin.CHECKPOINT, resolved)",
            ),
        ),
        damaged("write", "resolve", by=flip(EMM2, 4100), must_refuse=True),
    ),
)

LOCKS: Final = (
    Mutant(
        "flock-not-taken",
        "Two writers at once.",
        (Patch("emm.vfs.local:LocalDirectory.lock", "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"),),
        explored("second"),
    ),
    Mutant(
        "flock-released-early",
        "The lock guards the opening and not the writing.",
        (
            Patch(
                OPEN,
                "recovered = recover(directory, state_bytes_max=state_bytes_max)",
                "recovered = recover(directory, state_bytes_max=state_bytes_max)\nlock.release()",
            ),
        ),
        explored("reopen", "second"),
    ),
    Mutant(
        "flock-taken-too-late",
        "A writer reads the memory before it has the lock, and goes on from what another one has left behind.",
        (
            Patch(
                OPEN,
                "lock = directory.lock()\n            directory.sweep()\n"
                "            recovered = recover(directory, state_bytes_max=state_bytes_max)",
                "recovered = recover(directory, state_bytes_max=state_bytes_max)\n"
                "lock = directory.lock()\ndirectory.sweep()",
            ),
        ),
        overtaken(),
    ),
    Mutant(
        "publish-overwrites",
        "A name that is taken is taken away.",
        (Patch(PUBLISH, "self._refuse_taken(name, file, directory)", "self._unlink_quietly(name, directory)"),),
        contract("test_publish_never_overwrites"),
    ),
    Mutant(
        "append-to-anybodys-segment",
        "Whoever finds a segment may grow it.",
        (
            Patch(
                "emm.vfs.local:LocalDirectory.open_append",
                "if owned is None:",
                "if owned is None:\n"
                "    from emm.vfs.handles import OwnedFile\n"
                "    with self._open_regular(name) as (fd, size):\n"
                "        status = os.fstat(fd)\n"
                "        owned = OwnedFile(status.st_dev, status.st_ino, size)\n"
                "if owned is None:",
            ),
        ),
        contract("test_only_the_creator_appends"),
    ),
    Mutant(
        "create-over-a-memory",
        "Creating succeeds where something lies.",
        (Patch(CREATE, "if any(not is_temporary(name) for name in os.listdir(fd)):", "if False:"),),
        contract("test_create_refuses_what_is_not_empty"),
    ),
    Mutant(
        "append-on-unverified-blocks",
        "A writer starts from a flipped bit and publishes it under fresh checksums.",
        (
            Patch(
                OPEN,
                "recovered = recover(directory, state_bytes_max=state_bytes_max)",
                "recovered = recover(directory, verify=False, state_bytes_max=state_bytes_max)",
            ),
        ),
        damaged("write", by=flip(EMM1, 4099, 6)),  # 0 becomes 2, so that no rounding hides it
    ),
)

REPLAY: Final = (
    Mutant(
        "unlearned-at-the-wrong-rank",
        "A pair from before an expansion is taken out as if it had been written after it.",
        (
            Patch(
                "emm.storage.replay:Replayer.apply_pairs",
                "written = rank if self._resolving else batch.rank",
                "written = rank",
            ),
        ),
        explored("write", "bare", "unlearn"),
    ),
    Mutant(
        "decay-lost",
        "Writes are applied without their decay gates.",
        (
            Patch(
                "emm.storage.replay:Replayer.apply_pairs",
                "batch.values, batch.decay_gates, batch.write_gates)",
                "batch.values, 0 * batch.decay_gates + 1, batch.write_gates)",
            ),
        ),
        explored("write", "decay"),
    ),
    Mutant(
        "expansion-skipped-in-replay",
        "Recovery does not raise the rank.",
        (Patch("emm.storage.replay:Replayer.apply_record", "if not self._resolving:", "if False:"),),
        explored("write", "bare"),
    ),
    Mutant(
        "chain-restarts-with-each-segment",
        "The chain value is not carried from one segment to the next.",
        (
            Patch(
                "emm.storage.journal_writer:JournalWriter.seal",
                "self._marked = True",
                "self._marked = True\nself.chain = bytes(32)",
            ),
        ),
        explored("write", "checkpoint", "write"),
    ),
)

WRITING: Final = (*PROOFS, *ORDER, *LOCKS, *REPLAY)
