"""What every catalog holds to, wherever its tables are. `test_catalog` runs this over both databases.

Red when: a transaction is torn, or not seen by others once it has returned; a snapshot moves; two writers undo each
other; an id is used twice; a text comes back changed; a word is scored otherwise than FTS5 does, or counts for another
tenant; what is longer than an index takes is refused.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from emm_engine import CatalogError, Document, Label, Scope
from emm_engine.catalog.fulltext import WordIndex
from emm_engine.catalog.schema import TOKENIZER
from emm_engine.catalog.store import Catalog
from emm_engine.documents import Passage

RUN = Scope("lab", "code", "debian", "host")
ODD = "100 % of ? and %s, :x, 'quoted' \"twice\" \\ back\n\ttab \U0001f600 e\u0301 日本語 $1 {} ; --"
COUNT_DOCUMENTS = "SELECT count(*) FROM documents"


def count(catalog: Catalog, sql: str = COUNT_DOCUMENTS) -> int:
    return int(catalog.query(sql)[0][0])


def fts5(texts: list[tuple[int, str, str, str]], word: str, *weights: float) -> list[tuple[int, float]]:
    """What a table of SQLite's own says about a word."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE VIRTUAL TABLE t USING fts5(source, title, body, tokenize='{TOKENIZER}')")
    connection.executemany("INSERT INTO t(rowid, source, title, body) VALUES (?, ?, ?, ?)", texts)
    marks = "".join(", ?" for _ in weights)
    found = connection.execute(
        f"SELECT rowid, -bm25(t{marks}) FROM t WHERE t MATCH ? ORDER BY rowid", (*weights, f'"{word}"')
    ).fetchall()
    connection.close()
    return found


class CatalogContract:
    """A class that inherits this gives `make`: a fixture that returns a new, empty catalog at each call."""

    @pytest.fixture
    def catalog(self, make: Callable[[], Catalog]) -> Iterator[Catalog]:
        opened = make()
        yield opened
        opened.close()

    @pytest.fixture
    def other(self, catalog: Catalog) -> Iterator[Catalog]:
        """The same catalog, over a connection of its own."""
        opened = catalog.again()
        yield opened
        opened.close()

    # --- transactions ----------------------------------------------------------------------------

    def test_a_transaction_is_all_or_nothing_and_seen_once_it_returns(self, catalog: Catalog, other: Catalog) -> None:
        run = catalog.ensure_run(RUN)
        with pytest.raises(ZeroDivisionError), catalog.transaction():
            catalog.label_id(run.tenant_id, Label("a", "b"))
            assert count(catalog, "SELECT count(*) FROM labels") == 1
            assert count(other, "SELECT count(*) FROM labels") == 0
            raise ZeroDivisionError
        assert count(catalog, "SELECT count(*) FROM labels") == 0
        catalog.add_documents(run, [Document("s", "t", "text")])
        assert count(other) == 1

    def test_a_snapshot_sees_one_moment(self, catalog: Catalog, other: Catalog) -> None:
        run = catalog.ensure_run(RUN)
        with other.snapshot():
            assert count(other) == 0
            catalog.add_documents(run, [Document("s", "t", "text")])
            assert count(other) == 0
        assert count(other) == 1

    def test_writers_take_turns_and_see_what_the_one_before_wrote(self, catalog: Catalog) -> None:
        """Red when two read the same number, and each adds one to it."""
        catalog.executemany("INSERT INTO meta(key, value) VALUES ('n', '0')", [()])

        def write() -> None:
            mine = catalog.again()
            for _ in range(10):
                with mine.transaction():
                    value = int(mine.query("SELECT value FROM meta WHERE key = 'n'")[0][0])
                    time.sleep(0.001)
                    mine.executemany("UPDATE meta SET value = ? WHERE key = 'n'", [(str(value + 1),)])
            mine.close()

        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert catalog.query("SELECT value FROM meta WHERE key = 'n'") == [("30",)]

    def test_a_version_is_another_after_each_write_and_the_same_without(self, catalog: Catalog, other: Catalog) -> None:
        seen = [catalog.version()]
        assert catalog.version() == seen[0]
        run = catalog.ensure_run(RUN)
        seen.append(catalog.version())
        other.add_documents(run, [Document("s", "t", "text")])
        seen.append(catalog.version())
        with pytest.raises(ZeroDivisionError), other.transaction():
            raise ZeroDivisionError
        catalog.outdate()
        seen.append(catalog.version())
        assert len(set(seen)) == 4 and catalog.version() == seen[-1]

    def test_a_refused_statement_is_told_and_changes_nothing(self, catalog: Catalog) -> None:
        with pytest.raises(CatalogError, match="refused a statement"), catalog.transaction():
            catalog.executemany("INSERT INTO meta(key, value) VALUES ('x', '1')", [()])
            catalog.insert("INSERT INTO documents(tenant_id) VALUES (?)", (77,))
        assert catalog.query("SELECT 1 FROM meta WHERE key = 'x'") == []

    # --- rows ------------------------------------------------------------------------------------

    def test_texts_bytes_and_numbers_come_back_as_they_were(self, catalog: Catalog) -> None:
        run = catalog.ensure_run(RUN)
        document = Document(ODD, ODD, ODD, key=ODD, labels=(Label(ODD, ODD),))
        catalog.add_documents(run, [document])
        ((source, title, text, key, digest),) = catalog.query(
            "SELECT source, title, text, version_key, content_sha256 FROM documents WHERE source = ?", (ODD,)
        )
        assert {source, title, text, key} == {ODD} and digest == document.content_sha256
        assert catalog.query("SELECT name FROM labels WHERE kind = ?", (ODD,)) == [(ODD,)]
        ((start, end, total),) = catalog.query(
            "SELECT start, end, (SELECT sum(passages.end) FROM passages) FROM passages"
        )
        assert (start, end) == (0, total) and type(total) is int
        assert catalog.texts(run.tenant_id, [1]) == {1: f"{ODD}\n{ODD}"}
        with catalog.transaction():
            blob = bytes(range(256))
            catalog.executemany(
                "INSERT INTO unlearnings(tenant_id, scope_id, key, value, batch_id) VALUES (?, ?, ?, ?, ?)",
                [(run.tenant_id, run.scope_id, blob, b"", -(2**63)), (run.tenant_id, run.scope_id, b"", blob, None)],
            )
        rows = catalog.query("SELECT key, value, batch_id FROM unlearnings ORDER BY unlearning_id")
        assert rows == [(blob, b"", -(2**63)), (b"", blob, None)]

    def test_texts_are_in_the_order_of_their_code_points(self, catalog: Catalog) -> None:
        names = ["b", "B", "ä", "a", "Z", "é", "_", "\U0001f600", "\ufb01", "a b", "a-b"]
        with catalog.transaction():
            catalog.executemany("INSERT INTO tenants(name) VALUES (?)", [(name,) for name in names])
        found = [row[0] for row in catalog.query("SELECT name FROM tenants ORDER BY name")]
        assert found == sorted(names)
        assert catalog.query("SELECT count(*) FROM tenants WHERE name > 'Z' AND name <= 'a'") == [(2,)]

    def test_ids_are_not_used_twice(self, catalog: Catalog) -> None:
        run = catalog.ensure_run(RUN)
        with catalog.transaction():
            first, second = (catalog.label_id(run.tenant_id, Label("k", name)) for name in "ab")
            catalog.executemany("DELETE FROM labels WHERE label_id = ?", [(second,)])
        catalog.forget_labels()
        with catalog.transaction():
            assert catalog.label_id(run.tenant_id, Label("k", "a")) == first
            assert catalog.label_id(run.tenant_id, Label("k", "b")) > second
            conflict = (
                "INSERT INTO labels(label_id, tenant_id, kind, name) VALUES (?, ?, 'k', 'a') ON CONFLICT DO NOTHING"
            )
            assert catalog.insert(conflict, (first, run.tenant_id)) == 0

    def test_labels_that_others_removed_are_made_anew(self, catalog: Catalog, other: Catalog) -> None:
        """Red when an id that is held in memory outlives its row."""
        run = catalog.ensure_run(RUN)
        with catalog.transaction():
            catalog.label_id(run.tenant_id, Label("k", "a"))
        with other.transaction():
            other.executemany("DELETE FROM labels WHERE kind = ?", [("k",)])
        catalog.add_documents(run, [Document("s", "t", "text", labels=(Label("k", "a"),))])
        assert catalog.query("SELECT count(*) FROM document_labels JOIN labels USING(label_id) WHERE kind = 'k'") == [
            (1,)
        ]

    def test_names_may_be_longer_than_an_index_takes(self, catalog: Catalog) -> None:
        """Hard to compress, in characters of three bytes; and a word of 20,000 letters."""
        run = catalog.ensure_run(RUN)
        name = "".join(chr(0x4E00 + at * 7919 % 20_000) for at in range(1000))
        word = "".join(chr(97 + at * at * 31 % 26) for at in range(20_000))
        text, labels = f"{word} {word[:300]}", (Label(name, name * 5),)
        document = Document(name, name, text, "", labels, name * 3, (Passage(0, len(text)),))
        assert catalog.add_documents(run, [document, document]).duplicates == 1
        again = Document(name, name, "another", "", labels, name * 3)
        assert catalog.add_documents(run, [again]).superseded == 1
        assert count(catalog, "SELECT count(*) FROM labels WHERE kind <> 'title'") == 1
        index = WordIndex(catalog, run.tenant_id)
        assert index.scores(word)[0].tolist() == index.scores(word[:300])[0].tolist() != []
        assert index.scores(word[:299])[0].tolist() == []

    def test_tables_stand_before_those_that_refer_to_them(self, catalog: Catalog) -> None:
        catalog.ensure_run(RUN)
        columns = catalog.database.columns()
        order = list(columns)
        for before, after in (("tenants", "scopes"), ("documents", "passages"), ("pairs", "pair_labels")):
            assert order.index(before) < order.index(after)
        assert columns["passages"][:6] == ("passage_id", "tenant_id", "scope_id", "document_id", "start", "end")
        assert not any(name.startswith("fulltext") for name in order)
        assert catalog.database.problems() == []

    # --- words -----------------------------------------------------------------------------------

    def test_words_are_scored_as_fts5_scores_them(self, catalog: Catalog) -> None:
        run = catalog.ensure_run(RUN)
        bodies = [
            "pump " * 300,
            "pumps pumping PUMPED é e\u0301 ﬁ 日本語",
            "seal",
            "a_b c-d e.f",
            "\U0001f600 pump",
            "a b",
        ]
        texts = [(at, f"pump/{at}", f"title pump {at % 2}", body + " x") for at, body in enumerate(bodies, 1)]
        with catalog.transaction():
            catalog.fulltext.add(run.tenant_id, texts)
        index = WordIndex(catalog, run.tenant_id)
        assert index.state() == (6, 6)
        adlam = "a\U0001e900b"  # a letter to Python, no letter to FTS5: a word of a question that is a phrase there
        for word in ("pump", "pumped", "seal", "é", "日本語", "title", "3", "x", "zebra", "fi", "1", adlam, "\u0301"):
            ids, scores = index.scores(word)
            expected = fts5(texts, word, 1.0, 2.0, 1.0)
            assert ids.tolist() == [each for each, _ in expected]
            assert scores.tolist() == pytest.approx([score for _, score in expected], rel=1e-12, abs=0.0)
            assert index.tells(word) == (0 < 2 * len(expected) < len(texts))
        holding = catalog.fulltext.holding
        assert holding(run.tenant_id, ["pump", "seal"], "1 = 1", []) == []  # no passage of the catalog has these ids

    def test_what_holds_all_words_may_be_narrowed(self, catalog: Catalog) -> None:
        run = catalog.ensure_run(RUN)
        texts = ("the pump leaks", "the seal leaks", "pumps leaked", "pump")
        catalog.add_documents(run, [Document("s", f"t{at}", text) for at, text in enumerate(texts)])
        holding = catalog.fulltext.holding
        assert holding(run.tenant_id, ["leak", "pump"], "passages.tenant_id = ?", [run.tenant_id]) == [1, 3]
        assert holding(run.tenant_id, ["leak", "pump"], "passage_id > ?", [1]) == [3]
        assert holding(run.tenant_id, ["leak", "\u0301"], "passage_id > ?", [0]) == []

    def test_no_tenant_moves_the_words_of_another(self, catalog: Catalog) -> None:
        mine, yours = (catalog.ensure_run(Scope(tenant, "code", "p", "r")) for tenant in ("mine", "yours"))
        catalog.add_documents(mine, [Document("s", f"t{at}", text) for at, text in enumerate(("pump", "seal", "x"))])
        before = WordIndex(catalog, mine.tenant_id).scores("pump")
        catalog.add_documents(yours, [Document("s", f"t{at}", "pump " * at) for at in range(1, 9)])
        after = WordIndex(catalog, mine.tenant_id).scores("pump")
        assert before[0].tolist() == after[0].tolist() == [1] and before[1].tolist() == after[1].tolist()
        assert WordIndex(catalog, mine.tenant_id).state() == (3, 3)
        assert min(WordIndex(catalog, yours.tenant_id).scores("pump")[0]) > 3
        with catalog.transaction():
            catalog.fulltext.drop(yours.tenant_id)
        assert [catalog.fulltext.count(run.tenant_id) for run in (mine, yours)] == [3, -1]

    def test_what_was_taken_out_was_never_there(self, catalog: Catalog) -> None:
        """Idempotent filling and emptying, and every statistic afterwards is that of what is left."""
        tenant = catalog.ensure_run(RUN).tenant_id
        texts = [(at, "s", f"t{at}", "pump seal " * at + "x") for at in range(1, 8)]
        with catalog.transaction():
            catalog.fulltext.create(tenant)
            catalog.fulltext.add(tenant, texts)
            catalog.fulltext.remove(tenant, texts[2:5])
        left = [*texts[:2], *texts[5:]]
        found = WordIndex(catalog, tenant).scores("pump")
        expected = fts5(left, "pump", 1.0, 2.0, 1.0)
        assert found[0].tolist() == [each for each, _ in expected]
        assert found[1].tolist() == pytest.approx([score for _, score in expected], rel=1e-12, abs=0.0)
        assert WordIndex(catalog, tenant).state() == (7, 4)
        with catalog.transaction():
            catalog.fulltext.drop(tenant)
            catalog.fulltext.create(tenant)
        assert WordIndex(catalog, tenant).state() == (0, 0) and catalog.fulltext.count(tenant) == 0
        assert WordIndex(catalog, tenant).scores("pump")[0].tolist() == []

    def test_the_arithmetic_is_that_of_okapi(self, catalog: Catalog) -> None:
        """Against the formula itself, for a question of one word."""
        tenant = catalog.ensure_run(RUN).tenant_id
        bodies = ["pump", "pump pump seal", "seal valve rotor", "valve", "rotor stator"]
        with catalog.transaction():
            catalog.fulltext.add(tenant, [(at, "", "", body) for at, body in enumerate(bodies, 1)])
        lengths, average = [len(body.split()) for body in bodies], sum(len(body.split()) for body in bodies) / 5
        idf = math.log((5 - 2 + 0.5) / (2 + 0.5))
        expected = [
            idf * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * lengths[at] / average))
            for at, body in enumerate(bodies)
            if (often := Counter(body.split())["pump"])
        ]
        assert WordIndex(catalog, tenant).scores("pump")[1].tolist() == pytest.approx(expected, abs=1e-12)
