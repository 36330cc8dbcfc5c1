"""Bugs in reading snapshots, in choosing one, and in reading beside a writer.

Purpose: the mutants of snapshot files, of recovery's choice, of verify, and of who looks again.
"""

from __future__ import annotations

from typing import Final

from emm_fuzz.damage import append, cut, flip, forged_block, together, without
from emm_fuzz.mutants.damages import forged, swapped_blocks
from emm_fuzz.mutants.killers import beside, clock_set_back, damaged, explored
from emm_fuzz.mutants.patching import Patch
from emm_fuzz.mutants.planting import Mutant

RECOVERY: Final = "emm.storage.recovery"
LOAD: Final = "emm.storage.snapshot_file:load_snapshot"
CODEC: Final = "emm.codec.snapshot"
WAL1: Final = "0000000000000001.wal"
EMM1: Final = "0000000000000001.emm"
EMM2: Final = "0000000000000002.emm"
EMM3: Final = "0000000000000003.emm"

HEADS: Final = "salvage_head(directory, snapshot_name(n)) for n in listing.generations"
BY_TIME: Final = "sorted(listing.generations, key=lambda n: -salvage_head(directory, snapshot_name(n)).lineage.time_us)"
BLOCK: Final = 65536
PAYLOAD: Final = 4096  # where the payload of a small memory begins
_CHECK: Final = "check_block(payload[start : start + BLOCK_BYTES], entry, index, shape.payload_offset + start)"

BLOCKS: Final = (
    Mutant(
        "last-block-not-checked",
        "Off by one: the last of several blocks of a snapshot is not hashed.",
        (Patch(LOAD, _CHECK, "pass", when="0 < index == len(head.table) - 1 and generation > 1"),),
        damaged(
            "write",
            "checkpoint",
            by=flip(EMM2, PAYLOAD + 3 * BLOCK + 100),
            what="a flip in the last of four blocks",
            geometry="blocks",
        ),
    ),
    Mutant(
        "middle-blocks-not-checked",
        "The first and the last block of a snapshot are hashed, those between them are not.",
        (Patch(LOAD, _CHECK, "pass", when="0 < index < len(head.table) - 1 and generation > 1"),),
        damaged(
            "write",
            "checkpoint",
            by=flip(EMM2, PAYLOAD + BLOCK + 100),
            what="a flip in the second of four blocks",
            geometry="blocks",
        ),
    ),
    Mutant(
        "swapped-blocks-pass",
        "A block is right when the table knows it, wherever it lies.",
        (
            Patch(
                LOAD,
                _CHECK,
                "from emm.codec.integrity import hash_block\n"
                "if hash_block(payload[start : start + BLOCK_BYTES]) not in head.table:\n"
                f"    {_CHECK}",
                when="len(head.table) > 1 and generation > 1",
            ),
        ),
        damaged(
            "write",
            "checkpoint",
            by=swapped_blocks(2, 0, 1),
            what="two blocks of the newest snapshot swapped",
            geometry="blocks",
        ),
    ),
    Mutant(
        "no-sha-of-blocks",
        "Whoever changes a number and its CRC-32 is believed.",
        (
            Patch(
                "emm.codec.integrity:check_block",
                "found_sha != entry.sha256",
                "False",
                when="found_sha != entry.sha256",
            ),
        ),
        damaged("write", by=forged_block(1), what="a changed number, every CRC-32 made right,", must_refuse=True),
    ),
    Mutant(
        "no-sha-of-later-blocks",
        "The SHA-256 of the first block is compared, of those after it only the CRC-32.",
        (
            Patch(
                "emm.codec.integrity:check_block",
                "found_sha != entry.sha256",
                "False",
                when="index > 0 and found_sha != entry.sha256",
            ),
        ),
        damaged(
            "write",
            by=forged(1, 2),
            what="a changed number in the third block, every CRC-32 made right,",
            geometry="blocks",
            must_refuse=True,
        ),
    ),
    Mutant(
        "no-sha-of-the-head",
        "A flip in the metadata or the lineage is believed.",
        (Patch(f"{CODEC}:decode_head", "found != header.sha256", "False", when="found != header.sha256"),),
        damaged("write", by=flip(EMM1, 128), what="a flip in the lineage", must_refuse=True),
    ),
    Mutant(
        "trailing-bytes-ignored",
        "A file that goes on after its end by a page opens.",
        (
            Patch(
                f"{CODEC}:read_head",
                "file_bytes != shape.file_bytes",
                "False",
                when="file_bytes == shape.file_bytes + 4096",
            ),
        ),
        damaged("write", by=append(EMM1, bytes(4096)), what="4096 zeros behind the snapshot", must_refuse=True),
    ),
    Mutant(
        "truncation-not-checked",
        "A file that ends early is read as far as it goes.",
        (Patch(f"{CODEC}:read_head", "file_bytes != shape.file_bytes", "False", when="file_bytes < shape.file_bytes"),),
        damaged("write", by=cut(EMM1, -60), what="a snapshot cut in its mirror", must_refuse=True),
    ),
    Mutant(
        "mirror-not-compared",
        "Verify calls a snapshot clean whose second copy is damaged.",
        (
            Patch("emm.verify.snapshot:SnapshotCheck._judge_mirror", "if head.head is not None:", "if False:"),
            Patch(
                "emm.verify.snapshot:SnapshotCheck._judge_mirror",
                "elif mirror.head is None and mirror.error is not None:",
                "elif False:",
            ),
        ),
        damaged("write", "close", by=flip(EMM2, -70), what="a flip in the mirror"),
    ),
)

CHOICE: Final = (
    Mutant(
        "starts-from-the-oldest",
        "The journal is replayed onto the first snapshot, whatever was re-solved since.",
        (
            Patch(
                f"{RECOVERY}:_newest_snapshot",
                "reversed(listing.generations)",
                "listing.generations",
                when="len(listing.generations) > 1",
            ),
        ),
        explored("write", "resolve"),
    ),
    Mutant(
        "newest-by-time",
        "The snapshot with the latest time is taken for the newest; a clock that was set back makes it an old one.",
        (
            Patch(
                f"{RECOVERY}:_newest_snapshot",
                "reversed(listing.generations)",
                BY_TIME,
                when=f"all({HEADS}) and {BY_TIME} != [*reversed(listing.generations)]",
            ),
        ),
        clock_set_back("write", "resolve"),
    ),
    Mutant(
        "resolved-snapshot-passed-over",
        "A damaged re-solved snapshot is replaced by what was before it.",
        (
            Patch(f"{RECOVERY}:_newest_snapshot", "head.lineage.origin is not Origin.CHECKPOINT or", ""),
            Patch(f"{RECOVERY}:_newest_snapshot", "if not _leads_to(loaded.snapshot, head):", "if False:"),
        ),
        damaged("write", "resolve", by=flip(EMM2, 4100), what="a flip in the re-solved snapshot", must_refuse=True),
    ),
    Mutant(
        "damaged-newest-passed-over-without-its-lsn",
        "An older snapshot and too short a journal stand in for a damaged newer one.",
        (Patch(f"{RECOVERY}:_recover", "walk.lsn < lsn_floor", "False", when="lsn_floor > 1"),),
        damaged(
            "write",
            "close",
            "write",
            "close",
            by=together(flip(EMM3, 4100), without("0000000000000002.wal")),
            what="a flip in the newest snapshot and a lost segment",
            must_refuse=True,
        ),
    ),
)

BESIDE: Final = (
    Mutant(
        "listing-trusted-against-a-missing-file",
        "A reader does not start again when a prune takes a file that it has listed.",
        (
            Patch(
                f"{RECOVERY}:recover", "if attempt + 1 == _ATTEMPTS or list_memory(directory) == listing:", "if True:"
            ),
        ),
        beside("write", "checkpoint", "write", "checkpoint", "prune"),
    ),
    Mutant(
        "reader-spanning-a-prune-keeps-its-listing",
        "A reader that lost a file to a prune starts again, from the listing that it has.",
        (
            Patch(
                f"{RECOVERY}:recover",
                "listing = list_memory(directory)",
                "pass",
                when="attempt > 0",
            ),
        ),
        beside("write", "checkpoint", "write", "checkpoint", "prune"),
    ),
    Mutant(
        "verify-does-not-look-again",
        "Verify reports as damage what a writer was just doing.",
        (
            Patch(
                "emm.verify.memory:check_memory",
                "_sizes(directory) == before",
                "True",
                when="doubtful and _sizes(directory) != before",
            ),
        ),
        beside("write", "checkpoint", "write", "checkpoint", "prune"),
    ),
)

SNAPSHOTS: Final = (*BLOCKS, *CHOICE, *BESIDE)
