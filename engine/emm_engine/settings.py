"""What a scope was told: settings that run, project, domain and tenant inherit from each other.

Purpose: one table of keys with their values' form and defaults, and the lookup run ← project ← domain ← tenant.
Invariants: a value is checked before it is stored and again when it is read; the nearest scope that says
anything wins; a setting of one tenant is never read for another; nothing is shared unless somebody said so.

    Settings(catalog).get(scope, SHARING_DREAM)  # False unless the scope, or one above it, opted in
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from emm import InputError
from emm_engine.catalog.store import Catalog
from emm_engine.errors import CatalogError
from emm_engine.hierarchy import Place, chain_of

T = TypeVar("T")

RECALLS: Final[tuple[str, ...]] = ("lexical", "vector", "matrix")  # the three that every recall asks
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Key(Generic[T]):
    """A setting: its name, what holds where nobody has said anything, and how text and value become each other."""

    name: str
    default: T
    form: str  # for a person
    parse: Callable[[str], T]  # `InputError` for text of another form
    text: Callable[[T], str]


def _parse_switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise InputError("not a switch", expected="on or off", found=repr(text[:80]))
    return text == "on"


def _parse_recalls(text: str) -> tuple[str, ...]:
    """The named recalls, in the order of `RECALLS`."""
    if text == ALL:
        return RECALLS
    named = text.split(",")
    if len(set(named)) != len(named) or not set(named) <= set(RECALLS):
        raise InputError(
            "not a list of recalls", expected=f"{ALL}, or some of {','.join(RECALLS)}", found=repr(text[:80])
        )
    return tuple(recall for recall in RECALLS if recall in named)


def _switch_text(value: bool) -> str:
    return "on" if value else "off"


SHARING_DREAM: Final = Key("sharing.dream", False, "on or off", _parse_switch, _switch_text)
RETRIEVAL_LOCAL: Final = Key(
    "retrieval.data.local", RECALLS, f"{ALL}, or some of {','.join(RECALLS)}", _parse_recalls, ",".join
)
KEYS: Final[MappingProxyType[str, Key[Any]]] = MappingProxyType(
    {key.name: key for key in (SHARING_DREAM, RETRIEVAL_LOCAL)}
)


def key_named(name: str) -> Key[Any]:
    """The setting of that name; `InputError` where there is none."""
    if name not in KEYS:
        raise InputError("there is no such setting", expected=", ".join(KEYS), found=repr(name[:80]))
    return KEYS[name]


@dataclass(frozen=True, slots=True)
class Held:
    """A setting as it holds at a place, and where that was said (None: nowhere, it is the default)."""

    key: str
    value: str
    said_at: str | None


class Settings:
    """The settings of an archive."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def get(self, place: Place, key: Key[T]) -> T:
        """What holds at a place: its own word, else the nearest above it, else the default."""
        return self._found(place, key)[0]

    def held(self, place: Place) -> Iterator[Held]:
        """Every setting as it holds at a place, in order of name."""
        for name in sorted(KEYS):
            value, said_at = self._found(place, KEYS[name])
            yield Held(name, KEYS[name].text(value), said_at)

    def set(self, place: Place, key: Key[T], value: T) -> None:
        """Say it at a place, which need not exist yet; durable when it returns."""
        text = key.text(value)
        key.parse(text)  # what cannot be read again is not written
        with self._catalog.transaction():
            self._catalog.executemany("INSERT INTO tenants(name) VALUES (?) ON CONFLICT DO NOTHING", [(place.tenant,)])
            self._catalog.executemany(
                "INSERT INTO settings(tenant_id, scope, key, value) VALUES (?, ?, ?, ?) "
                "ON CONFLICT(tenant_id, scope, key) DO UPDATE SET value = excluded.value",
                [(self._catalog.tenant_id(place.tenant), str(place), key.name, text)],
            )

    def unset(self, place: Place, key: Key[T]) -> None:
        """Take the word back: what is above holds again."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "DELETE FROM settings WHERE scope = ? AND key = ? "
                "AND tenant_id = (SELECT tenant_id FROM tenants WHERE name = ?)",
                [(str(place), key.name, place.tenant)],
            )

    def _found(self, place: Place, key: Key[T]) -> tuple[T, str | None]:
        rows = self._catalog.query(
            "SELECT scope, value FROM settings JOIN tenants USING(tenant_id) WHERE name = ? AND key = ?",
            (place.tenant, key.name),
        )
        said: dict[str, str] = {scope: value for scope, value in rows}
        for level in map(str, chain_of(place)):
            if level in said:
                try:
                    return key.parse(said[level]), level
                except InputError as error:
                    raise CatalogError(
                        f"the setting {key.name} of {level} cannot be read", expected=key.form, found=error.found
                    ) from error
        return key.default, None
