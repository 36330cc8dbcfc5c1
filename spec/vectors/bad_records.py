"""Payloads that no writer logs (J-13 to J-17, R-7, R-8): whole, chained, sealed, and not to be replayed."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from emm.codec.pairs import encode_expand, encode_pairs
from emm.layout import RecordType

from . import forge
from .bad_journal import WAL, u
from .case import LOSS, Case, Expected, Recipes
from .life import Life, Record, small, write_record


def cases() -> list[Case]:
    made = Recipes()

    def bad(
        name: str,
        shows: str,
        record: Record,
        rule: str,
        base: Life | None = None,
        code: str = "replay-refused",
        **stated: object,
    ) -> None:
        life = (base or Life().write()).copy()
        expected = Expected(LOSS, (code,), rule, WAL, None, also=("R-7", "J-11") if rule == "J-16" else ("R-7",))
        made.refused(name, shows, life.log([record], **stated).seal().bytes(), expected)

    base = Life(small(2, ridge=1.0)).write(3)
    pairs = base.pairs(2)

    def changed(change: Callable[..., None]) -> Record:
        edited = base.copy().pairs(2)
        edited = replace(edited, write_gates=edited.write_gates.copy(), decay_gates=edited.decay_gates.copy())
        change(edited)
        return write_record(edited)

    kind, payload = write_record(pairs)
    bad("j13-key-dim", "key_dim is not the memory's", (kind, forge.patch(payload, 4, u(4, 17))), "J-13")
    bad("j13-dim", "dim is not the memory's", (kind, forge.patch(payload, 8, u(4, 5))), "J-13")
    bad("j13-count", "n_pairs is one more than the length gives", (kind, forge.patch(payload, 0, u(4, 3))), "J-13")
    bad(
        "j13-count-overflow",
        "n_pairs · bytes of a pair is right modulo 2³²",
        (kind, forge.patch(payload, 0, u(4, 2**31 + 2))),
        "J-13",
    )
    bad("j13-no-pairs", "a write of no pairs", (kind, forge.patch(payload[:16], 0, u(4, 0))), "J-13")
    bad("j13-short", "a write of five bytes", (kind, payload[:5]), "J-13", n_pairs=0)
    bad("j13-rank-odd", "a record of rank 17", (kind, forge.patch(payload, 12, u(4, 17))), "J-13")
    unlearn = encode_pairs(RecordType.UNLEARN, pairs)
    bad("j13-unlearn-gates", "an unlearn with decay gates", (RecordType.UNLEARN, payload), "J-13")
    bad("j13-forget-values", "a forget with values", (RecordType.FORGET, payload), "J-13")
    for name, number in (
        ("nan", math.nan),
        ("infinite", math.inf),
        ("large", float(np.float32(2.0**40 * (1 + 2.0**-23)))),
    ):
        bad(
            f"j14-key-{name}",
            f"a key that holds {number}",
            changed(lambda p, x=number: p.keys.__setitem__((1, 3), x)),
            "J-14",
        )
        bad(
            f"j14-value-{name}",
            f"a value that holds {number}",
            changed(lambda p, x=number: p.values.__setitem__((0, 2), x)),
            "J-14",
        )
    for name, gate in (("zero", 0.0), ("small", 2.0**-11), ("large", 33.0), ("negative", -1.0), ("nan", math.nan)):
        bad(
            f"j15-write-gate-{name}",
            f"write gate {gate}",
            changed(lambda p, x=gate: p.write_gates.__setitem__(1, x)),
            "J-15",
        )
    for name, gate in (("zero", 0.0), ("above", 1.0001), ("negative", -0.5)):
        bad(
            f"j15-decay-gate-{name}",
            f"decay gate {gate}",
            changed(lambda p, x=gate: p.decay_gates.__setitem__(1, x)),
            "J-15",
        )
    rule_1 = Life(small(1)).write()
    gated = replace(rule_1.pairs(1), write_gates=np.full(1, 1.5, np.float32))
    made.refused(
        "j15-rule-1",
        "under rule 1 a write gate is at most 1 (A-10)",
        rule_1.log([write_record(gated)]).seal().bytes(),
        Expected(LOSS, ("replay-refused",), "J-15", WAL, None, also=("R-7", "A-10")),
    )
    write = write_record(Life().write().pairs(2))
    bad("j16-surprise-nan", "a commit whose surprise is NaN", write, "J-16", code="record-damaged", surprise=math.nan)
    bad(
        "j16-surprise-negative",
        "a commit whose surprise is below zero",
        write,
        "J-16",
        code="record-damaged",
        surprise=-1.0,
    )
    bad(
        "j16-n-pairs",
        "a commit that counts other pairs than its batch",
        write,
        "J-16",
        code="record-damaged",
        n_pairs=7,
    )
    wide = Life(small(2, key_dim=64)).write()
    for name, shows, rank in (
        ("same", "an expansion to the rank there is", 16),
        ("lower", "an expansion to rank 0", 0),
        ("odd", "an expansion to rank 24", 24),
        ("skip", "an expansion that does more than double", 64),
        ("petabyte", "an expansion to rank 2²⁴, a petabyte", 1 << 24),
    ):
        bad(f"j17-rank-{name}", shows, (RecordType.EXPAND, encode_expand(rank)), "J-17", wide)
    bad("j17-above-key-dim", "an expansion above key_dim", (RecordType.EXPAND, encode_expand(32)), "J-17")
    flat = Life(small(2, projection=0)).write()
    bad("j17-unprojected", "an expansion under projection 0", (RecordType.EXPAND, encode_expand(32)), "J-17", flat)
    bad("j17-reserved", "a reserved byte of an expansion is 1", (RecordType.EXPAND, u(4, 32) + u(4, 1)), "J-17", wide)
    bad("j17-long", "an expansion of twelve bytes", (RecordType.EXPAND, u(4, 32) + bytes(8)), "J-17", wide)
    bad("j17-threshold", "expand_at is 2", (RecordType.PARAMETERS, struct.pack("<f4x", 2.0)), "J-17")
    bad(
        "r7-unlearn-unknown", "a pair is unlearned that was never written", (RecordType.UNLEARN, unlearn), "R-7", Life()
    )
    bad("r7-unlearn-rule-1", "an unlearn under rule 1", (RecordType.UNLEARN, unlearn), "R-7", Life(small(1)).write())
    large = changed(lambda p: p.keys.__imul__(np.float32(2.0**39)))
    bad("r7-key-too-large", "a key whose transform overflows A-9", large, "R-7", Life(small(2, key_dim=16)))
    bad("r8-rank", "a write at rank 32 into rank 16", write_record(replace(wide.pairs(1), rank=32)), "R-8", wide)
    later = RecordType.UNLEARN, encode_pairs(RecordType.UNLEARN, replace(wide.pairs(1, seed=1), rank=64))
    bad("r8-unlearn-rank", "an unlearn of a pair of a rank that has not been", later, "R-8", wide)
    return made.cases
