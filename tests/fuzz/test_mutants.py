"""Protocol bugs planted one at a time: the harness sees each, and sees nothing in the library as it is.

Red when a mutant lives, which means that the bug it stands for could come back unseen; when its patch no longer fits
the source, so that it must be planted anew; or when the record of which ordinary test sees it is not about it.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from emm_fuzz import REPOSITORY
from emm_fuzz.jsonl import read_lines
from emm_fuzz.mutants import __main__ as command
from emm_fuzz.mutants.__main__ import kill, table
from emm_fuzz.mutants.copies import Copy, probed_module
from emm_fuzz.mutants.every import MUTANTS, RECORD
from emm_fuzz.mutants.outside import Map, look, probe_of
from emm_fuzz.mutants.patching import Patch, function_of, patched, patched_module, planted
from emm_fuzz.mutants.planting import Mutant

LINES_MAX = 15
ALONE_MIN = 45  # mutants that no test outside the fuzz group sees
PROVEN_MIN = 45  # of them, those whose outside run is on record; the others say that theirs is pending
PENDING = "not run since it was changed"
SYNC = "emm.vfs.handles:LocalAppender.sync"
KILLABLE = [each for each in MUTANTS if not each.equivalent]
BY_NAME = {each.name: each for each in MUTANTS}


@pytest.mark.parametrize("mutant", KILLABLE, ids=lambda mutant: mutant.name)
def test_it_is_killed(mutant: Mutant) -> None:
    """Red when the bug could come back unseen."""
    print(kill(mutant))


@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.equivalent], ids=lambda mutant: mutant.name)
def test_an_equivalent_one_is_not_seen(mutant: Mutant) -> None:
    """Red when the argument why nobody can see it is wrong, at least where its own killer looks."""
    with pytest.raises(LookupError, match="nothing was seen"):
        kill(mutant)


def test_mutants_are_many_small_and_each_one_bug() -> None:
    """Red when a mutant grows into a rewrite, or too few are left that only this harness finds."""
    assert len(BY_NAME) == len(MUTANTS) >= 100
    assert all(each.lines <= LINES_MAX and each.story.endswith(".") for each in MUTANTS)
    assert len([each for each in KILLABLE if not each.also_seen_by]) >= ALONE_MIN


def test_help_and_a_mistyped_name_plant_nothing(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    """`--help` planted every mutant; a name that no mutant has counted as none alive."""
    monkeypatch.setattr(command, "kill", lambda mutant: pytest.fail(f"{mutant.name} was planted"))
    for arguments, code in ((["--help"], 0), (["no-such-mutant"], 2), (["--markdwon"], 2)):
        with pytest.raises(SystemExit) as ended:
            command.main(arguments)
        assert ended.value.code == code
    told = capsys.readouterr()
    assert "--markdown" in told.out and "there is no mutant no-such-mutant" in told.err


# --- the record of the tests outside --------------------------------------------------------------


def test_the_record_of_the_tests_outside_is_about_these_mutants() -> None:
    """Red when a mutant was changed or added and `python -m emm_fuzz.mutants.outside --jsonl` was not run since."""
    records = read_lines(RECORD)
    assert [each["mutant"] for each in records] == [each.name for each in MUTANTS]
    for each in records:
        mutant = BY_NAME[each["mutant"]]
        assert each["hash"] == mutant.hash, f"{mutant.name} is not the mutant that was looked at"
        assert (each["seen_by"] or "") == mutant.also_seen_by, mutant.name
        assert each["commit"] and each["date"] and (each["tests"] > 0) == (each["why"] != PENDING)
    assert len([each for each in records if each["tests"] and not each["seen_by"]]) >= PROVEN_MIN


def test_tests_that_are_said_to_see_a_mutant_exist() -> None:
    """Red when such a test is renamed or removed: then nobody knows whether the mutant is still seen."""
    for each in MUTANTS:
        if each.also_seen_by:
            file, _, rest = each.also_seen_by.partition("::")
            name = rest.rpartition("::")[2].partition("[")[0]
            inherited = REPOSITORY / "emm" / "testing" / "vfs_contract.py"
            assert any(f"def {name}(" in path.read_text() for path in (REPOSITORY / file, inherited)), each.also_seen_by


def test_the_page_names_every_mutant_and_its_killer() -> None:
    """Red when docs/durability.md is out of date: `python -m emm_fuzz.mutants --markdown` prints its table."""
    page = (REPOSITORY / "docs" / "durability.md").read_text().splitlines()
    first = page.index(next(table(MUTANTS)))
    assert page[first : first + 2 + len(MUTANTS)] == list(table(MUTANTS))


def test_outside_names_the_test_that_sees_a_mutant(tmp_path: Path) -> None:
    """Red when the tests outside run without the mutant, or when a failure of one is not noticed."""
    test = "tests/vfs/test_local.py::test_writes_that_come_short_are_continued"
    other = "tests/vfs/test_local.py::test_a_failed_sync_poisons"
    mutant = BY_NAME["short-write-ignored"]
    known = Map("", dict.fromkeys((test, other), 1.0), {test: [probe_of(mutant)], other: [probe_of(mutant)]})
    assert look(mutant, known, Copy(tmp_path)).by == test


# --- planting -------------------------------------------------------------------------------------


def test_a_mutant_is_taken_out_again() -> None:
    """Red when what comes after a mutant runs with it."""
    sync = function_of(SYNC)
    before = sync.__code__
    with pytest.raises(RuntimeError), planted(Patch(SYNC, "os.fdatasync", "int")):
        assert sync.__code__ is not before
        raise RuntimeError
    assert sync.__code__ is before


def test_a_patch_that_does_not_fit_is_refused() -> None:
    """Red when a mutant that no longer fits the source is taken for one that lives."""
    with pytest.raises(LookupError), planted(Patch(SYNC, "no such words", "pass")):
        pass


def test_a_condition_leaves_the_rest_as_it_was() -> None:
    """Red when `when` loses the original, or the statement after it."""
    source = "def f(x):\n    if x:\n        a()\n        b()\n    return x\n"
    statement = patched(source, [Patch("m:f", "a()\n        b()", "c()", when="x > 1")])
    expected = "def f(x):\n if x:\n  if x > 1:\n   c()\n  else:\n   a()\n   b()\n return x"
    assert ast.dump(ast.parse(statement)) == ast.dump(ast.parse(expected))
    expression = patched("def f(x):\n    return g(x) + 1\n", [Patch("m:f", "g(x)", "h(x)", when="x > 1")])
    assert expression == "def f(x):\n    return (h(x) if x > 1 else g(x)) + 1\n"


def test_the_copy_gets_the_same_bug_and_its_probe_stands_before_it() -> None:
    """Red when the tests outside would run another bug than the harness, or pass it without a trace."""
    for mutant in MUTANTS:
        for module in {each.module for each in mutant.patches}:
            here = [each for each in mutant.patches if each.module == module]
            file = REPOSITORY.joinpath(*module.split(".")).with_suffix(".py").read_text()
            assert ast.dump(ast.parse(patched_module(file, here))) != ast.dump(ast.parse(file))
            probed = probed_module(file, module, [(mutant.name, each) for each in here], functions=False)
            assert probed.count(f"_emm_reached('{mutant.name}')") >= len(here)
