"""What earlier checks saw: a small SQLite file outside the archive.

Purpose: `--max-age` and `--max-duration` go on where the last run stopped, least recently checked first; and a
rollback, a cut at a commit boundary or a memory that is gone are seen, which no single copy shows. Invariants: a
place counts as checked only when every byte of it was read; each one is committed as soon as it is through, so a
killed run loses nothing; the last commit seen is only ever replaced by one that follows from it, or by `accept`; a
ledger that is damaged is refused, since one begun anew in silence would have seen nothing.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emm.errors import InputError, StorageError
from emm.verify.checked import Checked
from emm.verify.finding import Finding, Severity, finding
from emm.verify.places import Place
from emm.vfs.resolve import local_path

_APPLICATION: Final = 0x454D4D4C  # "EMML": no other program's database is touched
_VERSION: Final = 1
_ANEW: Final = "move it away, and the next check begins a new one that has seen nothing yet"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS places (
    place TEXT PRIMARY KEY,      -- absolute path, or URL
    checked_us INTEGER,          -- when every byte was last read, µs since 1970; NULL: never
    exit_code INTEGER NOT NULL,  -- of that check, or of a later one that found something
    uuid TEXT,                   -- of the memory there
    lsn INTEGER,                 -- its last commit
    chain TEXT                   -- and that commit's chain value
) WITHOUT ROWID;
"""
_BIRTH: Final = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
{_SCHEMA}
COMMIT;
"""  # whole or not at all, so that a ledger without its table is a damaged one
_FOUND: Final = "CREATE TEMP TABLE found (n INTEGER PRIMARY KEY, place TEXT, url TEXT, root TEXT, is_file INTEGER)"
_UNSOUND: Final = """
SELECT count(*) FROM places WHERE typeof(place) != 'text' OR typeof(checked_us) NOT IN ('integer', 'null')
OR typeof(exit_code) != 'integer' OR typeof(uuid) NOT IN ('text', 'null') OR typeof(lsn) NOT IN ('integer', 'null')
OR typeof(chain) NOT IN ('text', 'null')
"""
_ORDER: Final = """
SELECT found.url, found.root, found.is_file FROM found LEFT JOIN places USING (place)
WHERE places.exit_code IS NULL OR places.exit_code != 0 OR places.checked_us IS NULL OR places.checked_us <= ?
ORDER BY coalesce(places.exit_code, 0) = 0, places.checked_us NULLS FIRST, found.n
"""


@dataclass(frozen=True, slots=True)
class Known:
    """The memory that an earlier check saw at a place."""

    uuid: str
    lsn: int
    chain: str | None


def default_path() -> Path:
    """`$XDG_STATE_HOME/emm/verify-ledger.sqlite`, by default below ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return base / "emm" / "verify-ledger.sqlite"


def key_of(url: str) -> str:
    """The name of a place in the ledger: the same from whatever directory it is asked."""
    path = local_path(url)
    return url.rstrip("/") if path is None else os.path.realpath(path)


def _as_named(root: str, key: str, place: str) -> str:
    """A place below `root`, in the words that named the root."""
    path = local_path(root)
    return place if path is None else os.path.normpath(os.path.join(path, os.path.relpath(place, key)))


class Ledger:
    """One open ledger. `StorageError` when the file cannot be used, `InputError` when it is something else."""

    def __init__(self, path: Path, roots: Iterable[str]) -> None:
        self._path = path
        real = os.path.realpath(path)
        for root in roots:
            inside = local_path(root)
            if inside is not None and os.path.commonpath([real, key := key_of(root)]) == key:
                raise InputError("the ledger must lie outside what is checked", file=str(path), found=f"inside {root}")
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._require_ours()
            self._require_whole()
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(_FOUND)

    def _require_ours(self) -> None:
        application, version, objects, tables = (
            self._db.execute(query).fetchone()[0]
            for query in (
                "PRAGMA application_id",
                "PRAGMA user_version",
                "SELECT count(*) FROM sqlite_master",
                "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'places'",
            )
        )
        if (application, version, objects) == (0, 0, 0):
            self._db.executescript(_BIRTH)
        elif (application, version) != (_APPLICATION, _VERSION):
            raise InputError(
                "this is no ledger of emm-verify",
                file=str(self._path),
                expected=f"application {_APPLICATION:#x}, version {_VERSION}",
                found=f"application {application:#x}, version {version}",
            )
        elif not tables:
            raise self._damaged("its table is gone")

    def _require_whole(self) -> None:
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        (unsound,) = self._db.execute(_UNSOUND).fetchone() if found == "ok" else (0,)
        if found != "ok" or unsound:
            raise self._damaged(f"{unsound} of its rows are not what a check writes" if unsound else str(found))

    def _damaged(self, how: str) -> StorageError:
        said = " ".join(how.split())
        return StorageError(f"the ledger is damaged ({said}); {_ANEW}", file=str(self._path))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._damaged(str(error)) from error
            raise StorageError(f"the ledger cannot be used: {error}", file=str(self._path)) from error
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"the ledger cannot be used: {error}", file=str(self._path)) from error

    # --- which places, in which order --------------------------------------------------------------

    def due(self, places: Iterable[Place], max_age_s: float | None) -> Iterator[Place]:
        """The places that are to be checked, the least recently checked first; those with problems come at once.

        With `max_age_s`, places that were found clean since then are left out.
        """
        with self._told():
            self._db.execute("BEGIN")
            for place in places:
                if place.problem is not None:
                    yield place
                    continue
                row = (key_of(place.url), place.url, place.root, place.is_file)
                self._db.execute("INSERT INTO found (place, url, root, is_file) VALUES (?, ?, ?, ?)", row)
            self._db.execute("CREATE INDEX temp.found_place ON found (place)")
            self._db.execute("COMMIT")
            now = time.time_ns() // 1000
            newest = now - int(min((max_age_s or 0) * 1e6, now))  # an age beyond 1970 is any age
            for url, root, is_file in self._db.cursor().execute(_ORDER, (newest,)):
                yield Place(url, root, bool(is_file))

    def counts(self) -> int:
        """How many places were found."""
        return int(self._db.execute("SELECT count(*) FROM found").fetchone()[0])

    # --- what was seen ----------------------------------------------------------------------------

    def known(self, url: str) -> Known | None:
        """The memory that an earlier check saw at a place."""
        with self._told():
            query = "SELECT uuid, lsn, chain FROM places WHERE place = ? AND uuid IS NOT NULL AND lsn IS NOT NULL"
            row = self._db.execute(query, (key_of(url),)).fetchone()
        return None if row is None else Known(*row)

    def compare(self, known: Known | None, checked: Checked) -> list[Finding]:
        """What the memory now says against what was seen before."""
        unread = any(each.severity in (Severity.UNKNOWN, Severity.REFUSED) for each in checked.findings)
        if known is None or checked.uuid is None or checked.lsn is None or unread:
            return []
        where = {"file": checked.url, "rule": "J-12"}
        if checked.uuid.hex() != known.uuid:
            message = "this is another memory than at the last check"
            return [
                finding("memory-replaced", message, file=checked.url, expected=known.uuid, found=checked.uuid.hex())
            ]
        if checked.lsn < known.lsn:
            message = "the memory was rolled back, or cut at a commit boundary: an earlier check saw later commits"
            numbers = {"expected": f"commits up to {known.lsn}", "found": f"commits up to {checked.lsn}"}
            return [finding("rolled-back", message, lsns=(checked.lsn + 1, known.lsn), **numbers, **where)]
        chain = checked.chains.get(known.lsn)
        if chain is not None and known.chain is not None and chain.hex() != known.chain:
            message = f"commit {known.lsn} is not the one that an earlier check saw"
            numbers = {"expected": f"chain {known.chain[:16]}", "found": f"chain {chain.hex()[:16]}"}
            return [finding("history-replaced", message, lsns=(1, known.lsn), **numbers, **where)]
        return []

    def record(self, url: str, checked: Checked | None, exit_code: int, *, complete: bool, keep: bool) -> None:
        """Remember a check. `keep`: the numbers contradict those of an earlier check, which stay."""
        uuid = lsn = chain = None
        if checked is not None and checked.uuid is not None and checked.lsn is not None and not keep:
            uuid, lsn = checked.uuid.hex(), checked.lsn
            chain = None if checked.chain is None else checked.chain.hex()
        when = time.time_ns() // 1000 if complete else None
        with self._told():
            self._db.execute(
                "INSERT INTO places VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (place) DO UPDATE SET"
                " checked_us = coalesce(excluded.checked_us, checked_us),"
                " exit_code = CASE WHEN excluded.checked_us IS NULL THEN max(exit_code, excluded.exit_code)"
                " ELSE excluded.exit_code END,"
                " chain = CASE WHEN excluded.uuid IS NULL THEN chain ELSE excluded.chain END,"
                " lsn = coalesce(excluded.lsn, lsn), uuid = coalesce(excluded.uuid, uuid)",
                (key_of(url), when, exit_code, uuid, lsn, chain),
            )

    def gone(self, roots: Iterable[str], is_excused: Callable[[str], bool]) -> Iterator[tuple[str, Known]]:
        """Memories that were seen below the roots and were not found now."""
        query = (
            "SELECT place, uuid, lsn, chain FROM places WHERE (place = ?1 OR substr(place, 1, length(?2)) = ?2)"
            " AND uuid IS NOT NULL AND place NOT IN (SELECT place FROM found) ORDER BY place"
        )
        for root in roots:
            key = key_of(root)
            with self._told():
                for place, uuid, lsn, chain in self._db.cursor().execute(query, (key, f"{key.rstrip('/')}/")):
                    if not is_excused(place):
                        yield _as_named(root, key, place), Known(uuid, lsn, chain)

    def no_memory(self, url: str) -> None:
        """A place was found, and what lies there is no memory: one that was seen there is gone."""
        with self._told():
            self._db.execute("DELETE FROM found WHERE place = ?", (key_of(url),))

    def forget(self, url: str) -> None:
        """Remember nothing of a place."""
        with self._told():
            self._db.execute("DELETE FROM places WHERE place = ?", (key_of(url),))

    def close(self) -> None:
        self._db.close()
