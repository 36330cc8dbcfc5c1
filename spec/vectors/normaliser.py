"""Memories that carry a normaliser (P-1, P-7, A-23): as an upgrade leaves them, going on, and with each rule broken.

Purpose: vectors for the region that the flag NORMALISER adds. Invariants: numbers come from SplitMix64 and no LAPACK is
used, so P is the prior and not the estimate of a real upgrade.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from emm.layout import Flag, Origin, Projection
from emm.state import MatrixState, Normaliser, empty_state

from . import forge
from .case import LOSS, Case, Expected, Recipes
from .life import Life, small
from .stream import Numbers

NAME = "0000000000000001.emm"
FLAGS = Flag.FOREIGN_PAIRS | Flag.DECAYED | Flag.NORMALISER
KEY_DIM = 10


def cases() -> list[Case]:
    made = Recipes()
    _good(made)
    _bad(made)
    return made.cases


def carrying(rule: int, *, query_length: bool = False, floor: float = 0.75) -> MatrixState:
    """A state with numbers in M and a normaliser; keys of 10 numbers, so rank 16 is padded."""
    state = empty_state(small(rule, projection=Projection.NONE, key_dim=KEY_DIM))
    numbers = Numbers(77)
    state.matrix[:, :KEY_DIM] = numbers.rows(4, KEY_DIM)
    vector = np.zeros(16, np.float32)
    vector[:KEY_DIM] = numbers.row(KEY_DIM)
    state.normaliser = Normaliser(vector, floor, query_length)
    state.flags = FLAGS
    return state


def _life(state: MatrixState) -> Life:
    return Life(state.parameters, state=state, origin=Origin.UPGRADE)


def _good(made: Recipes) -> None:
    for rule, name in ((0, "outer-product"), (1, "gated-delta"), (2, "preconditioned")):
        life = _life(carrying(rule))
        made.good(f"normaliser-{name}", f"rule {rule} with a normaliser behind its other arrays", life)
    made.good("normaliser-length", "its floor is taken times the query's length", _life(carrying(2, query_length=True)))
    for name, floor in (("least", 2.0**-1022), ("greatest", 2.0**980)):
        made.good(f"normaliser-floor-{name}", f"floor {floor:g}", _life(carrying(2, floor=floor)))
    life = _life(carrying(2))
    life.commit(life.threshold(0.5)).commit(life.forgetting(life.pairs(2))).seal().checkpoint()
    made.good("normaliser-kept", "parameters and forget keep the normaliser, also in the next generation", life)
    life = _life(carrying(2)).write(2)
    made.good("normaliser-dropped", "the first write takes it away, and the flag", life.seal())
    made.good("normaliser-dropped-checkpoint", "the next generation has none", life.write(1).seal().checkpoint())
    life = _life(carrying(1))
    pairs = life.pairs(1)
    pairs.keys[0] = 0
    life.commit(life.writing(pairs)).seal()
    made.good("normaliser-no-op", "a write of a key of zeros takes it away too", life)


def _bad(made: Recipes) -> None:
    data = bytes(_life(carrying(2)).files[NAME])
    vector = 4 * 16 * (4 + 16 + 16) + 64
    scalars = vector + 4 * 16
    for case, shows, offset, new in (
        ("p7-nan", "a number of n is a NaN", vector + 8, struct.pack("<f", math.nan)),
        ("p7-beyond-key-dim", "a number of n past key_dim is not zero", vector + 4 * 12, struct.pack("<f", 1.0)),
        ("p7-minus-zero", "a number of n past key_dim is −0", vector + 4 * 15, struct.pack("<f", -0.0)),
        ("p7-floor-zero", "floor is 0", scalars, struct.pack("<d", 0.0)),
        ("p7-floor-subnormal", "floor is below 2⁻¹⁰²²", scalars, struct.pack("<d", 2.0**-1060)),
        ("p7-floor-large", "floor is above 2⁹⁸⁰", scalars, struct.pack("<d", 2.0**981)),
        ("p7-floor-nan", "floor is a NaN", scalars, struct.pack("<d", math.nan)),
        ("p7-query-length", "query_length is 2", scalars + 8, (2).to_bytes(4, "little")),
        ("p7-reserved", "a reserved byte behind it is 1", scalars + 15, b"\x01"),
    ):
        expected = Expected(LOSS, ("payload-invalid",), "P-7", NAME)
        made.file(case, shows, forge.payload(data, offset, new), expected, NAME)
    plain = bytes(Life(small(2, projection=Projection.HADAMARD)).files[NAME])
    flagged = forge.head(plain, 12, int(Flag.NORMALISER).to_bytes(4, "little"))
    made.file(
        "p7-projection",
        "the flag NORMALISER under projection 1",
        flagged,
        Expected(LOSS, ("header-damaged",), "P-7", NAME),
        NAME,
    )
    missing = bytes(Life(small(2, projection=Projection.NONE)).files[NAME])
    flagged = forge.head(missing, 12, int(Flag.NORMALISER).to_bytes(4, "little"))
    made.file(
        "h11-no-normaliser",
        "the flag NORMALISER, and a payload_bytes without the region",
        flagged,
        Expected(LOSS, ("header-damaged",), "H-11", NAME),
        NAME,
    )
