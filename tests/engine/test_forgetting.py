"""Forgotten means gone: no answer, no file, no later step brings it back.

Each test compares with an archive that never had it. Red when: a word, vector, key or value of a forgotten text is
still in a file after a purge; an answer differs from what it would have been; an older version stays hidden or a newer
one comes back; a kill leaves half of it; another tenant is touched.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import emm
from emm_engine import Archive, Document, Label, RunStatus, Scope
from emm_engine.catalog import place
from emm_engine.catalog.forgotten import Forgettings
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.sqlite import SqliteDatabase
from emm_engine.embeddings.lsa import LsaProvider
from emm_engine.matrices.labels import value
from emm_engine.matrices.shelf import MatrixShelf
from emm_engine.renewal import forgetting
from emm_engine.renewal.selection import Selection
from emm_engine.vectors.segmented import SegmentedVectors
from tests.engine.test_recovery import killer

Make = Callable[..., list[Document]]
RUN, OTHER, FOREIGN = Scope("lab", "code", "p", "r"), Scope("lab", "code", "p", "s"), Scope("guest", "code", "p", "r")
QUESTIONS = ("pump valve pressure", "which locales fail?", "person 2", "xylophone recipe of the valve")
SECRET = Document(
    "vault/secret.md",
    "Xylophone notes",
    f"The xylophone recipe: 41 parts of quicksilverine.\n\n{'Stir the xylophone valve slowly. ' * 40}\n\nzymurgicals.",
    "2005-05-05T00:00:00Z",
    (Label("package", "tar"), Label("codeword", "sesquipedal")),
    "secret",
)
WORDS = ("xylophon", "quicksilver", "zymurgic", "sesquipedal", "Xylophon", "vault")


def told(archive: Archive, scope: Scope, rounded: bool) -> list[object]:
    """Answers without ids, which tell how many came before; with the matrix's share rounded where it unlearned."""
    found = []
    for question in QUESTIONS:
        fields = json.loads(archive.ask(question, scope, k=40, token_budget=99_999).to_json())
        del fields["timings_ms"], fields["context" if rounded else "question"]
        strengths = {item["name"]: item.pop("strength") for item in fields["associations"]} if rounded else {}
        found.append([json.loads(json.dumps(fields), object_hook=without_ids), strengths])
    return found


def without_ids(fields: dict[str, object]) -> dict[str, object]:
    return {key: item for key, item in fields.items() if key not in ("document_id", "passage_id")}


def same(ours: list[object], theirs: list[object]) -> None:
    """Equal, but for strengths that a matrix which unlearned has rounded."""
    for (one, strengths), (two, others) in zip(ours, theirs, strict=True):  # type: ignore[misc]
        assert one == two
        assert strengths == pytest.approx(others, abs=1e-4)


def tree(archive: Archive) -> list[RunStatus]:
    return [replace(status, lsn=0, saturation=round(status.saturation, 4)) for status in archive.tree()]


def bits(archive: Archive, scope: Scope) -> tuple[int, bytes, bytes]:
    with emm.open(str(archive.memory_path(scope))) as memory:
        assert memory.inverse_gram is not None
        return memory.write_count, memory.matrix.tobytes(), memory.inverse_gram.tobytes()


def holders(path: Path, needles: list[bytes]) -> set[str]:
    """The files of an archive that hold any of these bytes. Not by the command's own search, which is tested too."""
    found = set()
    for folder, _, names in os.walk(path):
        for name in names:
            data = (Path(folder) / name).read_bytes()
            if any(needle in data for needle in needles):
                found.add(name)
    return found


def needles_of(path: Path, scope: Scope, passage_ids: tuple[int, ...]) -> list[bytes]:
    """Every form in which files hold these passages: words, pieces of the text, vectors (= keys) and values."""
    catalog = place.open_catalog(path)
    (run,) = catalog.runs(scope)
    texts = catalog.texts(run.tenant_id, passage_ids)
    known = catalog.embedder(scope.tenant, scope.domain)
    assert known is not None
    embedder = LsaProvider().from_bytes((path / "embedders" / f"{known[1][:32]}.npz").read_bytes())
    kept = PairLedger(catalog, run).kept(passage_ids)
    vectors = embedder.embed(list(texts.values()))
    values = [value(kept[identity], 768) for identity in passage_ids]
    catalog.close()
    pieces = [text[at : at + 24] for text in texts.values() for at in range(0, len(text) - 24, 24)]
    return [item.encode() for item in (*WORDS, *pieces)] + [row.tobytes() for row in (*vectors, *values)]


def passages_of(path: Path, source: str) -> tuple[int, ...]:
    catalog = place.open_catalog(path)
    rows = catalog.query(
        "SELECT passage_id FROM passages JOIN documents USING(document_id) WHERE source = ? ORDER BY passage_id",
        (source,),
    )
    catalog.close()
    return tuple(row[0] for row in rows)


SELECTIONS: dict[str, Callable[[Path], Selection]] = {
    "document": lambda path: Selection(documents=(document_of(path),)),
    "source": lambda path: Selection(sources=("vault/*",), scope=RUN),
    "pair": lambda path: Selection(pairs=passages_of(path, SECRET.source)),
    "query": lambda path: Selection(queries=("XYLOPHONES",), scope=RUN),
}


def document_of(path: Path) -> int:
    catalog = place.open_catalog(path)
    ((identity,),) = catalog.query("SELECT document_id FROM documents WHERE source = ?", (SECRET.source,))
    catalog.close()
    return int(identity)


@pytest.mark.parametrize("how", SELECTIONS)
def test_a_purge_leaves_an_archive_that_never_had_it(how: str, tmp_path: Path, make_documents: Make) -> None:
    """To the bit, the embedder's vocabulary included, and no file holds a word, a vector, a key or a value of it."""
    base, later = make_documents(30), make_documents(8, seed=4)
    path = tmp_path / "had"
    with Archive.create(path) as had, Archive.create(tmp_path / "never") as never:
        for archive, first in ((had, [*base[:15], SECRET, *base[15:]]), (never, base)):
            archive.ingest(first, RUN)
            archive.ingest(later, OTHER)
        ids = passages_of(path, SECRET.source)
        assert len(ids) == 3
        needles = needles_of(path, RUN, ids)
        there = {"host.vec", "r.vec"} & holders(path, needles[-3:]) or holders(path, needles)
        assert there
        kinds = {Path(name).suffix for name in holders(path, needles)}
        assert kinds >= {".wal", ".vec", ".npz"}  # the search finds it while it is there
        certificate = had.forget(SELECTIONS[how](path), purge=True)
        assert (certificate.documents, certificate.passages, certificate.pairs) == (1, 3, 3)
        assert certificate.labels >= 1 and certificate.models == ("lab:code",)
        assert certificate.trace is not None and certificate.trace.clean and certificate.trace.pieces == 3
        assert holders(path, needles) == set()  # also while it is open
        for scope in (RUN, OTHER):
            assert told(had, scope, False) == told(never, scope, False)
            assert bits(had, scope) == bits(never, scope)
        assert tree(had) == tree(never)
        assert list(had.check()) == []
        told_of = certificate.to_json()
        assert SECRET.content_sha256.hex() in told_of
        assert not any(word in told_of for word in (*WORDS, "recipe"))
    assert holders(path, needles) == set()


def test_without_a_purge_it_is_unlearned_and_out_of_every_answer(tmp_path: Path, make_documents: Make) -> None:
    """The model was fitted before it came, so all else must be equal, and the matrix to its rounding."""
    path = tmp_path / "had"
    with Archive.create(path) as had, Archive.create(tmp_path / "never") as never:
        for archive in (had, never):
            archive.ingest(make_documents(40), RUN)
        had.ingest([SECRET], RUN)
        plan = had.plan_forgetting(Selection(sources=("vault/*",)))
        assert (plan.passages, plan.absorbed, plan.scopes) == (3, 3, (str(RUN),))
        assert [(each.source, each.whole) for each in plan.documents] == [(SECRET.source, True)]
        certificate = had.forget(Selection(sources=("vault/*",)))
        assert [matrix.how for matrix in certificate.matrices] == ["unlearned"] and certificate.trace is None
        same(told(had, RUN, True), told(never, RUN, True))
        assert tree(had) == tree(never)
        assert list(had.check()) == []
        with emm.open(str(had.memory_path(RUN))) as ours, emm.open(str(never.memory_path(RUN))) as theirs:
            assert ours.write_count == theirs.write_count
            assert np.abs(ours.matrix - theirs.matrix).max() < 1e-4
        with pytest.raises(emm.MissingError):
            had.forget(Selection(sources=("vault/*",)))
        assert had.ingest([SECRET], RUN).documents == 1  # a person may change their mind


def test_what_is_blocked_is_refused_for_good(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([*make_documents(20), SECRET], RUN)
        before = tree(archive)
        archive.forget(Selection(documents=(document_of(tmp_path / "a"),)), block=True)
        moved = replace(SECRET, source="elsewhere", key=None, date="")
        report = archive.ingest([SECRET, moved, *make_documents(20)], RUN)
        assert (report.blocked, report.documents, report.duplicates) == (2, 0, 20)
        assert archive.ingest([moved], OTHER).blocked == 1
        assert archive.ingest([moved], FOREIGN).documents == 1  # another tenant's own text
        archive.rebuild()
        assert not any(word in str(told(archive, RUN, False)) for word in WORDS)
        assert archive.tree("lab")[0].documents == before[0].documents - 1


@pytest.mark.parametrize(("gone", "others"), [(1, (2, 3)), (2, (1, 3)), (3, (1, 2))])
def test_versions_close_ranks(gone: int, others: tuple[int, ...], tmp_path: Path, make_documents: Make) -> None:
    """Red when a forgotten version leaves its elder hidden, or current beside its successor."""
    base = make_documents(15)
    with Archive.create(tmp_path / "had") as had, Archive.create(tmp_path / "never") as never:
        for archive in (had, never):
            archive.ingest(base, RUN)
            for number in (1, 2, 3):
                if archive is had or number in others:
                    archive.ingest([metal_note(number)], RUN)
        certificate = had.forget(Selection(queries=(f"metal{gone}",), scope=RUN))
        assert certificate.revived == (gone == 3)
        same(told(had, RUN, True), told(never, RUN, True))
        for as_of in ("2011", "2012", "2013"):
            ours, theirs = (archive.ask("rotor", RUN, k=9, as_of=as_of) for archive in (had, never))
            assert [citation.quote for citation in ours.citations] == [each.quote for each in theirs.citations]
        assert tree(had) == tree(never)
        with emm.open(str(had.memory_path(RUN))) as one, emm.open(str(never.memory_path(RUN))) as two:
            assert np.abs(one.matrix - two.matrix).max() < 1e-4


def test_every_version_can_go_at_once(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        for number in (1, 2, 3):
            archive.ingest([metal_note(number), *make_documents(3)], RUN)
        assert archive.forget(Selection(queries=("metal2",), scope=RUN, versions=True)).documents == 3
        assert archive.tree()[0].documents == 3


def metal_note(number: int) -> Document:
    text = f"The rotor is of metal{number}."
    return Document("n", f"note {number}", text, f"201{number}-01-01T00:00:00Z", (Label("m", str(number)),), "n")


def test_a_text_that_is_current_under_another_name_is_not_made_current_twice(tmp_path: Path) -> None:
    """Red when the older version is revived beside the same text: the catalog would refuse the whole forgetting."""
    old, new = Document("n", "note", "The rotor is of brass.", key="n"), Document("n", "note", "Steel.", key="n")
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([old], RUN)
        archive.ingest([new], RUN)
        archive.ingest([replace(old, key="other")], RUN)
        assert archive.forget(Selection(queries=("steel",))).revived == 0
        assert [citation.quote for citation in archive.ask("rotor steel", RUN).citations] == [old.text]


def test_one_passage_goes_and_its_document_keeps_the_others(tmp_path: Path, make_documents: Make) -> None:
    path = tmp_path / "a"
    with Archive.create(path) as archive:
        archive.ingest([*make_documents(30), SECRET], RUN)
        first, middle, last = passages_of(path, SECRET.source)
        needles = [b"Stir the", b"xylophone valve"]
        quotes = {c.passage_id: c.quote for c in archive.ask("zymurgicals quicksilverine", RUN, k=9).citations}
        certificate = archive.forget(Selection(pairs=(middle,)), purge=True)
        assert (certificate.documents, certificate.passages) == (0, 1)
        assert holders(path, needles) == set()
        after = {c.passage_id: c.quote for c in archive.ask("zymurgicals quicksilverine", RUN, k=9).citations}
        assert middle not in after and {after[first], after[last]} == {quotes[first], quotes[last]}
        assert list(archive.check()) == []
        with pytest.raises(emm.MissingError, match="pair"):
            archive.forget(Selection(pairs=(middle,)))


def test_a_tenant_goes_without_a_trace_and_nobody_else_notices(tmp_path: Path, make_documents: Make) -> None:
    path = tmp_path / "a"
    with Archive.create(path) as archive, Archive.create(tmp_path / "never") as never:
        archive.ingest([*make_documents(20, seed=2), SECRET], FOREIGN)
        for each in (archive, never):
            each.ingest(make_documents(25), RUN)
        needles = [*needles_of(path, FOREIGN, passages_of(path, SECRET.source)), b"guest"]
        mine = {
            file: file.read_bytes()
            for part in ("memories/lab", "vectors/lab")
            for file in (path / part).rglob("*")
            if file.is_file()
        }
        models = {file.name for file in (path / "embedders").iterdir()}
        certificate = archive.forget_tenant("guest", purge=True)
        assert certificate.documents == 21 and certificate.trace is not None and certificate.trace.clean
        assert holders(path, needles) == set()
        assert {file: file.read_bytes() for file in mine} == mine
        assert len(models - {file.name for file in (path / "embedders").iterdir()}) == 1
        assert told(archive, RUN, False) == told(never, RUN, False)
        assert tree(archive) == tree(never) and list(archive.check()) == []
        with pytest.raises(emm.MissingError):
            archive.forget_tenant("guest")
        assert archive.ingest(make_documents(3), FOREIGN).documents == 3  # the name is free


MOMENTS = {
    "nothing yet": killer(Forgettings, "begin", False, 1),
    "vectors removed": killer(SegmentedVectors, "remove", True, 1),
    "text removed": killer(forgetting.Forgetter, "finish", False, 2),
    "unlearned, not settled": killer(emm.Memory, "unlearn", True, 1),
    "not unlearned": killer(emm.Memory, "unlearn", False, 1),
    "settled": killer(PairLedger, "settle", True, 1),
    "before it is noted": killer(Forgettings, "done", False, 1),
}
PURGE_MOMENTS = {
    "text removed": MOMENTS["text removed"],
    "catalog let go": killer(MatrixShelf, "discard", False, 1),
    "one memory gone": killer(MatrixShelf, "discard", True, 1),
    "a batch written": killer(emm.Memory, "write", True, 1),
    "before it is noted": MOMENTS["before it is noted"],
    "before compacting": killer(SqliteDatabase, "compact", False, 1),
    "compacted": killer(SqliteDatabase, "compact", True, 1),
}


def forget_in_child(
    path: Path, install: Callable[[pytest.MonkeyPatch], None], act: Callable[[Archive], object]
) -> None:
    child = os.fork()
    if child == 0:
        try:
            install(pytest.MonkeyPatch())
            act(Archive.open(path))
        except BaseException as error:
            print(f"child: {type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.parametrize(
    ("moment", "then"),
    [*((moment, "forget") for moment in MOMENTS), ("text removed", "ingest"), ("unlearned, not settled", "ingest")],
)
def test_killed_anywhere_it_goes_on(moment: str, then: str, tmp_path: Path, make_documents: Make) -> None:
    """Once the text is gone it never shows again, and the next forgetting or ingest takes out the rest, once."""
    selection = Selection(sources=("vault/*",))
    with Archive.create(tmp_path / "had") as had, Archive.create(tmp_path / "never") as never:
        for archive in (had, never):
            archive.ingest(make_documents(25), RUN)
        had.ingest([SECRET], RUN)
        expected, places = told(never, RUN, True), tree(never)
        matrix = bits(never, RUN)[1]
    forget_in_child(tmp_path / "had", MOMENTS[moment], lambda archive: archive.forget(selection))
    with Archive.open(tmp_path / "had") as archive:
        begun = moment not in ("nothing yet", "vectors removed")
        shown = any(word in str(told(archive, RUN, False)) for word in ("quicksilver", "zymurgic"))
        assert shown != begun
        assert bool([notice for notice in archive.notices if "interrupted" in notice]) == begun
        if then == "ingest":
            archive.ingest([], RUN)
        if begun:
            assert archive.finish_forgetting() == 1
        else:
            archive.forget(selection)
        same(told(archive, RUN, True), expected)
        assert tree(archive) == places and list(archive.check()) == []
        assert not [notice for notice in archive.notices if "interrupted" in notice]
        ours = np.frombuffer(bits(archive, RUN)[1], np.float32)
        assert np.abs(ours - np.frombuffer(matrix, np.float32)).max() < 1e-4


@pytest.mark.parametrize("moment", PURGE_MOMENTS)
def test_a_purge_killed_anywhere_goes_on(moment: str, tmp_path: Path, make_documents: Make) -> None:
    path, base = tmp_path / "had", make_documents(25)
    with Archive.create(path) as had, Archive.create(tmp_path / "never") as never:
        had.ingest([*base[:10], SECRET, *base[10:]], RUN)
        had.ingest(make_documents(6, seed=4), OTHER)
        never.ingest(base, RUN)
        never.ingest(make_documents(6, seed=4), OTHER)
        expected = [told(never, scope, False) for scope in (RUN, OTHER)]
        state = [bits(never, scope) for scope in (RUN, OTHER)]
    needles = needles_of(path, RUN, passages_of(path, SECRET.source))
    selection = Selection(sources=("vault/*",))
    forget_in_child(path, PURGE_MOMENTS[moment], lambda archive: archive.forget(selection, purge=True))
    with Archive.open(path) as archive:
        assert not any(word in str(told(archive, RUN, False)) for word in ("quicksilver", "zymurgic"))
        assert archive.finish_forgetting() == 1
        assert [told(archive, scope, False) for scope in (RUN, OTHER)] == expected
        assert [bits(archive, scope) for scope in (RUN, OTHER)] == state
        assert holders(path, needles) == set()
        assert archive.finish_forgetting() == 0


@pytest.mark.parametrize("after", [False, True])
def test_forgetting_a_tenant_killed_anywhere_goes_on(after: bool, tmp_path: Path, make_documents: Make) -> None:
    path = tmp_path / "a"
    with Archive.create(path) as archive:
        archive.ingest([*make_documents(20), SECRET], FOREIGN)
        archive.ingest(make_documents(20), RUN)
        before = told(archive, RUN, False)
    needles = [*needles_of(path, FOREIGN, passages_of(path, SECRET.source)), b"guest"]
    install = (
        killer(Forgettings, "tenant_done", after, 1) if after else killer(forgetting, "remove_tree_durably", True, 1)
    )
    forget_in_child(path, install, lambda archive: archive.forget_tenant("guest", purge=True))
    with Archive.open(path) as archive:
        if not after:
            with pytest.raises(emm.EmmError, match="is being forgotten"):
                archive.ingest(make_documents(1), replace(FOREIGN, run="new"))
        assert archive.finish_forgetting() == 1
        assert holders(path, needles) == set()
        assert told(archive, RUN, False) == before and len(archive.tree()) == 1


def test_a_run_that_is_being_written_is_not_forgotten_from(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as first, Archive.open(tmp_path / "a") as second:
        first.ingest([SECRET], RUN)
        tried = []

        def intrude(_: object) -> None:
            for act in (lambda: second.forget(Selection(sources=("*",))), lambda: second.forget_tenant("lab")):
                with pytest.raises(emm.FencedError):
                    act()
            tried.append(1)

        first.ingest(make_documents(20), RUN, intrude)
        assert tried and second.tree()[0].documents == 21


def test_a_purge_waits_for_nobody_but_says_so(
    tmp_path: Path, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader in the middle of a transaction keeps SQLite's log: the purge says so and can be finished later."""
    path = tmp_path / "a"
    with Archive.create(path) as archive:
        archive.ingest([*make_documents(20), SECRET], RUN)
    needles = needles_of(path, RUN, passages_of(path, SECRET.source))
    reader = place.open_catalog(path)
    with Archive.open(path) as archive:
        archive._catalog.query("PRAGMA busy_timeout = 100")
        with reader.snapshot():
            assert reader.query("SELECT count(*) FROM documents")
            with pytest.raises(emm.StorageError, match=r"is being read|locked"):
                archive.forget(Selection(sources=("vault/*",)), purge=True)
        assert archive.finish_forgetting() == 1
        assert holders(path, needles) == set()
    reader.close()


def test_a_refusal_to_unlearn_makes_the_memory_anew(
    tmp_path: Path, make_documents: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where too little else lies along a key, unlearning in float32 is refused: the run is absorbed again instead."""
    monkeypatch.setattr("emm_engine.matrices.shelf.RIDGE", 2.0**-9)  # hardly any prior
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest([*make_documents(30), SECRET], RUN)
        before = tree(archive)[0]
        (matrix,) = archive.forget(Selection(sources=("vault/*",))).matrices
        assert (matrix.how, matrix.write_count) == ("rewritten", before.absorbed - 3)
        assert list(archive.check()) == [] and tree(archive)[0].absorbed == before.absorbed - 3
        assert not any(word in str(told(archive, RUN, False)) for word in ("quicksilver", "zymurgic"))


def test_a_missing_model_or_memory_is_no_hindrance(tmp_path: Path, make_documents: Make) -> None:
    for gone in ("embedders", "memories"):
        with Archive.create(tmp_path / gone) as archive:
            archive.ingest([*make_documents(30), SECRET], RUN)
        for file in sorted((tmp_path / gone / gone).rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        with Archive.open(tmp_path / gone) as archive:
            archive.forget(Selection(sources=("vault/*",)))
            assert list(archive.check()) == []
            assert not any(word in str(told(archive, RUN, False)) for word in WORDS)


def test_what_cannot_be_meant_is_refused(tmp_path: Path, make_documents: Make) -> None:
    with Archive.create(tmp_path / "a") as archive:
        archive.ingest(make_documents(5), RUN)
        archive.ingest(make_documents(5), FOREIGN)
        before = tree(archive)
        with pytest.raises(emm.InputError, match="nothing is selected"):
            Selection()
        for selection, error in (
            (Selection(documents=(999,)), emm.MissingError),
            (Selection(pairs=(1, 999)), emm.MissingError),
            (Selection(documents=(1 << 80,)), emm.MissingError),  # more than a row can be called
            (Selection(pairs=(1 << 80,)), emm.MissingError),
            (Selection(documents=(1,), scope=FOREIGN), emm.MissingError),  # it is the lab's
            (Selection(sources=("*",)), emm.InputError),  # two tenants
            (Selection(queries=("...",)), emm.InputError),
            (Selection(queries=("nowhere",)), emm.MissingError),
        ):
            with pytest.raises(error):
                archive.forget(selection)
        assert tree(archive) == before


@pytest.fixture
def searched(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / ".hidden").write_bytes(b"x" * 5000 + "the pièce itself".encode() + b"y" * 5000)
    (tmp_path / "a" / "empty").write_bytes(b"")
    yield tmp_path / "a"


def test_the_search_finds_what_is_there(searched: Path) -> None:
    """Red when the command's own proof looks past a file."""
    trace = forgetting.search(searched, ["pièce"])
    assert (trace.files, trace.found, trace.clean) == (2, ("deep/.hidden",), False)
    assert forgetting.search(searched, ["other"]).clean
