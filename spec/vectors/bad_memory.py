"""Memories whose files contradict each other: what recovery must refuse, may pass over, or must see through."""

from __future__ import annotations

from emm.layout import SEGMENT_HEADER, Origin

from . import forge
from .case import LOSS, MISSING, REPAIRABLE, TORN, Case, Expected, Recipes
from .life import OTHER_UUID, UUID, Life

EMM_1, EMM_2, EMM_3 = (f"{n:016d}.emm" for n in (1, 2, 3))
WAL_1, WAL_2 = (f"{n:016d}.wal" for n in (1, 2))
NO_REPLAY = "replay-not-possible"


def u(size: int, value: int) -> bytes:
    return value.to_bytes(size, "little")


def cases() -> list[Case]:
    made = Recipes()
    for part in (_missing, _floors, _continuity, _proof):
        part(made)
    return made.cases


def grown() -> Life:
    """Generations 1 to 3, a segment after each."""
    return Life().write().write().checkpoint().write().checkpoint().write().seal()


def _missing(made: Recipes) -> None:
    made.refused("nothing-there", "an empty directory", {}, Expected(MISSING, ("missing",)))
    made.refused(
        "nothing-of-ours", "a directory with other files only", {"notes.txt": b"x"}, Expected(MISSING, ("missing",))
    )
    life = grown()
    expected = Expected(LOSS, ("generation-missing",), "R-1", None)
    made.refused("r1-no-snapshot", "a journal without any snapshot", Life().write().seal().without(EMM_1), expected)
    journal = Life().write().seal().write().seal().write().seal()
    expected = Expected(LOSS, ("segment-missing", NO_REPLAY), "R-2", WAL_2)
    made.refused("r2-segment-between", "a segment between two others is gone", journal.without(WAL_2), expected)
    expected = Expected(LOSS, ("segment-missing", NO_REPLAY), "R-2", WAL_1)
    made.refused("r2-segment-first", "the first segment after the snapshot is gone", journal.without(WAL_1), expected)
    expected = Expected(REPAIRABLE, ("segment-missing", NO_REPLAY), "R-2", WAL_2)
    made.opens(
        "segment-before-snapshot", "a segment that a newer snapshot covers is gone", life.without(WAL_2), life, expected
    )
    expected = Expected(REPAIRABLE, ("generation-missing",), "R-10", EMM_2)
    made.opens(
        "generation-between",
        "a snapshot between two others is gone; the journal leads over it",
        life.without(EMM_2),
        life,
        expected,
    )
    resolved = Life().write().checkpoint(Origin.RESOLVE).write().seal()
    expected = Expected(LOSS, ("generation-missing", NO_REPLAY), "R-4", EMM_2)
    made.refused(
        "r4-resolved-gone",
        "the re-solved snapshot that the journal was written on is gone",
        resolved.without(EMM_2),
        expected,
    )


def _floors(made: Recipes) -> None:
    life = Life().write().checkpoint().write().seal()
    data = bytes(life.files[WAL_2])
    floor = forge.segment(data, SEGMENT_HEADER.offset("floor_generation"), u(8, 3))
    expected = Expected(LOSS, ("generation-missing", NO_REPLAY), "R-4", EMM_3)
    made.refused(
        "r4-floor", "a segment's floor is above every snapshot there is", life.replaced(WAL_2, floor), expected
    )


def _continuity(made: Recipes) -> None:
    life = Life().write().write().seal().write().seal()
    second = bytes(life.files[WAL_2])
    at = SEGMENT_HEADER.offset

    def bad(
        name: str,
        shows: str,
        files: dict[str, bytes],
        file: str,
        rule: str = "R-5",
        *codes: str,
        also: tuple[str, ...] = (),
    ) -> None:
        expected = Expected(LOSS, codes or ("log-contradicted",), rule, file, None, also=also)
        made.refused(name, shows, files, expected)

    back = Life().write().write().seal()
    back.lsn, back.chain = 1, back.chains[1]
    bad("r5-taken-back", "a segment takes back a commit that a seal proves", back.write().seal().bytes(), WAL_2)
    ahead = Life().write().seal()
    ahead.lsn = 2
    bad(
        "r5-gap",
        "a segment begins at LSN 3 after LSN 1",
        ahead.write().seal().bytes(),
        WAL_1,
        "R-6",
        "commits-missing",
        NO_REPLAY,
        also=("R-5",),
    )
    chain = life.replaced(WAL_2, forge.segment(second, at("chain"), bytes(32)))
    bad(
        "r5-chain",
        "a segment states another chain value than the one before leads to",
        chain,
        WAL_2,
        "R-5",
        "chain-broken",
        "log-contradicted",
        also=("J-12",),
    )
    rank = forge.segment(second, at("rank"), u(4, 32))
    bad("r5-rank", "a segment states rank 32 where the log has 16", life.replaced(WAL_2, rank), WAL_2)
    single = Life().write().seal()
    first = forge.segment(bytes(single.files[WAL_1]), at("rank"), u(4, 32))
    bad(
        "r5-rank-first", "the first segment states another rank than its snapshot", single.replaced(WAL_1, first), WAL_1
    )
    first = forge.segment(bytes(life.files[WAL_1]), at("first_lsn"), u(8, 2))
    bad(
        "l5-first-lsn",
        "the first segment does not begin where the snapshot ends",
        life.replaced(WAL_1, first),
        WAL_1,
        "J-11",
        "log-contradicted",
        "record-damaged",
        NO_REPLAY,
        also=("R-5", "R-6", "L-5"),
    )
    swapped = life.bytes() | {WAL_1: second, WAL_2: bytes(life.files[WAL_1])}
    bad("swapped-segments", "two segments have changed names", swapped, WAL_1, "N-2", "wrong-name")
    copied = life.replaced(WAL_2, bytes(life.files[WAL_1]))
    bad("segment-twice", "the first segment again under the second name", copied, WAL_2, "N-2", "wrong-name")
    other = Life(uuid=OTHER_UUID).write().write().seal().write().seal()
    bad(
        "foreign-segment",
        "the second segment is another memory's",
        life.replaced(WAL_2, bytes(other.files[WAL_2])),
        WAL_2,
        "J-5",
        "foreign-file",
    )
    forged = life.replaced(WAL_2, forge.segment(bytes(other.files[WAL_2]), at("uuid"), UUID))
    expected = Expected(TORN, ("torn-tail",), "J-10", WAL_2, 128)
    shows = "the same with this memory's UUID in its header: its records' CRCs tell, and R-6 calls the tail torn"
    made.opens("foreign-segment-forged", shows, forged, Life().write().write(), expected)


def _proof(made: Recipes) -> None:
    life = Life().write().write().write().mark()
    data = bytes(life.files[WAL_1])
    starts = forge.offsets(data)
    expected = Expected(LOSS, ("record-damaged",), "J-10", WAL_1, starts[4], also=("R-6",))
    made.refused(
        "r6-proven-by-mark",
        "the last commit is damaged, and the mark after it says that it was durable",
        life.replaced(WAL_1, forge.flip(data, starts[4] + 50)),
        expected,
    )
    cut = life.seal().copy()
    after = bytes(cut.write().seal().files[WAL_2])
    data = bytes(life.files[WAL_1])
    files = life.bytes() | {WAL_1: data[: starts[4]], WAL_2: after}
    expected = Expected(LOSS, ("commits-missing", NO_REPLAY), "R-6", WAL_1, starts[4], also=("R-5",))
    made.refused(
        "r6-cut-before-next", "the first segment is cut at a commit; the second begins a commit later", files, expected
    )
    behind = Life().write().write().checkpoint()
    data = bytes(behind.files[WAL_1])
    expected = Expected(REPAIRABLE, ("commits-missing", NO_REPLAY), "R-6", WAL_1)
    files = behind.replaced(WAL_1, data[: forge.offsets(data)[2]])
    made.opens(
        "r6-cut-before-snapshot",
        "the journal ends below the LSN of a snapshot that holds it all",
        files,
        behind,
        expected,
    )
    short = Life().write().write().seal().write().seal()
    data = bytes(short.files[WAL_1])
    expected = Expected(REPAIRABLE, ("commits-missing",), "R-6", WAL_1, len(data) - 40, also=("R-11",))
    made.opens(
        "seal-gone",
        "a segment's seal is gone, as previous_bytes of the next one tells",
        short.replaced(WAL_1, data[:-40]),
        short,
        expected,
    )
