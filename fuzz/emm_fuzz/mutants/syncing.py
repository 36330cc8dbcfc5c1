"""Bugs between the page cache and the disk: syncs left out or misplaced, errors passed over or tried again.

Purpose: the mutants of `emm.vfs.local` and `emm.vfs.handles`, and of who calls them.
"""

from __future__ import annotations

from typing import Final

from emm_fuzz.mutants.killers import explored, faulted
from emm_fuzz.mutants.planting import Mutant, Patch

SYNC: Final = "emm.vfs.handles:LocalAppender.sync"
APPEND: Final = "emm.vfs.handles:LocalAppender.append"
PUBLISH: Final = "emm.vfs.local:LocalDirectory.publish"
TEMPORARY: Final = "emm.vfs.local:LocalDirectory._write_temporary"
CREATE: Final = "emm.vfs.local:LocalDirectory.create"
WRITE: Final = "emm.storage.journal_writer:JournalWriter._write"
SNAPSHOT: Final = "emm.storage.session:Session._publish"
COMMIT: Final = "emm.storage.session:Session._commit"

SYNCS: Final = (
    Mutant(
        "no-journal-fsync",
        "A commit is acknowledged from the page cache.",
        (Patch(SYNC, "os.fdatasync(self._fd)", "pass"),),
        explored("write"),
    ),
    Mutant(
        "acknowledge-before-fsync",
        "The sync comes before the bytes it should make durable.",
        (
            Patch(
                WRITE,
                "self._appender.append(data)\n        self._appender.sync()",
                "self._appender.sync()\nself._appender.append(data)",
            ),
        ),
        explored("write"),
    ),
    Mutant(
        "published-file-not-synced",
        "The name of a snapshot is durable and its bytes are not.",
        (Patch(TEMPORARY, "os.fsync(fd)", "pass"),),
        explored("write", "checkpoint"),
    ),
    Mutant(
        "published-before-sync",
        "The name is linked first, the bytes are synced after.",
        (
            Patch(TEMPORARY, "os.fsync(fd)", "pass"),
            Patch(
                PUBLISH,
                "self._unlink_quietly(temporary, directory)\n    try:\n        os.fsync(directory)",
                "self._unlink_quietly(temporary, directory)\n"
                "try:\n"
                "    late = os.open(name, _READ_FLAGS, dir_fd=directory)\n"
                "    os.fsync(late)\n"
                "    os.close(late)\n"
                "    os.fsync(directory)",
            ),
        ),
        explored("write", "checkpoint"),
    ),
    Mutant(
        "no-directory-fsync-after-publish",
        "A snapshot or segment is linked, its name is not durable.",
        (Patch(PUBLISH, "os.fsync(directory)", "pass"),),
        explored("write"),
    ),
    Mutant(
        "no-directory-fsync-after-remove",
        "Names come back in any order after a prune.",
        (Patch("emm.vfs.local:LocalDirectory.remove", "os.fsync(directory)", "pass"),),
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
        "Found by this harness: a creator is killed after mkdir, its successor syncs only what it made itself.",
        (Patch(CREATE, "fsync_parents(path)", "pass"),),
        explored(),
    ),
    Mutant(
        "names-of-the-dead-not-synced",
        "Found by this harness: a writer is killed between link and fsync, its successor trusts the name it sees.",
        (
            Patch(
                "emm.vfs.local:LocalDirectory.sweep",
                "os.fsync(directory)",
                "if left:\n    os.fsync(directory)",
            ),
        ),
        explored("write"),
    ),
    Mutant(
        "failed-mkdir-sync-leaves-the-directory",
        "Found by this harness: the sync of a new directory's name fails, and a retry takes it for durable.",
        (Patch(CREATE, "os.rmdir(each)", "pass"),),
        explored("write", fault=("fsync-dir", 2, "drop")),
    ),
    Mutant(
        "recovery-trusts-the-page-cache",
        "A writer was killed between write and fsync; its successor reads the commit and does not log it again.",
        (Patch("emm.storage.journal_writer:JournalWriter.__init__", "if not recovered.clean:", "if recovered.torn:"),),
        explored("write"),
    ),
)

ERRORS: Final = (
    Mutant(
        "fsync-error-ignored",
        "A sync fails, the commit is acknowledged.",
        (
            Patch(
                SYNC, 'self._poisoned = True\n        raise storage_error(error, self._file, "sync") from error', "pass"
            ),
        ),
        faulted("write"),
    ),
    Mutant(
        "fsync-retried",
        "A sync fails and drops the pages; the second one succeeds and proves nothing.",
        (
            Patch(
                SYNC,
                "os.fdatasync(self._fd)",
                "try:\n    os.fdatasync(self._fd)\nexcept OSError:\n    os.fdatasync(self._fd)",
            ),
        ),
        faulted("write"),
    ),
    Mutant(
        "publish-fsync-retried",
        "The same for a file that is published.",
        (Patch(TEMPORARY, "os.fsync(fd)", "try:\n    os.fsync(fd)\nexcept OSError:\n    os.fsync(fd)"),),
        faulted("write"),
    ),
    Mutant(
        "directory-fsync-error-ignored",
        "The name of a segment is not durable, the commit in it is acknowledged.",
        (
            Patch(PUBLISH, 'raise storage_error(error, file, "make the name durable") from error', "pass"),
            Patch(PUBLISH, "self._unlink_quietly(name, directory)", "pass"),
        ),
        faulted("write"),
    ),
    Mutant(
        "short-write-ignored",
        "The system takes half of the bytes, nobody writes the rest.",
        (Patch("emm.vfs.handles:write_all", "while view:", "if view:"),),
        faulted("write"),
    ),
    Mutant(
        "going-on-after-a-failed-write",
        "A write fails and the handle stays usable; its state holds what the log does not.",
        (
            Patch(COMMIT, "if applied or not isinstance(error, EmmError):", "if False:"),
            Patch("emm.storage.journal_writer:JournalWriter._poisoning", "self._failure = error", "pass"),
            Patch(APPEND, "self._poisoned = True", "pass"),
        ),
        faulted("write"),
    ),
    Mutant(
        "publish-error-leaves-the-session-usable",
        "A checkpoint fails after the state was exchanged for the re-solved one; later writes go on from there.",
        (
            Patch(
                SNAPSHOT,
                'self._broken = f"this handle can no longer be used, its last checkpoint failed: {error!r}"',
                "pass",
            ),
        ),
        faulted("write", "resolve", calls=("fsync-dir",)),
    ),
    Mutant(
        "eio-read-as-end-of-log",
        "A sector of the journal cannot be read; the commits behind it are taken for never written.",
        (
            Patch(
                "emm.storage.segment_file:SegmentReader._record_at",
                "header = self._read(offset, min(RECORD_HEADER.size, available))",
                "try:\n"
                "    header = self._read(offset, min(RECORD_HEADER.size, available))\n"
                "except EmmError:\n"
                "    raise TruncatedError('unreadable', rule='J-6', offset=offset) from None",
            ),
        ),
        faulted("write", "write", "kill", calls=("pread",)),
    ),
)

SYNCING: Final = (*SYNCS, *ERRORS)
