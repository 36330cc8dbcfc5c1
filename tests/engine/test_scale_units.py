"""What the units compute: equal to what one process does, or refused.

Red when: a document or a problem is lost, doubled or out of order; a file that a worker does not see is skipped; a
vector differs by a bit from the model's; a damaged model or answer is taken; totals differ from emm-verify's; a merged
or learnt memory is outside the stated bound, or depends on how many workers there were; a source that is written to
meanwhile is merged.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import emm
from emm import ExistsError, FormatError, InputError
from emm.verify import Level, Request, Scrub
from emm_engine import Archive, Document, Intake, Scope, documents_below
from emm_engine.embeddings.lsa import LsaProvider
from emm_engine.errors import EmbedderError, WorkError
from emm_engine.scale import embedding, reading
from emm_engine.scale.embedding import EmbedUnit, FannedEmbedder, fanned
from emm_engine.scale.learning import Like, learn_through
from emm_engine.scale.merging import FAN_IN, MergeUnit, Source, merge_groups, merge_through
from emm_engine.scale.partial import Partial
from emm_engine.scale.pool import LocalWorkers
from emm_engine.scale.reading import Reading, ReadUnit
from emm_engine.scale.verifying import Verifying
from tests.engine.scale_units import Here

Make = Callable[..., list[Document]]
LIKE = Like(dim=64, rank=32, key_dim=32, ridge=1.0)
BOUND = 1e-5  # what merging states


@pytest.fixture
def workers(local_workers: LocalWorkers) -> LocalWorkers:
    return local_workers


# --- reading -----------------------------------------------------------------------------------------


def notes(folder: Path) -> Path:
    """Notes in folders, with some that cannot be read."""
    for number in range(90):
        path = folder / f"{number % 7}" / f"note {number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"---\ntags: t{number % 3}\n---\n# Note {number}\n\nThe valve {number} leaks.\n")
    (folder / "3" / "bad.md").write_bytes(b"a\0b")
    (folder / "5" / "empty.txt").write_text("  \n")
    return folder


def test_documents_and_problems_are_those_of_one_process(workers: LocalWorkers, tmp_path: Path) -> None:
    folder = notes(tmp_path / "notes")
    expected: list[tuple[str, str]] = []
    found: list[tuple[str, str]] = []
    alone = list(documents_below(folder, lambda *problem: expected.append(problem)))
    intake = Intake([folder], problem=lambda *problem: found.append(problem))
    read = Reading(workers, intake)
    assert list(read.documents()) == alone
    assert (intake.n_files, intake.n_other, intake.n_skipped) == (92, 0, 1)
    assert found == expected
    assert [source for source, _ in found] == ["3/bad.md"]
    assert read.n_left == 0


def test_files_that_workers_do_not_see_are_read_here(
    workers: LocalWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = notes(tmp_path / "notes")
    monkeypatch.setattr(reading, "_stamp", lambda path: (1, 1))  # not what the workers find
    read = Reading(workers, Intake([folder]))
    assert list(read.documents()) == list(documents_below(folder))
    assert read.n_left == 92


def test_a_missing_folder_is_refused_as_ever(workers: LocalWorkers, tmp_path: Path) -> None:
    with pytest.raises(emm.MissingError):
        Reading(workers, Intake([tmp_path / "nothing"]))


def test_a_document_from_a_worker_is_checked() -> None:
    """A pickle does not run `__post_init__`, so whatever it holds would be stored."""
    forged = Document("source", "title", "text")
    object.__setattr__(forged, "date", "yesterday")

    class Forger:
        count = 1

        def results(self, units: Iterator[ReadUnit]) -> Iterator[object]:
            for unit in units:
                yield tuple(reading.ReadFile((forged,), (), known=True) for _ in unit.files)

    with pytest.raises(InputError, match="not a date"):
        list(Reading(Forger(), Intake([Path(__file__).parent.parent.parent / "docs"])).documents())  # type: ignore[arg-type]


# --- embedding ---------------------------------------------------------------------------------------


def test_vectors_are_the_models_own_to_the_bit(workers: LocalWorkers, make_documents: Make) -> None:
    texts = [document.text for document in make_documents(300)]
    model = LsaProvider().fit(texts, 64)
    through = fanned(model, workers)
    assert isinstance(through, FannedEmbedder)
    np.testing.assert_array_equal(through.embed(texts), model.embed(texts))
    np.testing.assert_array_equal(through.embed(texts[:1]), model.embed(texts[:1]))
    assert through.embed([]).shape == (0, 64)
    assert (through.fingerprint, through.dim) == (model.fingerprint, model.dim)


def test_a_worker_without_the_model_asks_for_it_and_takes_no_other(make_documents: Make) -> None:
    texts = tuple(document.text for document in make_documents(20))
    model = LsaProvider().fit(texts, 16)
    unit = EmbedUnit("lsa", model.fingerprint, texts)
    embedding._models.clear()
    assert unit.run() is None
    data = bytearray(model.to_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(EmbedderError, match="changed on its way"):
        replace(unit, model=bytes(data)).run()
    assert replace(unit, model=model.to_bytes()).run() is not None
    assert unit.run() is not None  # it is held now
    assert unit.identity == replace(unit, model=model.to_bytes()).identity


@dataclass
class Liar:
    """Workers whose vectors are wrong."""

    rows: np.ndarray
    count: int = 1

    def results(self, units: object) -> Iterator[np.ndarray]:
        yield self.rows


@pytest.mark.parametrize(
    "rows",
    [np.zeros((1, 16), np.float64), np.zeros((2, 16), np.float32), np.full((1, 16), np.nan, np.float32)],
    ids=["doubles", "another shape", "not finite"],
)
def test_vectors_that_cannot_be_are_refused(rows: np.ndarray, make_documents: Make) -> None:
    model = LsaProvider().fit([document.text for document in make_documents(20)], 16)
    with pytest.raises(WorkError):
        FannedEmbedder(model, "lsa", Liar(rows)).embed(["one text"])  # type: ignore[arg-type]


# --- memories ----------------------------------------------------------------------------------------


def pairs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    keys = chance.standard_normal((count, LIKE.key_dim), np.float32) / np.float32(LIKE.key_dim) ** 0.5
    return keys.astype(np.float32), chance.standard_normal((count, LIKE.dim), np.float32)


def memories(folder: Path, count: int) -> list[Path]:
    """Memories of 30 pairs each."""
    folder.mkdir()
    for number in range(count):
        with LIKE.create(folder / f"run-{number:02}") as memory:
            memory.write(*pairs(30, number))
    return sorted(folder.iterdir())


def test_verify_gives_the_targets_and_totals_of_emm_verify(workers: LocalWorkers, tmp_path: Path) -> None:
    paths = memories(tmp_path / "tree", 11)
    damaged = paths[4] / "0000000000000001.emm"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 4
    damaged.write_bytes(data)
    (tmp_path / "tree" / "loose.wal").write_bytes(b"EMM?")
    urls = (str(tmp_path / "tree"), str(tmp_path / "nowhere"))
    for level in (Level.BLOCKS, Level.NUMERIC):
        alone = Scrub(Request(urls, level))
        expected = [target.to_dict() for target in alone.run()]
        check = Verifying(workers, urls, level)
        assert [target.to_dict() for target in check.targets()] == expected
        assert check.totals.to_dict() == alone.totals.to_dict()
    assert check.totals.exit_code in (3, 4)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_up_to_the_fan_in_a_merge_is_that_of_one_process_to_the_bit(workers: LocalWorkers, tmp_path: Path) -> None:
    paths = memories(tmp_path / "runs", FAN_IN)
    sources = [Source.at(path) for path in paths]
    with (
        threadpool_limits(1),
        emm.merge([str(path) for path in paths], str(tmp_path / "alone")) as expected,
        merge_through(workers, sources, tmp_path / "merged") as found,
    ):
        assert found.digest == expected.digest
        assert found.write_count == expected.write_count == 30 * FAN_IN
    assert emm.verify(str(tmp_path / "merged"), level="numeric").exit_code == 0


def test_a_tree_of_merges_is_within_the_bound_and_the_same_for_any_workers(
    workers: LocalWorkers, tmp_path: Path
) -> None:
    paths = memories(tmp_path / "runs", 2 * FAN_IN + 3)
    sources = [Source.at(path) for path in paths]
    with (
        emm.merge([str(path) for path in paths], str(tmp_path / "alone")) as expected,
        merge_through(workers, sources, tmp_path / "two") as two,
        merge_through(Here(), sources, tmp_path / "one") as one,
    ):
        assert two.digest == one.digest
        assert relative(two.matrix, expected.matrix) < BOUND
        assert two.write_count == expected.write_count


def test_a_roll_up_by_workers_is_that_of_one_process(
    workers: LocalWorkers, tmp_path: Path, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emm_engine.matrices.rollup.FAN_IN", 2)
    project = Scope("lab", "code", "debian")
    with Archive.create(tmp_path / "archive") as archive:
        for number in range(5):
            archive.ingest(make_documents(12, seed=number), replace(project, run=f"run-{number}"))
    shutil.copytree(tmp_path / "archive", tmp_path / "copy")
    digests = []
    for name, group_merge in (("archive", None), ("copy", functools.partial(merge_groups, workers))):
        with Archive.open(tmp_path / name) as archive, threadpool_limits(1):
            (report,) = archive.rollup(project, group_merge)
        assert (report.outcome, report.n_runs) == ("made", 5)
        with emm.open(str(tmp_path / name / project.memory_path)) as memory:
            digests.append((memory.digest, memory.write_count))
    assert digests[0] == digests[1]


def test_learning_in_parts_is_within_the_bound_and_the_same_for_any_workers(
    workers: LocalWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emm_engine.scale.learning.PAIRS_PER_PART", 100)
    keys, values = pairs(1050)
    with (
        LIKE.create(tmp_path / "alone") as expected,
        learn_through(workers, LIKE, keys, values, tmp_path / "two") as two,
        learn_through(Here(), LIKE, keys, values, tmp_path / "one") as one,
    ):
        expected.write(keys, values)
        assert two.digest == one.digest
        assert relative(two.matrix, expected.matrix) < BOUND
        assert relative(two.recall(keys), expected.recall(keys)) < BOUND
        assert two.write_count == 1050


def test_pairs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    keys, values = pairs(10)
    for wrong in ((keys[:0], values[:0]), (keys[:5], values), (keys[:, :5], values), (keys, values[:, 0])):
        with pytest.raises(InputError, match="do not fit"):
            learn_through(Here(), LIKE, *wrong, tmp_path / "memory")
    assert not (tmp_path / "memory").exists()


def test_a_source_that_was_written_to_meanwhile_is_refused(tmp_path: Path) -> None:
    (path,) = memories(tmp_path / "runs", 1)
    unit = MergeUnit((Source.at(path),))
    assert unit.run().n_pairs == 30
    with emm.open(str(path), mode="a") as memory:
        memory.write(*pairs(1, 9))
    with pytest.raises(InputError, match="not as it was"):
        unit.run()


def test_nothing_is_replaced_by_a_merge(tmp_path: Path) -> None:
    sources = [Source.at(path) for path in memories(tmp_path / "runs", 2)]
    (tmp_path / "taken").mkdir()
    with pytest.raises(ExistsError):
        merge_through(Here(), sources, tmp_path / "taken")
    with pytest.raises(InputError, match="nothing to merge"):
        merge_through(Here(), [], tmp_path / "merged")


def test_a_damaged_partial_memory_is_not_put_anywhere(tmp_path: Path) -> None:
    (path,) = memories(tmp_path / "runs", 1)
    partial = MergeUnit((Source.at(path),)).run()
    data = bytearray(partial.data)
    data[len(data) // 2] ^= 1
    with pytest.raises(FormatError):
        replace(partial, data=bytes(data)).put(tmp_path / "put")
    with pytest.raises(FormatError, match="not the name"):
        replace(partial, name="../0000000000000001.emm").put(tmp_path / "put")
    assert not (tmp_path / "put").exists()
    assert Partial.of(partial.put(tmp_path / "put")) == partial


def test_an_identity_is_a_hash_of_the_whole_input(tmp_path: Path) -> None:
    first, second = EmbedUnit("lsa", "f", ("ab", "c")), EmbedUnit("lsa", "f", ("a", "bc"))
    assert first.identity != second.identity
    kind, _, digest = first.identity.partition("-")
    assert kind == "embed"
    assert len(digest) == len(hashlib.sha256().hexdigest())
