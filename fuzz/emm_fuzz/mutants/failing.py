"""Bugs in the handling of errors: passed over, tried again, gone on after, taken for something else.

Purpose: the mutants that only a failing system call brings out.
"""

from __future__ import annotations

from typing import Final

from emm_fuzz.mutants.contenders import created_after
from emm_fuzz.mutants.killers import faulted, unreadable
from emm_fuzz.mutants.patching import Patch
from emm_fuzz.mutants.planting import Mutant

SYNC: Final = "emm.vfs.handles:LocalAppender.sync"
APPEND: Final = "emm.vfs.handles:LocalAppender.append"
PUBLISH: Final = "emm.vfs.local:LocalDirectory.publish"
TEMPORARY: Final = "emm.vfs.local:LocalDirectory._write_temporary"
CREATE: Final = "emm.vfs.local:LocalDirectory.create"
REMOVE: Final = "emm.vfs.local:LocalDirectory.remove"
SWEEP: Final = "emm.vfs.local:LocalDirectory.sweep"
SESSION: Final = "emm.storage.session:Session"

_NO_SPACE: Final = "getattr(error.__cause__, 'errno', 0) == 28"  # ENOSPC

FSYNC: Final = (
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
        "fsync-error-of-a-segment-ignored",
        "The sync of a new segment fails, the segment is published.",
        (Patch(TEMPORARY, "os.fsync(fd)", "if size != 128:\n    raise", raising="OSError"),),
        faulted("write", calls=("fsync",)),
    ),
    Mutant(
        "fsync-retried",
        "A sync fails and drops the pages; the second one succeeds and proves nothing.",
        (Patch(SYNC, "os.fdatasync(self._fd)", "os.fdatasync(self._fd)", raising="OSError"),),
        faulted("write"),
    ),
    Mutant(
        "publish-fsync-retried",
        "The same for a file that is published.",
        (Patch(TEMPORARY, "os.fsync(fd)", "os.fsync(fd)", raising="OSError"),),
        faulted("write", "checkpoint", calls=("fsync",)),
    ),
    Mutant(
        "directory-fsync-retried",
        "The same for the name of such a file.",
        (Patch(PUBLISH, "os.fsync(directory)", "os.fsync(directory)", raising="OSError"),),
        faulted("write", calls=("fsync-dir",)),
    ),
    Mutant(
        "directory-fsync-error-ignored",
        "The name of a segment is not durable, the commit in it is acknowledged.",
        (Patch(PUBLISH, "os.fsync(directory)", "if owned.size != 128:\n    raise", raising="OSError"),),
        faulted("write", calls=("fsync-dir",)),
    ),
    Mutant(
        "failed-mkdir-sync-leaves-the-directory",
        "Found by this harness: the sync of a new directory's name fails, and a retry takes it for durable.",
        (Patch(CREATE, "os.rmdir(each)", "pass"),),
        created_after(("fail", 2)),
    ),
)

CALLS: Final = (
    Mutant(
        "short-write-ignored",
        "The system takes half of the bytes, nobody writes the rest.",
        (Patch("emm.vfs.handles:write_all", "while view:", "if view:"),),
        faulted("write"),
    ),
    Mutant(
        "short-write-continued-too-early",
        "After a short write the rest is written from the last whole 64 bytes on, so some are there twice.",
        (
            Patch(
                "emm.vfs.handles:write_all",
                "view[written:]",
                "view[written - written % 64 or written :]",
                when="written < len(view)",
            ),
        ),
        faulted("write", calls=("write",)),
    ),
    Mutant(
        "unlink-error-ignored",
        "A snapshot cannot be removed, and the prune goes on to what follows it.",
        (Patch(REMOVE, "FileNotFoundError", "OSError"),),
        faulted("write", "checkpoint", "write", "checkpoint", "prune", calls=("unlink",)),
    ),
    Mutant(
        "going-on-after-a-failed-write",
        "When the disk was full, the handle stays usable; its state holds what the log does not.",
        (
            Patch(f"{SESSION}._commit", "applied or not isinstance(error, EmmError)", "False", when=_NO_SPACE),
            Patch(
                "emm.storage.journal_writer:JournalWriter._poisoning",
                "self._failure = error",
                "self._appender = None",
                when=_NO_SPACE,
            ),
        ),
        faulted("write", calls=("write",)),
    ),
    Mutant(
        "publish-error-leaves-the-session-usable",
        "A checkpoint fails after the state was exchanged for the re-solved one; later writes go on from there.",
        (
            Patch(
                f"{SESSION}._publish",
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
                "if self.segment == 1:\n"
                "    raise\n"
                "raise TruncatedError('unreadable', rule='J-6', offset=offset) from None",
                raising="EmmError",
            ),
        ),
        unreadable("write", "checkpoint", "write", segment=2, offset=140, attempts=2),
    ),
)

FAILING: Final = (*FSYNC, *CALLS)
