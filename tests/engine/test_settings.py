"""Settings: what a scope was told, and what it inherits.

Red when: anything is shared by default; a farther scope outvotes a nearer one; one tenant's word, or a sibling's, is
heard by another; a value of another form is stored or obeyed; taking a word back leaves it standing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import emm
from emm_engine import Scope, ScopeError
from emm_engine.catalog.schema import create_catalog
from emm_engine.catalog.store import Catalog
from emm_engine.errors import CatalogError
from emm_engine.hierarchy import Tenant, chain_of, parse_place
from emm_engine.settings import KEYS, RECALLS, RETRIEVAL_LOCAL, SHARING_DREAM, Held, Settings, key_named

RUN = Scope("lab", "code", "debian", "host")


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    create_catalog(tmp_path / "catalog.sqlite")
    opened = Catalog(tmp_path / "catalog.sqlite")
    yield opened
    opened.close()


def test_nothing_said_means_the_defaults(catalog: Catalog) -> None:
    settings = Settings(catalog)
    for place in chain_of(RUN):
        assert settings.get(place, SHARING_DREAM) is False
        assert settings.get(place, RETRIEVAL_LOCAL) == RECALLS == ("lexical", "vector", "matrix")
    assert catalog.tenant_id("lab") is None  # asking makes nothing


def test_the_nearest_word_wins_and_taking_it_back_lets_the_next_speak(catalog: Catalog) -> None:
    settings = Settings(catalog)
    places = chain_of(RUN)
    assert list(map(str, places)) == ["lab:code/debian/host", "lab:code/debian", "lab:code", "lab:"]
    for place, said in zip(reversed(places), ("lexical", "vector", "matrix", "lexical,matrix"), strict=True):
        settings.set(place, RETRIEVAL_LOCAL, RETRIEVAL_LOCAL.parse(said))
        assert settings.get(RUN, RETRIEVAL_LOCAL) == tuple(said.split(","))
    for place, said in zip(places, ("matrix", "vector", "lexical", "lexical,vector,matrix"), strict=True):
        settings.unset(place, RETRIEVAL_LOCAL)
        assert settings.get(RUN, RETRIEVAL_LOCAL) == tuple(said.split(","))


def test_a_word_is_heard_below_and_nowhere_else(catalog: Catalog) -> None:
    settings = Settings(catalog)
    settings.set(Scope("lab", "code", "debian"), SHARING_DREAM, True)
    assert settings.get(RUN, SHARING_DREAM) is True
    elsewhere = ("lab:code", "lab:", "lab:code/other/host", "lab:chat/debian/host", "other:code/debian/host", "other:")
    for text in elsewhere:
        assert settings.get(parse_place(text), SHARING_DREAM) is False
    settings.set(RUN, SHARING_DREAM, False)
    assert settings.get(RUN, SHARING_DREAM) is False and settings.get(Scope.parse("lab:code/debian/x"), SHARING_DREAM)


def test_where_a_value_comes_from_is_said(catalog: Catalog) -> None:
    settings = Settings(catalog)
    settings.set(Tenant("lab"), SHARING_DREAM, True)
    assert list(settings.held(RUN)) == [
        Held("retrieval.data.local", "lexical,vector,matrix", None),
        Held("sharing.dream", "on", "lab:"),
    ]


@pytest.mark.parametrize("text", ["", "yes", "ON", "1", "on "])
def test_a_switch_is_on_or_off(text: str) -> None:
    with pytest.raises(emm.InputError) as caught:
        SHARING_DREAM.parse(text)
    assert caught.value.expected == "on or off" and caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "lexical,", "lexical,lexical", "words", "all,matrix", "x" * 10_000])
def test_recalls_are_a_list_of_the_three(text: str) -> None:
    with pytest.raises(emm.InputError) as caught:
        RETRIEVAL_LOCAL.parse(text)
    assert len(str(caught.value)) < 300


def test_values_are_kept_in_one_order_and_round_trip(catalog: Catalog) -> None:
    assert RETRIEVAL_LOCAL.parse("matrix,lexical") == ("lexical", "matrix")
    assert RETRIEVAL_LOCAL.parse("all") == RECALLS
    for key in KEYS.values():
        assert key.parse(key.text(key.default)) == key.default
        assert key_named(key.name) is key
    with pytest.raises(emm.InputError, match="no such setting"):
        key_named("sharing.all")
    with pytest.raises(emm.InputError):
        Settings(catalog).set(RUN, RETRIEVAL_LOCAL, ())
    assert catalog.query("SELECT count(*) FROM settings") == [(0,)]


def test_a_stored_value_that_means_nothing_is_loud_and_not_the_default(catalog: Catalog) -> None:
    """Red when an archive of a later version, or a damaged one, is obeyed as if nobody had said anything."""
    settings = Settings(catalog)
    settings.set(RUN, RETRIEVAL_LOCAL, ("lexical",))
    with catalog.transaction():
        catalog.executemany("UPDATE settings SET value = ?", [("telepathy",)])
    with pytest.raises(CatalogError, match="cannot be read") as caught:
        settings.get(RUN, RETRIEVAL_LOCAL)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("text", [":", "a/b:", "A:", "x:y:z", "../x:", "lab::"])
def test_a_place_is_a_scope_or_a_tenant(text: str) -> None:
    assert parse_place("lab:") == Tenant("lab") and parse_place("code/x") == Scope("local", "code", "x")
    with pytest.raises(ScopeError):
        parse_place(text)
