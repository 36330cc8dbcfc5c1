"""Export and import: a scope as an archive of its own, and that in another archive.

Red when: a table or a column of a run stays behind; a memory's digest, a quote, a label, a supersession or an answer
differs; a byte of another tenant is in the exported files; a kill leaves half an export under its name, or a run
half in an archive; importing twice doubles anything, or overwrites a namesake; a catalog that somebody has altered
is believed.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Archive, CatalogError, Document, EmbedderError, Label, Progress, Scope, ScopeError
from emm_engine.catalog.transfer import APART, OF_A_DOMAIN, TRAVELLING
from emm_engine.documents import Marked, Passage
from emm_engine.hierarchy import Shape, Tenant, parse_place
from emm_engine.models.keys import keys_beside
from emm_engine.settings import SHARING_DREAM
from tests.engine.killing import Moment, killed_at

Make = Callable[..., list[Document]]
RUNS = [Scope.parse(f"lab:small/{name}") for name in ("p/a", "p/b", "q/c")]
OTHER = Scope("lab", "second", "p", "d")
RIVAL = Scope("rivalling", "small", "secretproject", "hiddenrun")
SECRET = "xylophone quarantine"
QUESTIONS = ("pressure of the pump valve", "rotor bearing verdict", "locale of the archive")


def versions(*texts: str) -> list[Document]:
    return [
        Document("n", f"note {n}", f"rotor bearing {text} {n}", labels=(Label("verdict", text),), key=f"k{n}")
        for text in texts
        for n in range(4)
    ]


def marked() -> Document:
    """Cut by its source: a key of its own, and labels with the characters that say them."""
    text = "at 80 C and 5 bar the yield was high"
    outcome = Marked(Label("outcome", "yield high"), 22, 36)
    return Document("m", "marked", text, passages=(Passage(0, len(text), key=(0, 17), labels=(outcome,)),))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, make_documents: Make) -> Path:
    """Two tenants, three domains, versions, settings, a closed run."""
    path = tmp_path_factory.mktemp("original") / "archive"
    with Archive.create(path) as opened:
        opened.domains.add("small", Shape(32, 128))
        opened.domains.add("second", Shape(16, 64))
        secret = Document("vault/secretfile", SECRET, f"{SECRET} pump valve", labels=(Label("secretkind", SECRET),))
        opened.ingest([*make_documents(6, seed=8), secret], RIVAL)
        for seed, run in enumerate(RUNS):
            opened.ingest(make_documents(9, seed=seed), run)
        opened.ingest([*versions("sound"), marked()], RUNS[0])
        opened.ingest(versions("leaking"), RUNS[0])
        opened.ingest(make_documents(3, seed=7), OTHER)
        opened.settings.set(RUNS[0], SHARING_DREAM, True)
        opened.settings.set(Tenant("lab"), SHARING_DREAM, True)
        opened.settings.set(RIVAL, SHARING_DREAM, True)
        opened.close_scope(RUNS[1])
    return path


@pytest.fixture(scope="module")
def exported(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "small"
    with Archive.open(original) as opened:
        opened.export(Scope("lab", "small"), path)
    return path


def answers(archive: Archive, scopes: list[Scope], *, lexical: bool = True) -> list[object]:
    """What is answered, without what names ids or scopes."""
    found = []
    for scope in scopes:
        for question in QUESTIONS:
            answer = json.loads(archive.ask(question, scope, k=9, token_budget=9999).to_json())
            cited = [{k: v for k, v in each.items() if not k.endswith("_id")} for each in answer["citations"]]
            linked = [
                {**each, "evidence": [{k: v for k, v in e.items() if not k.endswith("_id")} for e in each["evidence"]]}
                for each in answer["associations"]
            ]
            found.append((cited, linked, answer["notes"]) if lexical else (linked, answer["notes"]))
    return found


def rows(archive: Archive, scope: Scope) -> list[tuple[object, ...]]:
    """All that the catalog says of a run, without ids: documents, labels, spans, versions, pairs, batches."""
    (run,) = archive._catalog.runs(scope)
    said = [
        "SELECT source, title, date, version_key, text, content_sha256, superseded FROM documents WHERE scope_id = ? "
        "ORDER BY document_id",
        "SELECT start, end, key_start, key_end, text_hash, superseded, written_by IS NULL, unlearned_by IS NULL "
        "FROM passages JOIN pairs USING(passage_id) WHERE passages.scope_id = ? ORDER BY passage_id",
        "SELECT start, kind, name, span_start, span_end FROM passages JOIN passage_labels USING(passage_id) "
        "JOIN labels USING(label_id) WHERE scope_id = ? ORDER BY passage_id, kind, name",
        "SELECT title, kind, name, span_start, span_end FROM documents JOIN document_labels USING(document_id) "
        "JOIN labels USING(label_id) WHERE scope_id = ? ORDER BY document_id, kind, name",
        "SELECT text_hash, kind, name, weight, span_start, span_end FROM passages JOIN pair_labels USING(passage_id) "
        "JOIN labels USING(label_id) WHERE scope_id = ? ORDER BY passage_id, kind, name",
        "SELECT old.text, new.text FROM supersessions JOIN documents AS old ON old.document_id = old_document_id "
        "JOIN documents AS new ON new.document_id = new_document_id WHERE old.scope_id = ? ORDER BY old_document_id",
        "SELECT kind, n_pairs, write_count_before, lsn FROM batches WHERE scope_id = ? ORDER BY batch_id",
    ]
    return [row for sql in said for row in archive._catalog.query(sql, (run.scope_id,))]


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def vectors(archive: Archive, scope: Scope) -> np.ndarray:
    """Of every passage, in their order; none may be missing."""
    (run,) = archive._catalog.runs(scope)
    store = archive._side().store(run)
    assert store is not None
    rows = archive._catalog.query("SELECT passage_id FROM passages WHERE scope_id = ? ORDER BY 1", (run.scope_id,))
    ids = np.array(rows, np.int64)[:, 0]
    found, numbers = store.fetch(str(scope), ids)
    assert np.array_equal(found, ids)
    return numbers


def same(archive: Archive, original: Path, names: dict[Scope, Scope]) -> None:
    """The runs of an archive are those of the original, to the bit."""
    with Archive.open(original) as before:
        for old, new in names.items():
            assert rows(archive, new) == rows(before, old)
            assert files(archive.memory_path(new)) == files(before.memory_path(old))
            assert np.array_equal(vectors(archive, new), vectors(before, old))
            held = [side._models.store_of(side._catalog.runs(run)[0]) for side, run in ((archive, new), (before, old))]
            counts = [store.count(keys_beside(str(run))) for store, run in zip(held, (new, old), strict=True) if store]
            assert counts == [int(old == RUNS[0])] * 2
            assert archive.settings.get(new, SHARING_DREAM) == (old == RUNS[0])  # said of the run, not of the tenant


def test_every_table_of_the_catalog_travels_or_says_that_it_does_not(original: Path) -> None:
    """Red when a migration brings a table that export forgets."""
    with Archive.open(original) as opened:
        tables = {name for name in opened._catalog.database.columns() if not name.startswith("fulltext_")}
        assert tables == {each.name for each in TRAVELLING} | set(OF_A_DOMAIN) | APART


def test_an_exported_domain_answers_as_before(original: Path, exported: Path) -> None:
    with Archive.open(exported) as opened, Archive.open(original) as before:
        assert opened.scopes() == RUNS
        same(opened, original, {run: run for run in RUNS})
        everything = [*RUNS, Scope("lab", "small", "p"), Scope("lab", "small")]
        assert answers(opened, everything, lexical=False) == answers(before, everything, lexical=False)
        with pytest.raises(ScopeError, match="is closed"):
            opened.ingest([], RUNS[1])
        assert opened.domains.shape_of("small") == Shape(32, 128) and "second" not in opened.domains.all()
    assert emm.verify(str(exported)).verdict == "clean"


def test_an_exported_tenant_answers_to_the_bit(original: Path, tmp_path: Path) -> None:
    """The words of a tenant are counted over all its runs, so scores are equal where all of them are there."""
    with Archive.open(original) as before:
        report = before.export(Tenant("lab"), tmp_path / "lab")
        with Archive.open(tmp_path / "lab") as opened:
            assert opened.scopes() == sorted([*RUNS, OTHER])
            assert answers(opened, opened.scopes()) == answers(before, opened.scopes())
        assert [run.outcome for run in report.runs] == ["copied"] * 4
        assert report.runs[1].digest and report.runs[1].memory_bytes > 1000


@pytest.mark.parametrize("place", ["lab:small/p/a", "lab:small/p", "lab:small", "lab:"])
def test_no_byte_of_another_tenant_is_exported(original: Path, place: str, tmp_path: Path) -> None:
    with Archive.open(original) as opened:
        opened.export(parse_place(place), tmp_path / "out")
        forbidden = [*SECRET.split(), "rivalling", "secretproject", "hiddenrun", "secretfile", "secretkind"]
        row = opened._catalog.runs(RIVAL)[0]
        known = opened._catalog.embedder("rivalling", "small")
        assert known is not None and row.memory_uuid is not None
    found = files(tmp_path / "out")
    for needle in [*map(str.encode, [*forbidden, row.memory_uuid, known[1]]), bytes.fromhex(row.memory_uuid)]:
        assert not [name for name, data in found.items() if needle in data or needle in name.encode()], needle
    assert [name for name, data in files(original).items() if b"xylophone" in data]  # the needle would be found


def test_only_the_scope_is_exported(original: Path, tmp_path: Path) -> None:
    with Archive.open(original) as opened:
        opened.export(RUNS[1], tmp_path / "out")
    with Archive.open(tmp_path / "out") as opened:
        assert opened.scopes() == [RUNS[1]]
        titles = [row[0] for row in opened._catalog.query("SELECT title FROM documents")]
        assert len(titles) == 9 and all(title.split()[1].startswith("1.") for title in titles)
        assert opened._catalog.query("SELECT count(*) FROM labels WHERE name = 'leaking'") == [(0,)]


INTO = {
    "its own name": None,
    "another project's tenant": "guests:small",
    "another domain": "lab:elsewhere",
}


@pytest.mark.parametrize("case", INTO)
def test_an_imported_scope_is_the_same_under_any_name(
    original: Path, exported: Path, case: str, tmp_path: Path, make_documents: Make
) -> None:
    into = parse_place(INTO[case]) if INTO[case] is not None else None  # type: ignore[arg-type]
    before = files(exported)
    with Archive.create(tmp_path / "a") as archive:
        report = archive.import_from(exported, into)
        names = {run: Scope.parse(str(into or "lab:small") + str(run)[len("lab:small") :]) for run in RUNS}
        same(archive, original, names)
        with Archive.open(exported) as there:
            assert answers(archive, list(names.values())) == answers(there, RUNS)
        assert [run.outcome for run in report.runs] == ["copied"] * 3
        again, once = archive.import_from(exported, into), files(tmp_path / "a")
        assert [run.outcome for run in again.runs] == ["present"] * 3
        assert {run.digest for run in again.runs} == {run.digest for run in report.runs}
        archive.import_from(exported, into)
        assert {name: data for name, data in files(tmp_path / "a").items() if "catalog" not in name} == {
            name: data for name, data in once.items() if "catalog" not in name
        }
        same(archive, original, names)
        assert archive.ingest(versions("replaced"), names[RUNS[0]]).unlearned == 4  # the ledger goes on
        with pytest.raises(emm.ExistsError, match="at another state") as caught:
            archive.import_from(exported, into)
        assert caught.value.exit_code == 2
    assert files(exported) == before


def test_a_namesake_is_never_overwritten(exported: Path, tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(3, seed=50), RUNS[2])
        before = rows(archive, RUNS[2])
        with pytest.raises(emm.ExistsError, match="another run under the name"):
            archive.import_from(exported)
        assert archive.scopes() == [RUNS[2]] and rows(archive, RUNS[2]) == before
        with pytest.raises(EmbedderError, match="embedded by another model"):
            archive.import_from(tmp_path_of(exported, RUNS[0], tmp_path))
        assert archive.scopes() == [RUNS[2]]
        for wrong in ("lab:small/p", "lab:"):
            with pytest.raises(ScopeError, match="not of one level"):
                archive.import_from(exported, parse_place(wrong))
        with pytest.raises(emm.InputError, match="not an exported archive"):
            archive.import_from(tmp_path / "a")
        archive.close_scope(Tenant("lab"))
        with pytest.raises(ScopeError, match="is closed"):
            archive.import_from(exported, Scope("lab", "third"))


def tmp_path_of(exported: Path, scope: Scope, folder: Path) -> Path:
    with Archive.open(exported) as opened:
        opened.export(scope, folder / "one")
    return folder / "one"


def test_a_domain_of_another_shape_is_refused(exported: Path, tmp_path: Path) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.domains.add("small", Shape(32, 64))
        with pytest.raises(ScopeError, match="another shape"):
            archive.import_from(exported)
        assert archive.scopes() == []


MOMENTS = {
    "a memory copied": Moment("emm_engine.upkeep.copying.copy_folder", True, 1),
    "the model copied": Moment("emm_engine.embeddings.provider.EmbedderFolder.copy", True, 1),
    "rows not committed": Moment("emm_engine.catalog.relocations.Relocations.arrive", True, 1),
    "committed, the memory hidden": Moment("emm_engine.matrices.carrying.Carrying.end", False, 2),
    "the first run there": Moment("emm_engine.matrices.carrying.Carrying.end", True, 2),
    "its vectors there": Moment("emm_engine.vectors.segmented.SegmentedVectors.add", True, 1),
    "the second memory copied": Moment("emm_engine.upkeep.copying.copy_folder", True, 2),
    "all but the settings": Moment("emm_engine.upkeep.travelling.say_where_silent", False, 1),
    "all": Moment("emm_engine.upkeep.travelling.say_where_silent", True, 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_anywhere_an_import_goes_on(moment: str, original: Path, exported: Path, tmp_path: Path) -> None:
    Archive.create(tmp_path / "a").close()
    assert killed_at(MOMENTS[moment], lambda: Archive.open(tmp_path / "a").import_from(exported))
    with Archive.open(tmp_path / "a") as archive:
        whole = archive.scopes()
        with Archive.open(exported) as there:  # what is there is there whole, for readers at once
            assert [rows(archive, run) for run in whole] == [rows(there, run) for run in whole]
            for run in whole[:1]:
                assert archive.ask(QUESTIONS[0], run).citations
        archive.import_from(exported)
        same(archive, original, {run: run for run in RUNS})
        assert not list((tmp_path / "a").rglob(".arriving-*"))
        assert archive._catalog.query("SELECT * FROM relocations") == []


@pytest.mark.parametrize("moment", ["a memory copied", "committed, the memory hidden", "all", "before its name"])
def test_a_killed_export_leaves_nothing_under_its_name(moment: str, original: Path, tmp_path: Path) -> None:
    place, out = Scope("lab", "small"), tmp_path / "out"
    last = Moment("emm_engine.upkeep.publishing.publish", False, 1)
    assert killed_at(MOMENTS.get(moment, last), lambda: Archive.open(original).export(place, out))
    assert not out.exists() and list(tmp_path.iterdir()) == [tmp_path / ".out.exporting"]
    with Archive.open(original) as opened:
        opened.export(place, out)
    assert list(tmp_path.iterdir()) == [out]
    with Archive.open(out) as opened:
        same(opened, original, {run: run for run in RUNS})
    with Archive.open(original) as opened, pytest.raises(emm.ExistsError):
        opened.export(place, out)


def test_a_run_that_is_being_written_is_not_exported(original: Path, tmp_path: Path, make_documents: Make) -> None:
    """Red when an export holds the rows of one moment and the memory of another."""
    shutil.copytree(original, tmp_path / "a")
    seen: list[str] = []

    def meanwhile(progress: Progress) -> None:
        if progress.phase == "memory" and not seen:
            seen.append("written")
            with Archive.open(tmp_path / "a") as other:
                other.ingest(make_documents(2, seed=60), RUNS[0])

    with Archive.open(tmp_path / "a") as opened:
        with pytest.raises(emm.FencedError, match="is being written to"):
            opened.export(RUNS[0], tmp_path / "out", meanwhile)
        assert seen and not (tmp_path / "out").exists()
        assert opened.export(RUNS[0], tmp_path / "out").runs[0].documents == 20


def test_an_interrupted_batch_travels_with_its_fate_open(original: Path, tmp_path: Path, make_documents: Make) -> None:
    """Killed between memory and ledger, exported, imported: the next ingest there settles it."""
    shutil.copytree(original, tmp_path / "a")
    written, documents = Moment("emm.Memory.write", True, 1), make_documents(4, seed=61)
    assert killed_at(written, lambda: Archive.open(tmp_path / "a").ingest(documents, RUNS[0]))
    with Archive.open(tmp_path / "a") as opened:
        opened.export(RUNS[0], tmp_path / "out")
    with Archive.create(tmp_path / "b") as archive:
        archive.import_from(tmp_path / "out")
        assert archive.ingest([], RUNS[0]).resumed == "settled"


LIES = {
    "a text": "UPDATE documents SET text = text || ' and more' WHERE document_id = 3",
    "a title": "UPDATE documents SET title = 5 WHERE document_id = 3",
    "a span": "UPDATE passages SET end = end - 1 WHERE passage_id = 3",
    "a key's span": "UPDATE passages SET key_end = 9999 WHERE key_start IS NOT NULL",
    "a label's span": "UPDATE passage_labels SET span_start = -5 WHERE span_start IS NOT NULL",
    "half a span": "UPDATE passage_labels SET span_start = NULL",
    "a passage without a document": "UPDATE passages SET document_id = 9999 WHERE passage_id = 3",
    "a pair of nothing": "UPDATE pairs SET written_by = 9999 WHERE passage_id = 3",
    "a weight": "UPDATE pair_labels SET weight = 'heavy' WHERE passage_id = 3",
    "an endless weight": "UPDATE pair_labels SET weight = 9e999 WHERE passage_id = 3",
    "a label": "UPDATE labels SET name = 'a' || char(0) WHERE name = 'pump'",
    "a count": "UPDATE batches SET n_pairs = n_pairs + 1 WHERE batch_id = 1",
    "a memory": "UPDATE scopes SET memory_uuid = '00' WHERE run = 'a'",
    "another tenant's row": "UPDATE documents SET tenant_id = tenant_id + 1 WHERE document_id = 3",
    "a name": "UPDATE scopes SET run = '../../../../tmp' WHERE run = 'a'",
    "a scope": "UPDATE meta SET value = '../..' WHERE key = 'export.scope'",
    "a fingerprint": "UPDATE embedders SET fingerprint = '../../../../etc/passwd'",
    "a width": "UPDATE embedders SET dim = 1 << 40",
    "a view": "DROP TABLE pair_labels; CREATE VIEW pair_labels AS SELECT 1 AS passage_id, 1 AS label_id, 1.0 AS weight",
    "a column that is gone": "ALTER TABLE documents DROP COLUMN title",
}


@pytest.mark.parametrize("lie", LIES)
def test_an_altered_catalog_is_not_believed(lie: str, exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "out")
    connection = sqlite3.connect(tmp_path / "out" / "catalog.sqlite")
    connection.executescript(f"PRAGMA foreign_keys = OFF; {LIES[lie]};")
    connection.close()
    with Archive.create(tmp_path / "a") as archive:
        with pytest.raises(emm.EmmError) as caught:
            archive.import_from(tmp_path / "out")
        assert isinstance(caught.value, CatalogError | emm.InputError | emm.StorageError | emm.MissingError)
        found = archive.scopes()
        assert RUNS[0] not in found
    assert not list((tmp_path / "a").rglob(".arriving-*"))


def test_an_export_sends_nobodys_texts_anywhere(exported: Path, tmp_path: Path) -> None:
    """Red when an imported catalog names the service that texts are sent to, or a folder outside the archive."""
    shutil.copytree(exported, tmp_path / "out")
    with Archive.open(tmp_path / "out") as opened:
        (row,) = opened._catalog.query("SELECT tenant_id FROM embedders")
        opened._catalog.executemany("UPDATE embedders SET vectors_folder = '../../elsewhere'", [()])
        said = [(*row, "small", "openai:m@https://collector.example")]
        opened._catalog.executemany("INSERT INTO embedder_choices(tenant_id, domain, spec) VALUES (?, ?, ?)", said)
        opened._catalog.executemany("INSERT INTO settings VALUES (?, 'lab:small', 'of.no.kind', 'x')", [row])
    with Archive.create(tmp_path / "a") as archive:
        archive.import_from(tmp_path / "out")
        assert archive._catalog.query("SELECT * FROM embedder_choices") == []
        assert archive._catalog.query("SELECT vectors_folder FROM embedders") == [("",)]
        assert archive._catalog.query("SELECT * FROM settings WHERE key = 'of.no.kind'") == []
        with Archive.open(exported) as there:
            assert answers(archive, RUNS[:1]) == answers(there, RUNS[:1])
    assert not list(tmp_path.rglob("elsewhere"))


def test_what_was_forgotten_does_not_come_back(original: Path, tmp_path: Path) -> None:
    """An export from before a forgetting holds the text still, and its memory too."""
    shutil.copytree(original, tmp_path / "a")
    with Archive.open(tmp_path / "a") as archive:
        archive.export(RUNS[2], tmp_path / "before")
        archive.move(RUNS[2], Scope.parse("lab:small/q/moved"))
        (row,) = archive._catalog.query(
            "SELECT tenant_id, content_sha256 FROM documents JOIN scopes USING(scope_id, tenant_id) "
            "WHERE run = 'moved' LIMIT 1"
        )
        archive._catalog.executemany("INSERT INTO blocked(tenant_id, content_sha256) VALUES (?, ?)", [row])
        with pytest.raises(emm.InputError, match="was forgotten here"):
            archive.import_from(tmp_path / "before")
        assert RUNS[2] not in archive.scopes()
        begun = (row[0], "removed", "2026-01-01T00:00:00Z", "{}")
        archive._catalog.executemany(
            "INSERT INTO forgettings(tenant_id, state, begun, facts) VALUES (?, ?, ?, ?)", [begun]
        )
        for work in (
            lambda: archive.export(RUNS[0], tmp_path / "meanwhile"),
            lambda: archive.move(RUNS[0], Scope.parse("lab:small/p/z")),
        ):
            with pytest.raises(emm.FencedError, match="a forgetting of the tenant lab"):
                work()
        archive.export(RIVAL, tmp_path / "others")  # another tenant's is none of theirs


def test_altered_files_are_not_believed(exported: Path, tmp_path: Path) -> None:
    for case in ("memory", "link", "place", "model", "vectors"):
        out = tmp_path / case
        shutil.copytree(exported, out)
        (snapshot,) = list((out / RUNS[0].memory_path).glob("*.emm"))[-1:]
        if case == "memory":
            data = bytearray(snapshot.read_bytes())
            data[len(data) // 2] ^= 4
            snapshot.write_bytes(data)
        elif case == "link":
            (out / RUNS[0].memory_path / "0000000000000099.wal").symlink_to("/etc/passwd")
        elif case == "place":
            os.rename(out / RUNS[0].memory_path, tmp_path / "elsewhere")
            with Archive.open(out) as there:
                place = "memories/lab/../../../elsewhere"
                there._catalog.executemany("INSERT INTO relocations VALUES (1, 1, ?, '', 1)", [(place,)])
        elif case == "model":
            (model,) = (out / "embedders").iterdir()
            model.write_bytes(model.read_bytes()[:-1])
        else:
            (out / "vectors/lab/small/p/a.vec").write_bytes(os.urandom(5000))
        with Archive.create(tmp_path / f"into {case}") as archive:
            if case == "vectors":
                archive.import_from(out)  # derived: made again
                with Archive.open(exported) as there:
                    assert answers(archive, RUNS) == answers(there, RUNS)
                continue
            with pytest.raises(emm.EmmError):
                archive.import_from(out)
            assert archive.scopes() == []


def test_an_export_into_the_archive_itself_is_refused(tmp_path: Path, make_documents: Make) -> None:
    """No forgetting would reach a copy there, and every purge would find a trace in it."""
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(3), Scope("lab", "code", "p", "r"))
        before = sorted((tmp_path / "a").rglob("*"))
        (tmp_path / "link").symlink_to(tmp_path / "a")
        for out in (tmp_path / "a" / "out", tmp_path / "link" / "out", tmp_path / "b" / ".." / "a" / "out"):
            with pytest.raises(emm.InputError, match="outside"):
                archive.export(Scope("lab", "code"), out)
        assert sorted((tmp_path / "a").rglob("*")) == before
