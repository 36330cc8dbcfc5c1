"""Opening and upgrading v3 files. Each test says what would turn it red."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest

import emm
from emm.errors import EmmError, FencedError
from emm.layout import Flag, Origin
from emm.testing.keys import text_like_keys, unit_values
from emm.upgrading import plan_upgrade, upgrade
from emm.v3.layout import V3Flag
from emm.v3.upgrade import WEIGHT_MAX, gram_estimate
from spec.vectors.case import CLEAN
from spec.vectors.v3 import cases, written
from tests.v3.conftest import Lab, make_lab

GOOD = [case for case in cases() if case.verdict == CLEAN]
QUERY = V3Flag.SCALE_ON_QUERY
PLACES = [V3Flag(0), QUERY, V3Flag.KEYS_NORMALISED, QUERY | V3Flag.KEYS_NORMALISED, V3Flag.SIGMOID_INPUT]


def cosines(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return np.einsum("ij,ij->i", found, wanted) / lengths


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def upgraded(lab: Lab, target: Path, **given: object) -> emm.Memory:
    return upgrade(plan_upgrade(lab.path, target, **given))  # type: ignore[arg-type]


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_v3_13_a_file_opened_for_reading_answers_as_the_cell_did(case, tmp_path: Path) -> None:
    """Red when opening loses the normaliser, the stabiliser or a factor √d, or writes anything."""
    path = tmp_path / "old.emm"
    path.write_bytes(case.data)
    with emm.open(path) as memory:
        found = memory.recall(np.array(case.queries, np.float32))
        assert (memory.lsn, memory.write_count, memory.url) == (0, 0, str(path))
        assert any("v3 file" in notice for notice in memory.notices)
        with pytest.raises(emm.InputError):
            memory.write(np.zeros((1, memory.key_dim)), np.zeros((1, memory.dim)))
    wanted = np.array(case.answers)
    assert np.abs(found - wanted).max() <= 2e-5 * max(np.abs(wanted).max(), 1e-30)
    assert tree(tmp_path) == {"old.emm": case.data}


@pytest.mark.parametrize("flags", PLACES)
def test_v3_13_direction_and_magnitude_are_kept_for_every_stored_key(flags: V3Flag, tmp_path: Path) -> None:
    """Red when a stored key is answered in another direction or at another length than by the cell."""
    lab = make_lab(tmp_path / "cell.v3", dim=64, n=200, flags=flags, forget=0.99, log_input=-0.5)
    wanted = np.array([lab.cell.read(key) for key in lab.keys])
    with upgraded(lab, tmp_path / "new") as memory:
        found = memory.recall(lab.keys)
    assert cosines(found, wanted).min() >= 0.9999
    lengths = np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)
    assert np.abs(lengths - 1).max() <= 1e-4


def test_v3_13_both_places_of_the_factor_give_one_memory(tmp_path: Path) -> None:
    """Red when the upgrade of one public convention is √d times that of the other."""
    first = make_lab(tmp_path / "key.v3")
    second = make_lab(tmp_path / "query.v3", flags=QUERY)
    with emm.open(first.path) as one, emm.open(second.path) as two:
        assert np.abs(one.matrix - two.matrix).max() <= 1e-6 * np.abs(one.matrix).max()
        inverses = [memory.inverse_gram for memory in (one, two)]
        assert inverses[0] is not None and inverses[1] is not None
        assert np.abs(inverses[0] - inverses[1]).max() <= 1e-3


def test_a_broken_file_opens_in_no_mode_and_leaves_nothing(tmp_path: Path) -> None:
    """Red when damage is upgraded, or a refusal leaves a directory behind."""
    path = tmp_path / "bad.v3"
    for case in cases():
        if case.verdict == CLEAN:
            continue
        path.write_bytes(case.data)
        for act in (
            lambda: emm.open(path),
            lambda: emm.open(path, "a"),
            lambda: plan_upgrade(path, tmp_path / "new"),
        ):
            with pytest.raises(EmmError):
                act()
        assert tree(tmp_path) == {"bad.v3": case.data} and os.listdir(tmp_path) == ["bad.v3"]


# --- publishing ----------------------------------------------------------------------------------


def test_opening_for_append_publishes_beside_and_goes_on_there(lab: Lab) -> None:
    """Red when the v3 file is touched, or the second opening starts anew and hides what was written."""
    before = lab.path.read_bytes(), os.stat(lab.path).st_mtime_ns
    with emm.open(lab.path, "a") as memory:
        assert memory.url == f"{lab.path}.v4"
        memory.write(lab.keys[:1], lab.values[:1])
        digest = memory.digest
    with emm.open(lab.path, "a") as memory:
        assert (memory.digest, memory.lsn) == (digest, 1)
    with emm.open(lab.path) as memory:
        assert memory.lsn == 0
    assert (lab.path.read_bytes(), os.stat(lab.path).st_mtime_ns) == before
    assert emm.verify(f"{lab.path}.v4", "numeric").verdict == "clean"


def test_v3_14_lineage_and_metadata_name_the_file(lab: Lab, tmp_path: Path) -> None:
    """Red when an upgraded memory does not say from what, or forgets it in a later generation."""
    sha256 = hashlib.sha256(lab.path.read_bytes()).hexdigest()
    with upgraded(lab, tmp_path / "new") as memory:
        snapshot = memory._session.snapshot
        assert (snapshot.generation, snapshot.lsn, snapshot.lineage.origin) == (1, 0, Origin.UPGRADE)
        assert snapshot.lineage.parent_sha256.hex() == sha256 and snapshot.lineage.expand_at == 0
        assert memory.metadata == {"upgrade": {"format": "emm-v3", "sha256": sha256, "pairs": None}}
        assert memory.flags == Flag.NORMALISER | Flag.FOREIGN_PAIRS | Flag.DECAYED
        with emm.open(lab.path) as read:
            assert read.digest == memory.digest
        for _ in range(5):
            memory.write(lab.keys[:1], lab.values[:1])
            memory.checkpoint()
        memory.prune(keep=1, journal=True)
    with emm.open(tmp_path / "new") as memory:
        assert memory.metadata["upgrade"]["sha256"] == sha256
    assert plan_upgrade(lab.path, tmp_path / "new").done


def test_upgrading_again_changes_nothing_and_is_told(lab: Lab, tmp_path: Path) -> None:
    """Red when a second upgrade writes, or passes over a memory of something else."""
    target = tmp_path / "new"
    upgraded(lab, target).close()
    before = tree(tmp_path)
    plan = plan_upgrade(lab.path, target)
    assert plan.done
    with pytest.raises(emm.ExistsError):
        upgrade(plan)
    other = make_lab(tmp_path / "other.v3", n=3)
    with pytest.raises(emm.ExistsError, match="not upgraded from this file"):
        plan_upgrade(other.path, target)
    with pytest.raises(emm.ExistsError, match="not with these pairs"):
        plan_upgrade(lab.path, target, pairs=(lab.keys, lab.values))
    emm.create(tmp_path / "plain", dim=4, rank=16, key_dim=16).close()
    with pytest.raises(emm.ExistsError, match="not upgraded from this file"):
        plan_upgrade(lab.path, tmp_path / "plain")
    with pytest.raises(emm.ExistsError):
        plan_upgrade(lab.path, other.path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(emm.ExistsError, match="not empty"):
        plan_upgrade(lab.path, tmp_path / "full")
    assert {name: data for name, data in tree(tmp_path).items() if name in before} == before


def test_a_held_memory_is_fenced(lab: Lab) -> None:
    """Red when two writers get the memory beside one v3 file."""
    with emm.open(lab.path, "a"), pytest.raises(FencedError):
        emm.open(lab.path, "a")


def test_an_empty_directory_that_a_crash_left_is_filled(lab: Lab, tmp_path: Path) -> None:
    """Red when what a killed upgrade leaves (a directory, a temporary file) stands in the way of the next."""
    target = tmp_path / "new"
    target.mkdir()
    (target / ".emm-000000000000000000000001.tmp").write_bytes(b"half")
    with upgraded(lab, target) as memory:
        assert memory.generation == 1
    assert sorted(os.listdir(target)) == ["0000000000000001.emm"]


# --- after the upgrade ---------------------------------------------------------------------------


def test_the_first_write_ends_the_normaliser_also_for_who_opens_later(lab: Lab, tmp_path: Path) -> None:
    """Red when a reopened memory divides by a normaliser that the running one had dropped."""
    upgraded(lab, tmp_path / "new").close()
    with emm.open(tmp_path / "new", "a") as memory:
        assert any("normaliser" in notice for notice in memory.notices)
        memory.write(lab.keys[:2], lab.values[:2])
        answers, digest = memory.recall(lab.keys), memory.digest
        assert Flag.NORMALISER not in memory.flags
        with emm.open(tmp_path / "new") as replayed:
            assert (replayed.digest, replayed.replayed) == (digest, 1)
            assert replayed.recall(lab.keys).tobytes() == answers.tobytes()
    assert emm.verify(tmp_path / "new", "numeric").verdict == "clean"
    with emm.open(tmp_path / "new") as reopened:
        assert reopened.generation == 2 and reopened.digest == digest and not reopened.notices


def test_v3_15_old_pairs_survive_new_writes(tmp_path: Path) -> None:
    """Red when P starts as the prior again (old top-1 falls to 0 after 512 writes), or new pairs are not learnt."""
    n, dim = 64, 256
    keys, values = text_like_keys(n + 512, dim, 0), unit_values(n + 512, dim, 0)
    lab = make_lab(tmp_path / "cell.v3", dim=dim, n=1)
    for key, value in zip(keys[:n], values[:n], strict=True):
        lab.cell.write(key, value)
    lab.path.write_bytes(lab.cell.bytes())

    def top1(memory: emm.Memory, rows: slice) -> float:
        scores = memory.recall(keys[rows]) @ values.T
        return float(np.mean(np.argmax(scores, axis=1) == np.arange(len(values))[rows]))

    with upgraded(lab, tmp_path / "new") as memory:
        memory.write(keys[n:], values[n:])
        assert top1(memory, slice(0, n)) >= 0.9
        assert top1(memory, slice(n, None)) >= 0.9


def test_v3_15_the_estimate_does_not_depend_on_the_scale_of_the_values() -> None:
    """Red when long values make the memory rigid and short ones make it forget."""
    matrix = written(32, 12).matrix
    weights, _ = gram_estimate(matrix)
    for factor in (1e-30, 1e-3, 1e3, 1e30):
        again, _ = gram_estimate(matrix * factor)
        np.testing.assert_allclose(again, weights, rtol=1e-9, atol=1e-9)
    squares = np.linalg.svd(matrix, compute_uv=False)[::-1] ** 2
    used = squares > squares[-1] * 2.0**-20
    expected = np.minimum(squares * used.sum() / squares.sum(), WEIGHT_MAX)  # the rule, without its code
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-9)
    assert used.sum() == 12 and 0.5 < weights[used].mean() <= 1.0
    assert not gram_estimate(np.zeros((4, 4)))[0].any()


def test_an_upgraded_memory_does_not_merge_and_unlearns_only_its_own_pairs(lab: Lab, tmp_path: Path) -> None:
    """Red when P, which is a guess, is added up as if it were a Gram matrix, or a pair of v3 is taken out."""
    with upgraded(lab, tmp_path / "new") as memory:
        with pytest.raises(emm.InputError, match="cannot merge"):
            emm.merge([memory, memory], tmp_path / "merged")
        with pytest.raises(emm.HistoryError):
            memory.unlearn(lab.keys[:1], lab.values[:1])
        key, value = text_like_keys(30, 40, 9)[-1:], unit_values(30, 40, 9)[-1:]
        before = memory.matrix.copy()
        memory.write(key, value)
        memory.unlearn(key, value)
        assert np.abs(memory.matrix - before).max() <= 1e-4


# --- with the original pairs ---------------------------------------------------------------------


@pytest.mark.parametrize("flags", PLACES)
def test_v3_16_with_its_pairs_the_memory_is_that_of_the_pairs(flags: V3Flag, tmp_path: Path) -> None:
    """Red when anything of C̃ gets into a memory that is solved from pairs, or gates are guessed."""
    lab = make_lab(tmp_path / "cell.v3", flags=flags, forget=0.95)
    long = (lab.keys * 3).astype(np.float32)
    with upgraded(lab, tmp_path / "new", pairs=(long, lab.values)) as memory:
        assert (memory.flags, memory.write_count, memory.lsn) == (Flag.FOREIGN_PAIRS, 20, 0)
        stored = lab.keys if flags & V3Flag.KEYS_NORMALISED else long
        assert cosines(memory.recall(stored), lab.values).min() > 0.99
        with emm.create(tmp_path / "direct", dim=40, rank=48, key_dim=40, projection="none") as direct:
            direct.write(stored, lab.values)
            difference = np.abs(direct.matrix - memory.matrix).max()
    assert difference <= 1e-4
    assert plan_upgrade(lab.path, tmp_path / "new", pairs=(long, lab.values)).done


def test_v3_16_pairs_of_another_file_are_refused(lab: Lab, tmp_path: Path) -> None:
    """Red when a wrong file of pairs becomes a memory under the v3 file's name."""
    strangers = np.random.default_rng(8).standard_normal((2, 20, 40)).astype(np.float32)
    with pytest.raises(emm.InputError) as caught:
        plan_upgrade(lab.path, tmp_path / "new", pairs=(strangers[0], strangers[1]))
    assert caught.value.rule == "V3-16" and not (tmp_path / "new").exists()
    for wrong in ((lab.keys, lab.values[:3]), (lab.keys[:, :7], lab.values), (lab.keys[:0], lab.values[:0])):
        with pytest.raises(emm.InputError):
            plan_upgrade(lab.path, tmp_path / "new", pairs=wrong)


def test_a_file_in_an_object_store_is_read_there_and_upgraded_elsewhere(lab: Lab, tmp_path: Path) -> None:
    """Red when a remote v3 file cannot be read, or something is written beside it."""
    store = fsspec.filesystem("memory")
    url = "memory://v3-lab/cell.v3"
    with store.open("/v3-lab/cell.v3", "wb") as file:
        file.write(lab.path.read_bytes())
    try:
        with emm.open(url) as far, emm.open(lab.path) as near:
            assert far.digest == near.digest
        assert emm.verify(url, "numeric").verdict == "clean"
        with pytest.raises(emm.UnsupportedError):
            emm.open(url, "a")
        upgrade(plan_upgrade(url, tmp_path / "new")).close()
        assert plan_upgrade(lab.path, tmp_path / "new").done
        assert [each["name"] for each in store.ls("/v3-lab")] == ["/v3-lab/cell.v3"]
    finally:
        store.rm("/v3-lab", recursive=True)
