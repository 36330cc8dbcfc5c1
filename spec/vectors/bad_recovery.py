"""Snapshots that are damaged, or not what the journal leads to: what may be passed over (R-3), and what may not."""

from __future__ import annotations

from dataclasses import replace

from emm.layout import HEADER, LINEAGE, Origin

from . import forge
from .bad_memory import EMM_1, EMM_2, EMM_3, NO_REPLAY, WAL_1, grown, u
from .case import LOSS, REPAIRABLE, Case, Expected, Recipes
from .life import OTHER_UUID, Life, small


def cases() -> list[Case]:
    made = Recipes()
    for part in (_newest_damaged, _older, _agreement):
        part(made)
    return made.cases


def damaged(data: bytes) -> bytes:
    """A snapshot with nine bytes of its block changed."""
    at = forge.payload_offset(data) + 40
    return forge.patch(data, at, bytes(each ^ 0xA5 for each in data[at : at + 9]))


def both_heads_gone(data: bytes) -> bytes:
    """A snapshot whose header fails its CRC in both places."""
    return forge.flip(forge.flip(data, 30), len(data) - 98)


def _newest_damaged(made: Recipes) -> None:
    life = Life().write(3).checkpoint().write(1).seal()
    newest = bytes(life.files[EMM_2])
    expected = Expected(REPAIRABLE, ("block-damaged",), "T-2", EMM_2, rows=(0, 3))
    made.opens(
        "r3-block",
        "the newest snapshot has a damaged block: replayed from the one before",
        life.replaced(EMM_2, damaged(newest)),
        life,
        expected,
    )
    expected = Expected(REPAIRABLE, ("header-damaged",), "H-2", EMM_2, 30)
    made.opens(
        "r3-head",
        "the newest snapshot's first head is damaged, its mirror states a checkpoint",
        life.replaced(EMM_2, forge.flip(newest, 30)),
        life,
        expected,
    )
    expected = Expected(LOSS, ("header-damaged",), "H-2", EMM_2, 0, also=("R-3",))
    made.refused(
        "r3-both-heads",
        "the newest snapshot with both heads gone MUST NOT be passed over",
        life.replaced(EMM_2, both_heads_gone(newest)),
        expected,
    )
    journal = {name: data for name, data in life.replaced(EMM_2, damaged(newest)).items() if name != WAL_1}
    expected = Expected(LOSS, ("block-damaged", NO_REPLAY), "T-2", EMM_2, rows=(0, 3), also=("R-2", "R-3"))
    made.refused("r3-no-journal", "the newest snapshot is damaged and the journal to it is gone", journal, expected)
    for origin in (Origin.RESOLVE, Origin.RESTORE):
        other = Life().write(3).checkpoint(origin).write(1).seal()
        files = other.replaced(EMM_2, damaged(bytes(other.files[EMM_2])))
        expected = Expected(LOSS, ("block-damaged", NO_REPLAY), "T-2", EMM_2, rows=(0, 3), also=("R-3", "R-4"))
        made.refused(f"r3-{origin.name.lower()}", f"a damaged {origin.name} cannot be replayed", files, expected)
    only = Life(small(1)).write(3).seal()
    expected = Expected(REPAIRABLE, ("block-damaged",), "T-2", EMM_1, rows=(0, 3), also=("R-1", "R-3"))
    made.refused(
        "only-snapshot-damaged",
        "the one snapshot is damaged, but it is empty and the journal is whole: a repair can make it again",
        only.replaced(EMM_1, damaged(bytes(only.files[EMM_1]))),
        expected,
    )


def _older(made: Recipes) -> None:
    """Damage to files that recovery does not read: a finding, and no reason to refuse (R-11)."""
    life = grown()
    expected = Expected(REPAIRABLE, ("block-damaged",), "T-2", EMM_2, rows=(0, 3))
    made.opens(
        "older-block",
        "a damaged block of an older generation",
        life.replaced(EMM_2, damaged(bytes(life.files[EMM_2]))),
        life,
        expected,
    )
    expected = Expected(REPAIRABLE, ("record-damaged", NO_REPLAY), "J-10", WAL_1, 128, also=("R-6",))
    made.opens(
        "older-record",
        "a damaged record that every later snapshot contains",
        life.replaced(WAL_1, forge.flip(bytes(life.files[WAL_1]), 200)),
        life,
        expected,
    )
    stale = life.replaced(EMM_3, bytes(life.files[EMM_2]))
    expected = Expected(LOSS, ("wrong-name",), "N-2", EMM_3, 48)
    made.opens(
        "stale-generation", "generation 2 under the name of generation 3: passed over (R-3)", stale, life, expected
    )
    other = Life(uuid=OTHER_UUID).write().write().checkpoint().write().checkpoint()
    expected = Expected(REPAIRABLE, ("foreign-file",), "N-6", EMM_2, 64, also=("J-5",))
    made.opens(
        "foreign-generation",
        "an older generation is another memory's",
        life.replaced(EMM_2, bytes(other.files[EMM_2])),
        life,
        expected,
    )


def _agreement(made: Recipes) -> None:
    """Snapshots that are whole and are not what the journal leads to."""
    life = Life().write(3).checkpoint().write().seal()
    data = bytes(life.files[EMM_2])
    differs = life.copy()
    differs.files[EMM_2] = bytearray(forge.payload(data, 4, b"\0\0\0\x3f"))
    expected = Expected(LOSS, ("replay-differs",), "R-7", EMM_2, None, also=("L-2", "L-6"))
    forged = differs.bytes()
    made.cases.append(
        Case(
            "l6-state",
            "a checkpoint's M differs from what the journal gives",
            forged,
            expected,
            life.lsn,
            _after_forgery(life),
        )
    )
    chain = life.replaced(EMM_2, forge.head(data, 128 + LINEAGE.offset("chain"), bytes(32)))
    made.refused(
        "l6-chain",
        "a checkpoint states another chain value than the journal",
        chain,
        Expected(LOSS, ("chain-broken",), "J-12", EMM_2, None, also=("R-5", "L-6")),
    )
    count = life.replaced(EMM_2, forge.head(data, 128 + LINEAGE.offset("write_count"), u(8, 9)))
    made.opens("l6-write-count", "a checkpoint counts other pairs than the journal", count, life, expected)
    plain = Life(small(1)).write().checkpoint()
    ridge = plain.replaced(EMM_2, forge.head(bytes(plain.files[EMM_2]), HEADER.offset("ridge"), b"\0\0\0\x3d"))
    plain.state.parameters = replace(plain.parameters, ridge=2.0**-5)
    expected = Expected(LOSS, ("replay-differs",), "N-6", EMM_2, also=("R-7", "L-2", "L-6"))
    made.opens("n6-ridge", "two generations of one memory state another λ", ridge, plain, expected)


def _after_forgery(life: Life) -> str:
    """Digest of the state that the last segment gives on top of the forged M."""
    again = Life().write(3)
    again.state.matrix[0, 1] = 0.5
    return again.write().digest
