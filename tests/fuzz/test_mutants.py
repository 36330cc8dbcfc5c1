"""Protocol bugs planted one at a time: the harness sees each, and sees nothing in the library as it is.

Red when a mutant lives, which means that the bug it stands for could come back unseen; or when its patch no longer
fits the source, so that it must be planted anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from emm_fuzz.mutants.__main__ import MUTANTS, kill
from emm_fuzz.mutants.planting import Mutant, Patch, function_of, planted

LINES_MAX = 15


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_is_killed(mutant: Mutant) -> None:
    print(kill(mutant))


def test_mutants_are_many_small_and_each_one_bug() -> None:
    assert len(MUTANTS) >= 70
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert all(mutant.lines <= LINES_MAX and mutant.story.endswith(".") for mutant in MUTANTS)


def test_the_page_names_every_mutant_and_its_killer() -> None:
    """Red when docs/durability.md is out of date: `python -m emm_fuzz.mutants --markdown` prints its table."""
    page = (Path(__file__).parents[2] / "docs" / "durability.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 4]
    assert rows == [f"| `{each.name}` | {each.story} | {each.killer.label} |" for each in MUTANTS]


def test_a_mutant_is_taken_out_again() -> None:
    sync = function_of("emm.vfs.handles:LocalAppender.sync")
    before = sync.__code__
    with pytest.raises(RuntimeError), planted(Patch("emm.vfs.handles:LocalAppender.sync", "os.fdatasync", "int")):
        assert sync.__code__ is not before
        raise RuntimeError
    assert sync.__code__ is before


def test_a_patch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(LookupError), planted(Patch("emm.vfs.handles:LocalAppender.sync", "no such words", "pass")):
        pass
