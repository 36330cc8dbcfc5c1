"""Dream cycles in the catalog: where each one stands, and the swap that must never be torn.

Purpose: a cycle is one row that names the phase to do next and holds, as JSON, what the phases before it found.
A swap is four steps, like a batch of pairs: (1) a transaction states the digests on the way; (2) the memory adopts
the candidate, one atomic act; (3) a commit marks it; (4) a transaction makes the ledger say what the memory now holds.
After a crash the memory's own digest says how far it came, whoever opens it next. Invariants: at most one cycle of
a run is running; facts hold numbers and ids, never text, so what is forgotten is not kept here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import emm
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.store import Catalog, Run
from emm_engine.errors import CatalogError

State = Literal["running", "done", "rolled-back", "yielded"]
Facts = dict[str, Any]

PHASES: Final = ("ingest", "extract", "probe", "distill", "checkpoint", "complete")


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle of one run, as recorded."""

    cycle_id: int
    phase: str  # to do next; the last one done, once the cycle has ended
    state: str
    started: str  # UTC
    ended: str | None
    facts: Facts


class Cycles:
    """The cycles of one run."""

    def __init__(self, catalog: Catalog, run: Run) -> None:
        self._catalog = catalog
        self._run = run

    def running(self) -> Cycle | None:
        found = self._read("state = 'running'", ())
        return found[0] if found else None

    def is_torn(self) -> bool:
        """Whether a swap was intended and nobody has settled it."""
        return bool(
            self._catalog.query("SELECT 1 FROM cycles WHERE scope_id = ? AND swap IS NOT NULL", (self._run.scope_id,))
        )

    def history(self, count: int) -> list[Cycle]:
        """The newest cycles, newest first."""
        return self._read("1 = 1 ORDER BY cycle_id DESC LIMIT ?", (count,))

    def _read(self, where: str, parameters: Sequence[Any]) -> list[Cycle]:
        rows = self._catalog.query(
            "SELECT cycle_id, phase, state, started, ended, facts FROM cycles "
            f"WHERE tenant_id = ? AND scope_id = ? AND {where}",
            (self._run.tenant_id, self._run.scope_id, *parameters),
        )
        return [Cycle(row[0], row[1], row[2], row[3], row[4], facts_of(row[5])) for row in rows]

    def last_seen(self) -> str | None:
        """What the run's last cycle has dealt with, other than those that gave way."""
        rows = self._catalog.query(
            "SELECT seen FROM cycles WHERE scope_id = ? AND seen IS NOT NULL ORDER BY cycle_id DESC LIMIT 1",
            (self._run.scope_id,),
        )
        return str(rows[0][0]) if rows else None

    # --- one cycle -------------------------------------------------------------------------------

    def begin(self, now: str) -> Cycle:
        with self._catalog.transaction():
            cycle_id = self._catalog.insert(
                "INSERT INTO cycles(tenant_id, scope_id, phase, state, started, facts) "
                "VALUES (?, ?, ?, 'running', ?, '{}')",
                (self._run.tenant_id, self._run.scope_id, PHASES[0], now),
            )
        return Cycle(cycle_id, PHASES[0], "running", now, None, {})

    def record(self, cycle: Cycle, phase: str, found: Mapping[str, Any]) -> Cycle:
        """Add to a cycle's facts and set the phase to do next, in one transaction."""
        with self._catalog.transaction():
            facts = self._facts(cycle.cycle_id) | dict(found)
            self._catalog.executemany(
                "UPDATE cycles SET phase = ?, facts = ? WHERE cycle_id = ?",
                [(phase, json.dumps(facts), cycle.cycle_id)],
            )
        return Cycle(cycle.cycle_id, phase, cycle.state, cycle.started, None, facts)

    def end(self, cycle: Cycle, state: State, now: str, found: Mapping[str, Any], seen: str | None) -> Cycle:
        with self._catalog.transaction():
            facts = self._facts(cycle.cycle_id) | dict(found)
            self._catalog.executemany("DELETE FROM cycle_pairs WHERE cycle_id = ?", [(cycle.cycle_id,)])
            self._catalog.executemany(
                "UPDATE cycles SET state = ?, ended = ?, facts = ?, seen = ? WHERE cycle_id = ?",
                [(state, now, json.dumps(facts), seen, cycle.cycle_id)],
            )
        return Cycle(cycle.cycle_id, cycle.phase, state, cycle.started, now, facts)

    def _facts(self, cycle_id: int) -> Facts:
        return facts_of(self._catalog.query("SELECT facts FROM cycles WHERE cycle_id = ?", (cycle_id,))[0][0])

    def plan(self, cycle: Cycle, drops: Sequence[int], relabels: Sequence[int]) -> None:
        """Which pairs the candidate takes out, and which get the labels that are staged for them."""
        rows = [
            (cycle.cycle_id, identity, act) for act, ids in (("drop", drops), ("relabel", relabels)) for identity in ids
        ]
        with self._catalog.transaction():
            self._catalog.executemany("DELETE FROM cycle_pairs WHERE cycle_id = ?", [(cycle.cycle_id,)])
            self._catalog.executemany("INSERT INTO cycle_pairs(cycle_id, passage_id, act) VALUES (?, ?, ?)", rows)

    # --- the swap --------------------------------------------------------------------------------

    def intend_swap(self, cycle: Cycle, digests: SwapDigests) -> None:
        """Step 1: the memory is about to be replaced."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "UPDATE cycles SET swap = ? WHERE cycle_id = ?", [(json.dumps(asdict(digests)), cycle.cycle_id)]
            )


@dataclass(frozen=True, slots=True)
class SwapDigests:
    """What `Memory.digest` is on the way through a swap."""

    before: str
    adopted: str  # the candidate's state at the same LSN
    marked: str  # and at the next LSN: a commit marks the swap, so that whoever goes by LSN reads again

    @classmethod
    def of(cls, live: emm.Memory, candidate: emm.Memory) -> SwapDigests:
        state, uuid = candidate.state(), bytes.fromhex(live.uuid)
        adopted, marked = (emm.Snapshot(state, 1, live.lsn + step, uuid).digest.hex() for step in (0, 1))
        return cls(live.digest, adopted, marked)


def facts_of(text: str) -> Facts:
    """A cycle's facts; `CatalogError` for anything but a JSON object."""
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise CatalogError("a dream cycle's facts cannot be read", expected="a JSON object", found=repr(text[:40]))
    return facts


def settle_swap(catalog: Catalog, run: Run, memory: emm.Memory) -> str:
    """Steps 3 and 4, for whoever holds the run's memory: `clean`, `settled` or `withdrawn`; else `CatalogError`."""
    rows = catalog.query("SELECT cycle_id, swap FROM cycles WHERE scope_id = ? AND swap IS NOT NULL", (run.scope_id,))
    if not rows:
        return "clean"
    cycle_id, swap = rows[0]
    intended, digest = facts_of(swap), memory.digest
    if digest == intended.get("before"):
        with catalog.transaction():
            catalog.executemany("UPDATE cycles SET swap = NULL WHERE cycle_id = ?", [(cycle_id,)])
        return "withdrawn"
    if digest == intended.get("adopted"):
        memory.configure(expand_at=0.0)  # its journal will never hold all its pairs: a dream grows it from the catalog
    elif digest != intended.get("marked"):
        raise CatalogError(
            f"the memory of {run.scope} is neither what a dream read nor what it made",
            expected=f"digest {intended.get('before')} or {intended.get('adopted')}",
            found=digest,
        )
    with catalog.transaction():
        _make_it_so(catalog, run, cycle_id, memory)
    return "settled"


def _make_it_so(catalog: Catalog, run: Run, cycle_id: int, memory: emm.Memory) -> None:
    """The ledger as the memory is after the swap; inside a transaction."""
    acts = catalog.query("SELECT act, passage_id FROM cycle_pairs WHERE cycle_id = ?", (cycle_id,))
    drops = [(identity,) for act, identity in acts if act == "drop"]
    relabels = [(identity,) for act, identity in acts if act == "relabel"]
    expected = PairLedger(catalog, run).expected_write_count()
    if drops:
        batch_id = _settled_batch(catalog, run, -len(drops), expected, memory.lsn)
        catalog.executemany(
            "UPDATE pairs SET unlearned_by = ? WHERE passage_id = ?", [(batch_id, *identity) for identity in drops]
        )
        expected -= len(drops)
    # Pairs written again by a replay, or such as a new solution no longer counts; 0 of them mark the LSN all the same.
    _settled_batch(catalog, run, memory.write_count - expected, expected, memory.lsn)
    catalog.executemany("DELETE FROM pair_labels WHERE passage_id = ?", relabels)
    catalog.executemany(
        "INSERT INTO pair_labels(passage_id, label_id, weight, span_start, span_end) "
        "SELECT passage_id, label_id, weight, span_start, span_end FROM relabel_labels WHERE passage_id = ?",
        relabels,
    )
    catalog.executemany("DELETE FROM relabels WHERE passage_id = ?", relabels)
    facts = facts_of(catalog.query("SELECT facts FROM cycles WHERE cycle_id = ?", (cycle_id,))[0][0])
    catalog.executemany(
        "UPDATE cycles SET swap = NULL, facts = ? WHERE cycle_id = ?",
        [(json.dumps(facts | {"swapped": True, "lsn_after": memory.lsn}), cycle_id)],
    )


def _settled_batch(catalog: Catalog, run: Run, n_pairs: int, before: int, lsn: int) -> int:
    """A batch that the swap brought (n_pairs above 0: written, below: taken out)."""
    kind = "write" if n_pairs >= 0 else "unlearn"
    return catalog.insert(
        "INSERT INTO batches(tenant_id, scope_id, kind, n_pairs, write_count_before, lsn) VALUES (?, ?, ?, ?, ?, ?)",
        (run.tenant_id, run.scope_id, kind, abs(n_pairs), before, lsn),
    )
