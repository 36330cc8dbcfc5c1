"""Scopes and their paths.

Red when: a name can leave the archive (separators, dots), two names differ only by case, a rank exceeds its key_dim,
or a scope contains one of another tenant.
"""

from __future__ import annotations

import pytest

import emm
from emm_engine import DOMAINS, Scope, ScopeError


def test_the_seven_domains_start_as_designed() -> None:
    assert {name: (shape.rank, shape.dim) for name, shape in DOMAINS.items()} == {
        "chat": (64, 768),
        "code": (128, 768),
        "particle_physics": (512, 1024),
        "genomics": (256, 1024),
        "seismic": (256, 768),
        "robotics": (128, 512),
        "general": (64, 768),
    }
    assert all(shape.rank <= shape.key_dim and shape.rank % 16 == 0 for shape in DOMAINS.values())


@pytest.mark.parametrize(
    "name", ["", "..", ".a", "a/b", "a\\b", "A", "a b", "_rollup", "a.", "\u00e9", "a" * 65, "a\n", "a:b"]
)
def test_names_that_could_leave_or_collide_are_refused(name: str) -> None:
    for scope in ({"tenant": name}, {"domain": name}, {"project": name}, {"project": "p", "run": name}):
        with pytest.raises(ScopeError) as caught:
            Scope(**scope)
        assert isinstance(caught.value, emm.InputError)


def test_text_form_round_trips() -> None:
    for text in ("lab:code", "lab:code/x", "lab:code/x/2024.1"):
        assert str(Scope.parse(text)) == text
    assert Scope.parse("code/x/y") == Scope("local", "code", "x", "y")
    for bad in ("a/b/c/d", ":code", "", "x//y"):
        with pytest.raises(ScopeError):
            Scope.parse(bad)


def test_runs_need_projects_and_writing_needs_runs() -> None:
    with pytest.raises(ScopeError):
        Scope("t", "code", None, "r")
    with pytest.raises(ScopeError):
        Scope("t", "code", "p").require_run()


def test_paths_and_ancestors() -> None:
    run = Scope("t", "code", "p", "r")
    assert str(run.memory_path) == "memories/t/code/p/r"
    assert [str(scope.memory_path) for scope in run.ancestors()] == [
        "memories/t/code/p/_rollup",
        "memories/t/code/_rollup",
    ]
    assert all(scope.contains(run) for scope in run.ancestors()) and run.contains(run)
    assert not Scope("u", "code").contains(run) and not run.contains(Scope("t", "code", "p"))
