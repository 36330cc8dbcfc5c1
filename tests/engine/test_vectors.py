"""The embedded stores hold to the contract, and the vector log is never wrong when damaged.

Red when: a store breaks the contract; a record counts without its CRC; a torn tail hides the records before it, or
stays in front of those appended after it; a removed id comes back because one record was damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emm_engine.vectors.exact import ExactVectors
from emm_engine.vectors.log import HEADER, TruthLog
from emm_engine.vectors.sealing import Tuning
from emm_engine.vectors.segmented import SegmentedVectors
from tests.engine.vector_store_contract import (
    DIM,
    FINGERPRINT,
    NAME,
    VectorStoreContract,
    hashes,
    put,
    unit,
)

SMALL = Tuning(tail_max=8, index_min=1 << 30, fan_in=3)  # segments and merges from the first vectors on, no index


class TestExactVectors(VectorStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[..., ExactVectors]:
        return lambda fingerprint=FINGERPRINT: ExactVectors(tmp_path, DIM, fingerprint)


class TestSegmentedVectors(VectorStoreContract):
    """As archives use it: these few vectors stay in the tail."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[..., SegmentedVectors]:
        return lambda fingerprint=FINGERPRINT: SegmentedVectors(tmp_path, DIM, fingerprint)


class TestSegments(VectorStoreContract):
    """Nearly everything sealed, and merged whenever a handle is opened."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[..., SegmentedVectors]:
        def opened(fingerprint: str = FINGERPRINT) -> SegmentedVectors:
            store = SegmentedVectors(tmp_path, DIM, fingerprint, SMALL, background=False)
            if fingerprint == FINGERPRINT:
                for path in tmp_path.rglob("*.vec"):
                    store.maintain("t:" + str(path.relative_to(tmp_path / "t").with_suffix("")))
            return store

        return opened


# --- the log ---------------------------------------------------------------------------------------

STORES = [ExactVectors, SegmentedVectors]


def path_of(folder: Path) -> Path:
    return folder / "t" / "d" / "p" / "r.vec"


def told(ids: np.ndarray) -> dict[int, int]:
    return dict(zip(ids.tolist(), hashes(ids).tolist(), strict=True))


def fill(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    ids, rows = np.arange(3, 3 + count), unit(count)
    put(ExactVectors(folder, DIM, FINGERPRINT), ids, rows)
    return ids, rows


@pytest.mark.parametrize("store", STORES)
def test_a_torn_tail_at_every_length_loses_only_the_torn_record(tmp_path: Path, store: type[ExactVectors]) -> None:
    ids, rows = fill(tmp_path, 4)
    path = path_of(tmp_path)
    whole = path.read_bytes()
    record = (len(whole) - HEADER.size) // 4
    for length in range(len(whole) - record + 1, len(whole), 1 if store is ExactVectors else 9):
        path.write_bytes(whole[:length])
        opened = store(tmp_path, DIM, FINGERPRINT)
        assert opened.missing(NAME, told(ids)).tolist() == [ids[3]]
        put(opened, ids[3:], rows[3:])
        assert path.read_bytes() == whole  # published clean, then appended


@pytest.mark.parametrize("store", STORES)
def test_any_flipped_bit_loses_vectors_but_never_changes_one(tmp_path: Path, store: type[ExactVectors]) -> None:
    ids, rows = fill(tmp_path, 5)
    path = path_of(tmp_path)
    whole = path.read_bytes()
    for at in range(0, len(whole), 1 if store is ExactVectors else 7):  # both have the same log
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        opened = store(tmp_path, DIM, FINGERPRINT)
        missing = set(opened.missing(NAME, told(ids)).tolist())
        assert len(missing) == (5 if at < HEADER.size else 1), at
        scores = [opened.scores(NAME, row, ids[number : number + 1])[0] for number, row in enumerate(rows)]
        assert [score == 0.0 for score in scores] == [identity in missing for identity in ids.tolist()]


@pytest.mark.parametrize("store", STORES)
def test_no_flipped_bit_brings_a_removed_vector_back(tmp_path: Path, store: type[ExactVectors]) -> None:
    """A removal was one record; damage to it made the vector before it current again, and nobody could know."""
    ids, _ = fill(tmp_path, 3)
    path = path_of(tmp_path)
    size = path.stat().st_size
    store(tmp_path, DIM, FINGERPRINT).remove(NAME, ids[1:2])
    whole = path.read_bytes()
    for at in range(size, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << (at % 8)]) + whole[at + 1 :])
        assert store(tmp_path, DIM, FINGERPRINT).missing(NAME, told(ids)).tolist() == [ids[1]], at


def test_held_vectors_leave_the_file_alone(tmp_path: Path) -> None:
    ids, rows = fill(tmp_path, 3)
    before = path_of(tmp_path).read_bytes()
    for store in STORES:
        opened = store(tmp_path, DIM, FINGERPRINT)
        opened.hold(NAME, ids + 50, rows, hashes(ids))
        assert opened.count(NAME) == 6 and path_of(tmp_path).read_bytes() == before


@pytest.mark.parametrize("store", STORES)
def test_appending_does_not_read_the_whole_log_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: type[ExactVectors]
) -> None:
    """Each append checked the file from its start: 40,000 vectors onto 40,000 took 18 s."""
    opened = store(tmp_path, DIM, FINGERPRINT)
    put(opened, np.arange(8), unit(8))
    monkeypatch.setattr(TruthLog, "read", lambda *_: pytest.fail("the log was read again"))
    put(opened, np.arange(8, 16), unit(8))
    assert opened.count(NAME) == 16


@pytest.mark.parametrize("store", STORES)
def test_after_compaction_no_file_holds_a_removed_or_replaced_vector(tmp_path: Path, store: type[ExactVectors]) -> None:
    opened, rows = store(tmp_path, DIM, FINGERPRINT), unit(40)
    put(opened, np.arange(30), rows[:30])
    put(opened, np.arange(10), rows[30:])
    opened.remove(NAME, np.arange(20, 30))
    dead = path_of(tmp_path).with_name(f".r.vec.{0:016x}.tmp")  # of a writer that died while it wrote the log anew
    dead.write_bytes(path_of(tmp_path).read_bytes())
    opened.compact(NAME)
    data = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert [number for number in range(40) if rows[number].tobytes() in data] == [*range(10, 20), *range(30, 40)]
    assert opened.count(NAME) == 20
