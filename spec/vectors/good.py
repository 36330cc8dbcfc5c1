"""Whole memories: every shape, rule, projection, parameter and operation that the spec allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emm.codec.journal import encode_record
from emm.codec.pairs import PairBatch
from emm.layout import Origin, Projection, RecordType, Rule

from . import forge
from .case import Case, Expected, Recipes
from .life import OTHER_UUID, Life, small
from .merged import merged_state

NAMES = {Rule.OUTER_PRODUCT: "outer-product", Rule.GATED_DELTA: "gated-delta", Rule.PRECONDITIONED: "preconditioned"}

MARK_UUID = bytes(16)  # of a memory for which the CRC of a mark, as binary32, is a number up to 2⁴⁰


def cases() -> list[Case]:
    made = Recipes()
    for part in (_rules, _shapes, _parameters, _gates, _operations, _numbers, _metadata, _origins, _files):
        part(made)
    return made.cases


def _rules(made: Recipes) -> None:
    for rule, name in NAMES.items():
        made.good(f"empty-{name}", f"a memory of rule {rule} before its first write", Life(small(rule)))
        life = Life(small(rule)).write().write(3).write(1).seal()
        made.good(f"written-{name}", f"rule {rule}: three commits, then a seal", life)
        made.good(f"checkpoint-{name}", f"rule {rule}: a second generation after the journal", life.checkpoint())
        unprojected = small(rule, projection=Projection.NONE)
        made.good(
            f"unprojected-{name}", f"projection 0 under rule {rule}", Life(unprojected).write(5).seal().checkpoint()
        )
    padded = small(2, projection=Projection.NONE, key_dim=10)
    made.good(
        "unprojected-padded", "projection 0 with key_dim 10: keys are padded to rank 16", Life(padded).write(5).seal()
    )
    for count in (15, 16, 17):
        life = Life().write(count).checkpoint()
        made.good(f"deferred-{count}", f"{count} pairs: U holds {count % 16} rows (P̄ is folded at 16)", life)


def _shapes(made: Recipes) -> None:
    for key_dim, rank in ((17, 16), (100, 96), (64, 64)):
        life = Life(small(2, key_dim=key_dim, rank=rank)).write(5).seal()
        made.good(f"keys-{key_dim}-rank-{rank}", f"key_dim {key_dim} at rank {rank}", life.checkpoint())
    made.good("dim-one", "values of a single number", Life(small(2, dim=1)).write(3).checkpoint())
    made.good("dim-odd", "values of 7 numbers", Life(small(1, dim=7)).write(3).checkpoint())
    exact = Life(small(1, dim=1024)).write(2).checkpoint()
    made.good("one-block-exactly", "a payload of exactly 65536 bytes has no padding", exact)
    over = Life(small(1, dim=1025)).write(2).checkpoint()
    made.good("one-row-over", "one row more than a block: two blocks, the second nearly empty", over)
    wide = Life(small(2, dim=96, key_dim=256, rank=256)).write(20).checkpoint()
    made.good("many-blocks", "M, P̄ and U over several blocks, none of which begins with a row of another array", wide)


def _parameters(made: Recipes) -> None:
    for name, ridge in (("least", 2.0**-20), ("most", 2.0**20), ("odd", float(np.float32(0.3)))):
        life = Life(small(2, ridge=ridge)).write(3).checkpoint()
        made.good(f"ridge-{name}", f"λ = {ridge}", life)
    for name, seed in (("zero", 0), ("largest", (1 << 64) - 1)):
        made.good(f"seed-{name}", f"projection seed {seed}", Life(small(2, seed=seed, key_dim=32)).write(3).seal())
    for name, expand_at in (("default", float(np.float32(0.85))), ("one", 1.0)):
        made.good(f"expand-at-{name}", f"expansion threshold {expand_at}", Life(expand_at=expand_at).write().seal())


def _gates(made: Recipes) -> None:
    for rule, name in NAMES.items():
        life = Life(small(rule)).write(3)
        life.write(3, decay=0.75, gate=0.5).write(2, decay=0.999).seal().checkpoint()
        made.good(f"decayed-{name}", f"rule {rule}: decay gates below 1, the flag DECAYED", life)
    life = Life()
    for gate in (2.0**-10, 32.0, 1.5):
        life.write(2, gate=gate)
    made.good("write-gates", "the least and the greatest write gate", life.seal())
    life = Life().write(5).write(1, decay=2.0**-149)
    made.good(
        "decay-to-nothing", "the least positive decay gate: M and the scale of P̄ vanish", life.seal().checkpoint()
    )
    pairs = life.copy().pairs(6)
    mixed = PairBatch(
        pairs.rank,
        pairs.keys,
        pairs.values,
        np.array([1, 0.5, 32, 0.001, 2, 1], np.float32),
        np.array([1, 0.5, 1, 0.9, 1, 0.25], np.float32),
    )
    life = Life()
    life.commit(life.writing(mixed)).seal()
    made.good("mixed-gates", "every pair of a record with gates of its own", life)


def _operations(made: Recipes) -> None:
    life = Life(small(2, ridge=1.0)).write(3)
    pairs = life.pairs(4)
    life.commit(life.writing(pairs)).write(2)
    life.commit(life.unlearning(pairs.rows([1, 3]))).seal()
    made.good("unlearned", "two pairs are taken out again; σ = −1 in the journal's state", life)
    made.good("unlearned-checkpoint", "the same with σ = −1 in a snapshot", life.checkpoint())
    for rule, name in NAMES.items():
        life = Life(small(rule)).write(5)
        keys = life.pairs(3, seed=6).rows([0, 1, 1])
        life.commit(life.forgetting(keys)).write(1).seal().checkpoint()
        made.good(f"forgotten-{name}", f"rule {rule}: a forget record with a key twice, the flag FORGOTTEN", life)
        life = Life(small(rule, key_dim=64, ridge=1.0)).write(5)
        old = replace(life.pairs(2, seed=2), rank=32)
        life.commit(life.expanding(32)).write(2)
        if rule is Rule.PRECONDITIONED:
            made.good("expanded-journal", "a bare expansion met in replay, sealed", life.copy().seal())
            life.commit(life.writing(old)).commit(life.unlearning(old))
        made.good(f"expanded-{name}", f"rule {rule}: rank 16 becomes 32, the flag BARE_EXPANDED", life.checkpoint())
    life = Life(small(2, key_dim=64, ridge=1.0))
    pairs = life.pairs(3)
    life.commit(life.writing(pairs)).commit(life.expanding(32)).commit(life.unlearning(pairs)).seal()
    made.good("unlearned-at-older-rank", "pairs written at rank 16 are unlearned at rank 32", life)
    life = Life(small(2, key_dim=64)).begin()
    batch = [life.writing(life.pairs(2)), life.expanding(32), life.writing(life.pairs(2, seed=9))]
    batch += [life.threshold(0.5), life.forgetting(life.pairs(1, seed=9))]
    made.good(
        "one-batch-of-five", "write, expand, write, parameters and forget in one commit", life.commit(*batch).seal()
    )
    life = Life()
    life.commit(life.threshold(0.25)).seal().checkpoint()
    made.good("parameters-only", "a commit that changes the expansion threshold and no number", life)


def _numbers(made: Recipes) -> None:
    life = Life().write(2)
    pairs = life.pairs(2)
    pairs.keys[0] = 0
    life.commit(life.writing(pairs)).seal()
    made.good("zero-key", "a key of zeros is a no-op (A-11)", life)
    life = Life(small(1)).write(1)
    pairs = life.pairs(3)
    pairs.values[0] = np.float32(2.0**-149)
    pairs.values[1] = np.float32(-0.0)
    pairs.values[2] = np.float32(2.0**40)
    life.commit(life.writing(pairs)).checkpoint()
    made.good("numbers-at-the-limits", "subnormal numbers, −0 and 2⁴⁰ as values", life)


def _metadata(made: Recipes) -> None:
    text = {"é": "\U0001f9ea", "controls": '\n\t\x01"\\\x7f', "numbers": [2**53, -(2**53), 0], "nothing": None}
    made.good(
        "metadata-unicode",
        "letters beyond ASCII, escapes and the largest integers",
        Life(metadata=text | {"no": False}),
    )
    deep: dict[str, object] = {}
    for _ in range(14):
        deep = {"": deep}
    made.good("metadata-deepest", "sixteen levels of objects", Life(metadata={"d": deep}))
    longest = {"x": "y" * (16384 - len('{"x":""}'))}
    made.good("metadata-longest", "16384 bytes: the payload begins at 20480", Life(metadata=longest))
    fill = {"x": "y" * (4096 - 288 - 36 - len('{"x":""}'))}
    made.good("head-fills-its-page", "head and payload meet without padding at 4096", Life(metadata=fill))


def _origins(made: Recipes) -> None:
    for origin in (Origin.UPGRADE, Origin.REPAIR, Origin.RESTORE):
        life = Life(origin=origin, parent_uuid=OTHER_UUID).write(2).seal()
        made.good(f"origin-{origin.name.lower()}", f"generation 1 has origin {origin.name}", life)
    state = merged_state()
    life = Life(state.parameters, state=state, origin=Origin.MERGE, write_count=4)
    made.good("origin-merge", "two memories merged: the flag FOREIGN_PAIRS", life)
    made.good("merged-and-written", "a merged memory goes on", life.write(3).seal().checkpoint())
    life = Life(small(2, key_dim=64)).write(3).seal()
    resolved = Life(small(2, key_dim=64, rank=32))
    resolved.commit(resolved.writing(replace(life.pairs(3, seed=1), rank=32)))
    life.state = resolved.state
    life.checkpoint(Origin.RESOLVE)
    made.good("origin-resolve", "solved again at rank 32: floor 2, no journal leads to it", life)
    life.write(2).seal()
    made.good("resolved-and-written", "the segment after a re-solved snapshot states its floor and rank", life)
    made.good("resolved-checkpoint", "a checkpoint repeats the floor of the snapshot it continues", life.checkpoint())


def _files(made: Recipes) -> None:
    life = Life().write(3).checkpoint()
    data = bytes(life.files[life.emm])
    made.file("snapshot-alone", "a snapshot needs nothing else", data, Expected("clean"), life.emm, life)
    made.file("segment-alone", "a sealed segment by itself", bytes(life.files[life.wal]), Expected("clean"), life.wal)
    minor = forge.head(data, 10, (7).to_bytes(2, "little"))
    made.file("minor-version", "a higher minor version is read (H-3)", minor, Expected("clean"), life.emm, life)
    life = Life().write(1).seal()
    files = life.replaced(life.wal, forge.segment(bytes(life.files[life.wal]), 10, (7).to_bytes(2, "little")))
    made.opens("minor-version-segment", "the same for a segment", files, life, Expected("clean"))
    beside = {
        "notes.txt": b"not ours",
        ".0000000000000002.emm.tmp": b"\x89EMM half",
        "2.wal.bak": b"x",
        "0.json": b"{}",
    }
    made.opens(
        "other-names",
        "files with other names are not part of the memory (N-1)",
        life.bytes() | beside,
        life,
        Expected("clean"),
    )
    nested = Life(small(2, dim=12), uuid=MARK_UUID)
    pairs = nested.pairs(1)
    pairs.values[0, :10] = np.frombuffer(mark_of_numbers(), np.float32)
    nested.commit(nested.writing(pairs))
    made.good("record-inside-a-value", "the bytes of a mark inside a value are numbers, not a record", nested.seal())


def mark_of_numbers() -> bytes:
    """A valid mark of MARK_UUID whose forty bytes, read as binary32, are numbers that a value may hold."""
    marks = (encode_record(RecordType.MARK, lsn, lsn, b"", MARK_UUID) for lsn in range(99, 999))
    return next(mark for mark in marks if np.all(np.abs(np.frombuffer(mark, np.float32)) <= 2.0**40))
