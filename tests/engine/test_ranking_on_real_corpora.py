"""Ranking quality on public test collections, where a folder with them is given by EMM_DATA.

Red when: fusion stops being better than each of its two parts on the collection made of questions and abstracts
(Cranfield), or chunking, stop words, plurals, TF-IDF or SVD change so that nDCG@10 falls below what BM25 + LSA gave.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from emm_engine import Archive, Citation, Document, Scope

DATA = os.environ.get("EMM_DATA")
RUN = Scope("bench", "general", "collection", "all")
pytestmark = pytest.mark.skipif(not DATA, reason="needs EMM_DATA: a folder with the public test collections")

Collection = tuple[list[Document], list[tuple[str, str]], dict[str, set[str]]]


def cranfield(folder: Path) -> Collection:
    documents = []
    for match in re.finditer(r"<doc>(.*?)</doc>", (folder / "cran.all.1400.xml").read_text(), re.DOTALL):
        number, title, text = (
            (re.search(rf"<{tag}>(.*?)</{tag}>", match.group(1), re.DOTALL) or ["", ""])[1].strip()
            for tag in ("docno", "title", "text")
        )
        documents.append(Document(number, title or number, text or title or number))
    queries = re.findall(r"<title>(.*?)</title>", (folder / "cran.qry.xml").read_text(), re.DOTALL)
    wanted = judgements((folder / "cranqrel.trec.txt").read_text())
    return documents, [(str(at), query.strip()) for at, query in enumerate(queries, 1)], wanted


def med(folder: Path) -> Collection:
    def parts(name: str) -> list[tuple[str, str]]:
        blocks = re.split(r"^\.I ", (folder / name).read_text(), flags=re.MULTILINE)[1:]
        return [(number.strip(), text.strip()) for number, _, text in (block.partition("\n.W\n") for block in blocks)]

    documents = [Document(number, number, text) for number, text in parts("MED.ALL")]
    return documents, parts("MED.QRY"), judgements((folder / "MED.REL").read_text())


def judgements(text: str) -> dict[str, set[str]]:
    wanted: dict[str, set[str]] = defaultdict(set)
    for line in text.splitlines():
        query, _, document, grade = line.split()
        if int(grade) > 0:
            wanted[query].add(document)
    return wanted


def ndcg_at_10(ranking: Iterable[Citation], wanted: set[str]) -> float:
    documents = list(dict.fromkeys(citation.source for citation in ranking))[:10]
    gain = sum(1 / math.log2(at + 2) for at, document in enumerate(documents) if document in wanted)
    ideal = sum(1 / math.log2(at + 2) for at in range(min(10, len(wanted))))
    return gain / ideal if ideal else 0.0


@pytest.mark.parametrize(
    ("name", "load", "least"), [("cranfield", cranfield, 0.42), ("med", med, 0.755)], ids=["cranfield", "med"]
)
def test_fusion_ranks_as_well_as_measured(name: str, load: object, least: float, tmp_path: Path) -> None:
    assert DATA is not None and callable(load)
    documents, queries, wanted = load(Path(DATA, name))
    totals: dict[str, float] = defaultdict(float)
    with Archive.create(tmp_path / "archive") as archive:
        archive.ingest(documents, RUN)
        for number, query in queries:
            answer = archive.ask(query, RUN, k=60, token_budget=1_000_000)
            words = sorted(answer.citations, key=lambda citation: (-citation.lexical, citation.passage_id))
            for ranking, citations in (("fused", answer.citations), ("vector", answer.vector_only), ("words", words)):
                totals[ranking] += ndcg_at_10(citations, wanted[number]) / len(queries)
    print(f"{name} nDCG@10: " + ", ".join(f"{ranking} {score:.4f}" for ranking, score in totals.items()))
    assert totals["fused"] >= least
    if name == "cranfield":
        assert totals["fused"] > max(totals["vector"], totals["words"])
