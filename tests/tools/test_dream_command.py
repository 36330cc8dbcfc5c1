"""`emm dream` and `emm dreams` as a person uses them.

Red when: a dream that nobody opted into runs or is silent about why it does not; the report says other than the JSON;
`emm dreams` writes; a wrong option is not a usage error.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from emm_engine import Archive
from emm_engine.dream import worth
from emm_engine.settings import SHARING_DREAM, Settings
from emm_tools.bench_dream import dream as bench
from emm_tools.bench_dream import text_of
from emm_tools.dream_commands import dream, dreams
from tests.engine.dream_life import RUN, make_archive, notes, waiting


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("told") / "archive"
    make_archive(place, notes(1, 0, 12), opted_in=False)
    return place


def run(command: object, *arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(command, arguments)  # type: ignore[arg-type]
    return done.exit_code, done.stdout, done.stderr


def test_one_dream_from_opting_in_to_its_report(path: Path) -> None:
    code, out, err = run(dreams, str(path))
    assert (code, out) == (0, "nobody has dreamt in this archive yet\n")
    code, out, err = run(dream, str(path), "--once")
    assert (code, out) == (0, "nothing is due\n") and "sharing.dream" in err
    with Archive.open(path) as archive:
        Settings(archive._catalog).set(RUN, SHARING_DREAM, True)
        waiting(archive, notes(2, 0, 4))
    code, out, err = run(dream, str(path), "--once", "--seconds", "100")
    assert code == 0 and err == ""
    assert "cycle 1 done" in out and "4 learnt, 4 superseded versions taken out" in out
    assert "stale       4 of 4 questions → 0 of 4" in out
    assert run(dream, str(path), "--once")[1] == "nothing is due\n"
    code, out, err = run(dreams, str(path), "--json")
    told = json.loads(out)
    assert (told["outcome"], told["learnt"], told["superseded"], told["stale_after"]) == ("done", 4, 4, [0, 4])
    assert told["recall_before"]["n"] == 12
    code, out, err = run(dreams, str(path))
    assert out.splitlines()[1].split()[:3] == ["1", str(RUN), told["started"]] and "4 → 0" in out
    assert "cycle 1 done" in run(dreams, str(path), "--details")[1]
    assert run(dreams, str(path), "--scope", "elsewhere:code", "--json")[1] == ""


@pytest.mark.parametrize(
    "options", [[], ["--once", "--follow"], ["--once", "--seconds", "0"], ["--once", "--writes", "-1"]]
)
def test_what_is_not_a_dream_is_a_usage_error(path: Path, options: list[str]) -> None:
    assert run(dream, str(path), *options)[0] == 2


def test_the_page_shows_the_stored_run() -> None:
    """Red when a figure on the page is not the one in docs/benchmarks/dream.json."""
    folder = Path(__file__).parent.parent.parent / "docs" / "benchmarks"
    stored = json.loads((folder / "dream.json").read_text(encoding="utf-8"))
    assert "\n".join(text_of(stored)) in (folder / "dream.md").read_text(encoding="utf-8")
    assert [row["stale_after"][0] for row in stored["archives"]] == [0, 0]


def test_bench_prints_what_it_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {name: partial(getattr(worth, name), 16, seeds=(0,)) for name in ("measure_replay", "measure_stale")}
    for name, measure in small.items():
        monkeypatch.setattr(worth, name, measure)
    monkeypatch.setattr("emm_tools.bench_dream_archives.N_NOTES", 12)
    store = tmp_path / "dream.json"
    code, out, _ = run(bench, "--json", str(store))
    assert code == 0 and out == "\n".join(text_of(json.loads(store.read_text(encoding="utf-8")))) + "\n"
