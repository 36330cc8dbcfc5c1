"""`emm dream` and `emm dreams` as a person uses them.

Red when: a dream that nobody opted into runs or is silent about why it does not; the report says other than the JSON;
`emm dreams` writes; a wrong option is not a usage error.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from emm_engine import Archive
from emm_engine.settings import SHARING_DREAM, Settings
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
