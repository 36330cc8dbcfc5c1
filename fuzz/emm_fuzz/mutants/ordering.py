"""Bugs in the order of things and in who may write: prunes, snapshots, the log, locks.

Purpose: the mutants of the session, of checkpoints, and of opening.
"""

from __future__ import annotations

from typing import Final

from emm_fuzz.damage import flip
from emm_fuzz.mutants.contenders import overtaken
from emm_fuzz.mutants.killers import contract, damaged, explored
from emm_fuzz.mutants.patching import Patch
from emm_fuzz.mutants.planting import Mutant

LOCAL: Final = "emm.vfs.local:LocalDirectory"
SESSION: Final = "emm.storage.session:Session"
PRUNE: Final = "emm.storage.checkpoint:prune"
OPEN: Final = "emm.memory.opening:_open_memory"
EMM2: Final = "0000000000000002.emm"

ORDER: Final = (
    Mutant(
        "pruned-before-the-newer-is-durable",
        "A re-solved snapshot makes the older ones useless, so they go before it is published.",
        (
            Patch(
                f"{SESSION}._publish",
                "self._snapshot_sha256 = publish_snapshot(self.directory, snapshot)",
                "for each in [n for n in self.directory.list() if n.endswith('.emm')]:\n"
                "    self.directory.remove(each)\n"
                "self._snapshot_sha256 = publish_snapshot(self.directory, snapshot)",
                when="origin is Origin.RESOLVE and generation > 3",
            ),
        ),
        explored("write", "checkpoint", "write", "checkpoint", "resolve"),
    ),
    Mutant(
        "pruned-out-of-order",
        "With the journal, newer files are removed before older ones.",
        (Patch(PRUNE, "for name in names:", "for name in reversed(names) if journal else names:"),),
        explored("write", "checkpoint", "write", "checkpoint", "prune-journal"),
    ),
    Mutant(
        "snapshots-pruned-out-of-order",
        "Of several snapshots the newest is removed first.",
        (
            Patch(
                PRUNE,
                "names = [snapshot_name(generation) for generation in doomed]",
                "names = [snapshot_name(generation) for generation in reversed(doomed)]",
                when="len(doomed) > 1",
            ),
        ),
        explored("write", "checkpoint", "write", "checkpoint", "prune"),
    ),
    Mutant(
        "segments-pruned-out-of-order",
        "When no snapshot goes with them, the newest segment is removed first.",
        (
            Patch(
                PRUNE,
                "names += [segment_name(segment) for segment in listing.segments if segment < needed]",
                "names += [segment_name(segment) for segment in reversed(listing.segments) if segment < needed]",
                when="not doomed",
            ),
        ),
        explored("write", "checkpoint", "write", "checkpoint", "prune", "prune-journal"),
    ),
    Mutant(
        "segments-pruned-first",
        "The segments that a snapshot needs go before it.",
        (
            Patch(
                PRUNE,
                "names += [segment_name(segment) for segment in listing.segments if segment < needed]",
                "names[:0] = [segment_name(segment) for segment in listing.segments if segment < needed]",
            ),
        ),
        explored("write", "checkpoint", "write", "checkpoint", "prune-journal"),
    ),
    Mutant(
        "pruned-segments-that-are-needed",
        "Off by one: the segment that the kept snapshot is followed by goes as well.",
        (Patch(PRUNE, "if segment < needed]", "if segment <= needed]"),),
        explored("write", "checkpoint", "write", "prune-journal"),
    ),
    Mutant(
        "prune-does-not-read-back",
        "The only good snapshot is removed because a damaged newer one has a name.",
        (Patch(PRUNE, "load_snapshot(directory, kept[-1])", "pass"),),
        damaged("write", "close", by=flip(EMM2, 4100), what="a flip in the newest snapshot", then="prune"),
    ),
    Mutant(
        "applied-after-the-log",
        "A write is logged before the kernel has accepted it; what it refuses cannot be replayed.",
        (
            Patch(f"{SESSION}._commit", "surprise = apply()", "surprise = None"),
            Patch(f"{SESSION}._commit", "surprise=mean)", "surprise=mean)\nsurprise = apply()"),
        ),
        explored("write", "refused"),
    ),
    Mutant(
        "resolved-as-a-checkpoint",
        "A re-solved state claims to follow from the journal before it.",
        (
            Patch(
                f"{SESSION}.install_resolved",
                "Origin.RESOLVE",
                "Origin.CHECKPOINT",
            ),
        ),
        damaged("write", "resolve", by=flip(EMM2, 4100), what="a flip in the re-solved snapshot", must_refuse=True),
    ),
)

LOCKS: Final = (
    Mutant(
        "flock-not-taken",
        "Two writers at once.",
        (Patch(f"{LOCAL}.lock", "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"),),
        explored("second"),
    ),
    Mutant(
        "flock-released-early",
        "After a take-over the lock guards the opening and not the writing.",
        (
            Patch(
                OPEN,
                "return Memory(session)",
                "memory = Memory(session)\nlock.release()\nreturn memory",
                when="lock is not None and recovered.unproven and recovered.segment_next > 2",
            ),
        ),
        explored("write", "checkpoint", "write", "kill", "second"),
    ),
    Mutant(
        "flock-released-before-the-last-checkpoint",
        "Closing lets go of the lock first and publishes after.",
        (
            Patch(
                f"{SESSION}.close",
                "self.checkpoint()",
                "self._lock.release()\nself.checkpoint()",
                when="self._lock is not None and self.lsn != self.snapshot.lsn and self.snapshot.generation > 2",
            ),
        ),
        overtaken("write", "checkpoint", "write", "close", while_="closes"),
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
                when="len(directory.list()) > 5",
            ),
        ),
        overtaken("write", "checkpoint", "write", "checkpoint", "write", "close", while_="opens"),
    ),
    Mutant(
        "publish-overwrites",
        "A name that is taken is taken away.",
        (
            Patch(
                f"{LOCAL}.publish",
                "self._refuse_taken(name, file, directory)",
                "self._unlink_quietly(name, directory)",
                when="os.path.lexists(file)",
            ),
        ),
        contract("test_publish_never_overwrites"),
    ),
    Mutant(
        "append-to-anybodys-segment",
        "Whoever finds a segment may grow it.",
        (
            Patch(
                f"{LOCAL}.open_append",
                'raise FencedError("only the handle that published a file may append to it", file=file)',
                "with self._open_regular(name) as (fd, size):\n"
                "    status = os.fstat(fd)\n"
                "    owned = OwnedFile(status.st_dev, status.st_ino, size)",
            ),
        ),
        contract("test_only_the_creator_appends"),
    ),
    Mutant(
        "create-over-a-memory",
        "Creating succeeds where something lies.",
        (
            Patch(
                f"{LOCAL}.create",
                "any(not is_temporary(name) for name in os.listdir(fd))",
                "False",
                when="any(not is_temporary(name) for name in os.listdir(fd))",
            ),
        ),
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
                when="len(directory.list()) > 6",
            ),
        ),
        damaged(  # 0 becomes 2, so that no rounding hides it
            "write",
            "checkpoint",
            "write",
            "checkpoint",
            "write",
            "checkpoint",
            "write",
            "close",
            by=flip("0000000000000005.emm", 4099, 6),
            what="a flip in the newest snapshot",
        ),
    ),
)

ORDERING: Final = (*ORDER, *LOCKS)
