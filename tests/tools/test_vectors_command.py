"""`emm vectors`, and `emm bench vectors` at small size. Timings gate nothing.

Red when: the command hides what it did or needs an archive with many vectors, the life that contenders live through is
not the one their recall is counted against, or the page in the documentation is not what the stored run prints.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emm_tools.bench_vectors import text_of
from emm_tools.vectors_churn import Life, Workload, ask, churn

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"


def test_vectors_of_an_archive_are_checked_and_told(run, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    for number in range(3):
        (tmp_path / "notes" / f"{number}.md").write_text(f"# Run {number}\n\nThe valve of pump {number} leaks.\n")
    path = tmp_path / "archive"
    assert run("emm", "ingest", path, tmp_path / "notes", "--scope", "chemistry/hall/2023").code == 0
    text = run("emm", "vectors", path).out
    assert text.splitlines()[1].split() == ["local:chemistry/hall/2023", "3", "exact", "1.000", *["all", "is", "well"]]
    (line,) = run("emm", "vectors", path, "--json").out.splitlines()
    assert json.loads(line) == {
        "scope": "local:chemistry/hall/2023",
        "vectors": 3,
        "recall": 1.0,
        "search_k": None,
        "done": [],
    }
    status = run("emm", "tree", path, "--json").out.splitlines()[-1]
    assert (json.loads(status)["vector_recall"], json.loads(status)["vector_search_k"]) == (1.0, None)
    assert run("emm", "vectors", tmp_path / "none").code == 10


@pytest.mark.parametrize("name", ["segments", "exact"])
def test_a_contender_is_judged_by_what_is_alive(tmp_path: Path, name: str) -> None:
    workload = Workload(n=1200, dim=8, n_namespaces=3, n_queries=60, seed=3)
    lived = churn(name, tmp_path, workload)
    assert lived["disk_bytes"] > 600 * 8 * 4 and set(lived["seconds"]) == {"add", "replace", "remove", "settle"}
    asked = ask(name, tmp_path, workload)
    assert asked["recall_large"] == asked["recall_small"] == 1.0  # these few are searched exactly


def test_the_life_deletes_half_and_replaces_a_fifth() -> None:
    life = Life.of(Workload(n=1000, dim=8, n_namespaces=5, n_queries=50, seed=1))
    n_acts = {word: 0 for word in ("add", "replace", "remove")}
    for word, namespace, ids, rows in life.steps():
        n_acts[word] += len(ids)
        assert life.bounds[namespace] <= ids.min() and ids.max() < life.bounds[namespace + 1]
        assert word == "remove" or len(rows) == len(ids)
    total = int(life.bounds[-1])
    assert n_acts == {"add": total, "replace": total // 5, "remove": total // 2}
    assert sum(len(life.alive(each)) for each in range(5)) == total - total // 2
    assert int((life.row_of >= 1000).sum()) == total // 5
    for namespace, query, right in life.questions():
        assert np.isin(right, life.alive(namespace)).all()
        assert abs(float(np.linalg.norm(query)) - 1) < 1e-5


def test_the_page_is_what_the_stored_run_prints() -> None:
    report = json.loads((DOCS / "vectors.json").read_text(encoding="utf-8"))
    assert text_of(report) in (DOCS / "vectors.md").read_text(encoding="utf-8")
