"""Bugs between the page cache and the disk: syncs that are left out, come too early or are taken for granted.

Purpose: the mutants of who makes bytes and names durable. Invariants: most strike at one moment of a memory's life
only (its second segment, a take-over, a large batch), as bugs do that outlive a review.
"""

from __future__ import annotations

from typing import Final

from emm_fuzz.damage import flip
from emm_fuzz.mutants.killers import damaged, explored
from emm_fuzz.mutants.patching import Patch
from emm_fuzz.mutants.planting import Mutant

PUBLISH: Final = "emm.vfs.local:LocalDirectory.publish"
TEMPORARY: Final = "emm.vfs.local:LocalDirectory._write_temporary"
CREATE: Final = "emm.vfs.local:LocalDirectory.create"
REMOVE: Final = "emm.vfs.local:LocalDirectory.remove"
SWEEP: Final = "emm.vfs.local:LocalDirectory.sweep"
WRITER: Final = "emm.storage.journal_writer:JournalWriter"

LATER_SNAPSHOT: Final = "size > 65536 and len(self._owned) > 3"  # the second checkpoint of a session
FIRST_COMMIT: Final = "self._segment_bytes == 128 < len(data) and self.segment_next == 3"
LATER_SEGMENT: Final = "owned.size < 4096 and len(self._owned) > 1"

JOURNAL: Final = (
    Mutant(
        "no-journal-fsync",
        "From the third segment on, a commit is acknowledged from the page cache.",
        (Patch(f"{WRITER}._write", "self._appender.sync()", "pass", when="self.segment_next > 3"),),
        explored("write", "checkpoint", "write", "checkpoint", "write"),
    ),
    Mutant(
        "first-commit-not-synced",
        "The first commit of the second segment is taken for synced with the segment.",
        (Patch(f"{WRITER}._write", "self._appender.sync()", "pass", when=FIRST_COMMIT),),
        explored("write", "checkpoint", "write"),
    ),
    Mutant(
        "small-commit-not-synced",
        "What holds no pairs, an expansion or a threshold, is left to the next sync.",
        (Patch(f"{WRITER}._write", "self._appender.sync()", "pass", when="100 < len(data) < 200"),),
        explored("write", "configure"),
    ),
    Mutant(
        "acknowledge-before-fsync",
        "The last sector of a large batch goes out after the sync.",
        (
            Patch(
                f"{WRITER}._write",
                "self._appender.append(data)\n        self._appender.sync()",
                "self._appender.append(data[:-512])\nself._appender.sync()\nself._appender.append(data[-512:])",
                when="len(data) > 2048 and self.segment_next > 2",
            ),
        ),
        explored("write", "checkpoint", "write-large"),
    ),
    Mutant(
        "seal-not-synced",
        "The seal of a later segment is written and not synced: the segment is at its end anyway.",
        (
            Patch(
                f"{WRITER}.seal",
                'self._write(encode_record(RecordType.SEAL, self.lsn, self.lsn, b"", self._uuid))',
                'seal = encode_record(RecordType.SEAL, self.lsn, self.lsn, b"", self._uuid)\n'
                "with self._poisoning():\n"
                "    self._appender.append(seal)\n"
                "self._segment_bytes += len(seal)",
                when="self.segment_next > 3",
            ),
        ),
        explored("write", "checkpoint", "write", "checkpoint", "write", "checkpoint"),
    ),
)

FILES: Final = (
    Mutant(
        "published-file-not-synced",
        "The name of a snapshot is durable and its bytes are not, from the second checkpoint on.",
        (Patch(TEMPORARY, "os.fsync(fd)", "pass", when=LATER_SNAPSHOT),),
        explored("write", "checkpoint", "write", "checkpoint"),
    ),
    Mutant(
        "segment-header-not-synced",
        "A new segment is small and the first commit is synced anyway, so its header is not.",
        (Patch(TEMPORARY, "os.fsync(fd)", "pass", when="size == 128 and len(self._owned) > 1"),),
        explored("write", "checkpoint", "write"),
    ),
    Mutant(
        "last-chunk-after-the-sync",
        "A later file is synced before its last piece, the mirror, has been written.",
        (
            Patch(
                TEMPORARY,
                "for chunk in chunks:\n            size += write_all(fd, chunk)\n        os.fsync(fd)",
                "for chunk in chunks:\n    os.fsync(fd)\n    size += write_all(fd, chunk)",
                when="len(self._owned) > 3",
            ),
        ),
        explored("write", "checkpoint", "write", "checkpoint"),
    ),
    Mutant(
        "published-before-sync",
        "The name of a later snapshot is linked first, the bytes are synced after.",
        (
            Patch(TEMPORARY, "os.fsync(fd)", "pass", when=LATER_SNAPSHOT),
            Patch(
                PUBLISH,
                "os.fsync(directory)",
                "late = os.open(name, _READ_FLAGS, dir_fd=directory)\n"
                "os.fsync(late)\n"
                "os.close(late)\n"
                "os.fsync(directory)",
                when=f"owned.{LATER_SNAPSHOT}",
            ),
        ),
        explored("write", "checkpoint", "write", "checkpoint"),
    ),
    Mutant(
        "previous-segment-not-synced",
        "Found by this harness: a successor states how long a segment is that its predecessor did not live to sync.",
        (
            Patch(
                f"{WRITER}.__init__",
                "directory.sync(segment_name(recovered.segment_next - 1))",
                "pass",
                when="recovered.segment_next > 2",
            ),
        ),
        explored("write", "checkpoint", "write-large"),
    ),
    Mutant(
        "recovery-trusts-the-page-cache",
        "A writer was killed between write and fsync; its successor reads the commit and does not log it again.",
        (
            Patch(
                f"{WRITER}.__init__",
                "not recovered.clean",
                "recovered.torn is not None",
                when="recovered.segment_next > 3",
            ),
        ),
        damaged(
            "write",
            "checkpoint",
            "write",
            "checkpoint",
            "write",
            "kill",
            by=flip("0000000000000003.wal", 200),
            what="a flip in the first copy of a commit that was logged again",
        ),
    ),
)

NAMES: Final = (
    Mutant(
        "no-directory-fsync-after-a-snapshot",
        "A later snapshot is linked, its name is not durable.",
        (Patch(PUBLISH, "os.fsync(directory)", "pass", when=f"owned.{LATER_SNAPSHOT}"),),
        explored("write", "checkpoint", "write", "resolve"),
    ),
    Mutant(
        "no-directory-fsync-after-a-segment",
        "The name of the segment that follows a seal is not durable.",
        (Patch(PUBLISH, "os.fsync(directory)", "pass", when=LATER_SEGMENT),),
        explored("write", "checkpoint", "write"),
    ),
    Mutant(
        "no-directory-fsync-after-remove",
        "Segments that were pruned come back in any order.",
        (Patch(REMOVE, "os.fsync(directory)", "pass", when="name.endswith('.wal')"),),
        explored("write", "checkpoint", "write", "checkpoint", "prune-journal"),
    ),
    Mutant(
        "no-directory-fsync-after-removing-a-snapshot",
        "Snapshots that were pruned come back in any order.",
        (Patch(REMOVE, "os.fsync(directory)", "pass", when="len(self._owned) > 1"),),
        explored("write", "checkpoint", "write", "checkpoint", "prune"),
    ),
    Mutant(
        "no-parent-fsync",
        "A new memory is durable, the directory that holds it is not.",
        (Patch(CREATE, "fsync_directory(os.path.dirname(each))", "pass"), Patch(CREATE, "fsync_parents(path)", "pass")),
        explored(),
    ),
    Mutant(
        "existing-parents-not-synced",
        "Found by this harness: a creator is killed after mkdir, its successor takes the directory as it is.",
        (Patch(CREATE, "fsync_parents(path)", "pass", when="not missing"),),
        explored(),
    ),
    Mutant(
        "names-of-the-dead-not-synced",
        "Found by this harness: a writer is killed between link and fsync, its successor trusts the name it sees.",
        (Patch(SWEEP, "os.fsync(directory)", "if left:\n    os.fsync(directory)"),),
        explored("write"),
    ),
)

SYNCING: Final = (*JOURNAL, *FILES, *NAMES)
