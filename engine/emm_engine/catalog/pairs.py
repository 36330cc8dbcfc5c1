"""Which pairs the matrix has absorbed: the ledger between catalog and memory.

Purpose: a kill at any moment leaves no pair out and none in twice. The order of a batch is: (1) a
transaction writes the pairs' labels and an *intended* batch that states the memory's count of pairs before it;
(2) one atomic `Memory.write` or `unlearn`; (3) a transaction *settles* the batch with the LSN. After a crash the
memory's own count says which side of (2) it fell on: unchanged means the batch is withdrawn, changed by exactly
the batch means it is settled, anything else is a contradiction and loud. Invariants: at most one batch of a run
is intended at a time; the counts of the settled batches add up to the memory's count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from emm_engine.catalog.store import Catalog, Run, marks
from emm_engine.documents import Label, Marked
from emm_engine.errors import CatalogError

Kind = Literal["write", "unlearn"]


@dataclass(frozen=True, slots=True)
class Taught:
    """A label of a pair's value, the characters that say it, and its weight."""

    mark: Marked
    weight: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Pairs of a run by where they are."""

    absorbed: int  # in the matrix
    pending: int  # text durable, matrix not yet told
    stale: int  # superseded, still in the matrix
    lsn: int  # newest settled commit, 0 = none


class PairLedger:
    """The pairs of one run."""

    def __init__(self, catalog: Catalog, run: Run) -> None:
        self._catalog = catalog
        self._run = run

    def progress(self) -> Progress:
        absorbed, pending, stale = self._catalog.query(
            "SELECT count(CASE WHEN written_by IS NOT NULL AND unlearned_by IS NULL THEN 1 END), "
            "count(CASE WHEN written_by IS NULL AND superseded = 0 THEN 1 END), "
            "count(CASE WHEN superseded = 1 AND written_by IS NOT NULL AND unlearned_by IS NULL THEN 1 END) "
            "FROM pairs WHERE scope_id = ?",
            (self._run.scope_id,),
        )[0]
        lsn = self._catalog.query(
            "SELECT coalesce(max(lsn), 0) FROM batches WHERE scope_id = ?", (self._run.scope_id,)
        )[0][0]
        return Progress(absorbed, pending, stale, lsn)

    def pending(self, count: int) -> list[int]:
        """The oldest pairs to write, without those whose text the embedder refused."""
        rows = self._catalog.query(
            "SELECT passage_id FROM pairs WHERE scope_id = ? AND written_by IS NULL AND superseded = 0 AND NOT EXISTS "
            "(SELECT 1 FROM embed_refusals WHERE embed_refusals.passage_id = pairs.passage_id) "
            "ORDER BY passage_id LIMIT ?",
            (self._run.scope_id, count),
        )
        return [row[0] for row in rows]

    def settled_after(self, passage_id: int, count: int) -> list[int]:
        """The first pairs beyond an id that do not wait to be written."""
        rows = self._catalog.query(
            "SELECT passage_id FROM pairs WHERE scope_id = ? AND passage_id > ? "
            "AND (written_by IS NOT NULL OR superseded = 1) ORDER BY passage_id LIMIT ?",
            (self._run.scope_id, passage_id, count),
        )
        return [row[0] for row in rows]

    def stale(self, count: int) -> list[int]:
        """The oldest pairs to take out: absorbed once, superseded since."""
        rows = self._catalog.query(
            "SELECT passage_id FROM pairs WHERE scope_id = ? AND superseded = 1 AND unlearned_by IS NULL "
            "AND written_by IS NOT NULL ORDER BY passage_id LIMIT ?",
            (self._run.scope_id, count),
        )
        return [row[0] for row in rows]

    def held(self) -> list[int]:
        """The pairs that the matrix holds and keeps, oldest first."""
        rows = self._catalog.query(
            "SELECT passage_id FROM pairs WHERE scope_id = ? AND written_by IS NOT NULL AND unlearned_by IS NULL "
            "AND superseded = 0 ORDER BY written_by, passage_id",
            (self._run.scope_id,),
        )
        return [row[0] for row in rows]

    def absorbed(self) -> list[int]:
        """The pairs that are in the matrix, in the order they were written."""
        rows = self._catalog.query(
            "SELECT passage_id FROM pairs WHERE scope_id = ? AND written_by IS NOT NULL AND unlearned_by IS NULL "
            "ORDER BY written_by, passage_id",
            (self._run.scope_id,),
        )
        return [row[0] for row in rows]

    def kept(self, passage_ids: Sequence[int]) -> dict[int, list[tuple[Label, float]]]:
        """{passage id: the labels and weights its value was made of}."""
        found: dict[int, list[tuple[Label, float]]] = {identity: [] for identity in passage_ids}
        for low in range(0, len(passage_ids), 500):
            part = list(passage_ids[low : low + 500])
            rows = self._catalog.query(
                "SELECT passage_id, kind, name, weight FROM pair_labels JOIN labels USING(label_id) "
                f"WHERE tenant_id = ? AND passage_id IN ({marks(part)})",
                (self._run.tenant_id, *part),
            )
            for identity, kind, name, weight in rows:
                found[identity].append((Label(kind, name), weight))
        return found

    # --- the protocol ----------------------------------------------------------------------------

    def intend_write(self, labels: Mapping[int, Sequence[Taught]], write_count: int) -> int:
        """Step 1 of a write: keep the pairs' labels and announce the batch. Returns its id."""
        catalog, run = self._catalog, self._run
        with catalog.transaction():
            batch_id = self.announce("write", len(labels), write_count)
            catalog.executemany(
                "INSERT INTO pair_labels(passage_id, label_id, weight, span_start, span_end) VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        identity,
                        catalog.label_id(run.tenant_id, each.mark.label),
                        each.weight,
                        each.mark.start,
                        each.mark.end,
                    )
                    for identity, taught in labels.items()
                    for each in taught
                ],
            )
            catalog.executemany(
                "UPDATE pairs SET written_by = ? WHERE passage_id = ?", [(batch_id, identity) for identity in labels]
            )
        return batch_id

    def intend_unlearn(self, passage_ids: Sequence[int], write_count: int) -> int:
        """Step 1 of taking pairs out."""
        with self._catalog.transaction():
            batch_id = self.announce("unlearn", len(passage_ids), write_count)
            self._catalog.executemany(
                "UPDATE pairs SET unlearned_by = ? WHERE passage_id = ?",
                [(batch_id, identity) for identity in passage_ids],
            )
        return batch_id

    def announce(self, kind: Kind, n_pairs: int, write_count: int) -> int:
        """Inside a transaction: an intended batch. Returns its id."""
        return self._catalog.insert(
            "INSERT INTO batches(tenant_id, scope_id, kind, n_pairs, write_count_before) VALUES (?, ?, ?, ?, ?)",
            (self._run.tenant_id, self._run.scope_id, kind, n_pairs, write_count),
        )

    def settle(self, batch_id: int, lsn: int) -> None:
        """Step 3: the memory has committed the batch as `lsn`."""
        with self._catalog.transaction():
            self._catalog.executemany("UPDATE batches SET lsn = ? WHERE batch_id = ?", [(lsn, batch_id)])

    def withdraw(self, batch_id: int) -> None:
        """The memory never saw the batch: its pairs are pending (or stale) again."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "DELETE FROM pair_labels WHERE passage_id IN (SELECT passage_id FROM pairs WHERE written_by = ?)",
                [(batch_id,)],
            )
            for column in ("written_by", "unlearned_by"):
                self._catalog.executemany(f"UPDATE pairs SET {column} = NULL WHERE {column} = ?", [(batch_id,)])
            self._catalog.executemany("DELETE FROM batches WHERE batch_id = ?", [(batch_id,)])

    def reconcile(self, write_count: int, lsn: int) -> str:
        """Compare with the memory after opening it: `clean`, `settled` or `withdrawn`; else `CatalogError`."""
        intended = self._catalog.query(
            "SELECT batch_id, kind, n_pairs, write_count_before FROM batches WHERE scope_id = ? AND lsn IS NULL",
            (self._run.scope_id,),
        )
        outcome = "clean"
        for batch_id, kind, n_pairs, before in intended:
            after = before + n_pairs if kind == "write" else before - n_pairs
            if write_count == after:
                self.settle(batch_id, lsn)
                outcome = "settled"
            elif write_count == before:
                self.withdraw(batch_id)
                outcome = "withdrawn"
        expected = self.expected_write_count()
        if write_count != expected or self._intended():
            raise CatalogError(
                f"the memory of {self._run.scope} does not hold the pairs the catalog says it absorbed",
                expected=f"{expected} pairs",
                found=f"{write_count} pairs at lsn {lsn}",
            )
        return outcome

    def _intended(self) -> bool:
        return bool(
            self._catalog.query("SELECT 1 FROM batches WHERE scope_id = ? AND lsn IS NULL", (self._run.scope_id,))
        )

    def possible_write_counts(self) -> set[int]:
        """What the memory may count: what is settled, and that with an intended batch."""
        settled = self.expected_write_count()
        intended = self._catalog.query(
            "SELECT CASE kind WHEN 'write' THEN n_pairs ELSE -n_pairs END FROM batches "
            "WHERE scope_id = ? AND lsn IS NULL",
            (self._run.scope_id,),
        )
        return {settled, *(settled + row[0] for row in intended)}

    def expected_write_count(self) -> int:
        """Pairs written minus pairs unlearned, over the settled batches."""
        rows = self._catalog.query(
            "SELECT coalesce(sum(CASE kind WHEN 'write' THEN n_pairs ELSE -n_pairs END), 0) FROM batches "
            "WHERE scope_id = ? AND lsn IS NOT NULL",
            (self._run.scope_id,),
        )
        return int(rows[0][0])

    def relearnt(self, written: Sequence[int], lsn: int) -> None:
        """Inside a transaction: the run has another memory, which holds exactly these pairs as of `lsn`.

        Two batches then stand for its whole past: one that wrote every pair that ever was in it, one that took out
        those that are superseded. What the new memory was not given although it is current (its text was refused)
        waits again.
        """
        catalog, scope_id = self._catalog, self._run.scope_id
        past = [row[0] for row in catalog.query("SELECT batch_id FROM batches WHERE scope_id = ?", (scope_id,))]
        kept = set(written)
        withdrawn = [(identity,) for identity in self.held() if identity not in kept]
        catalog.executemany("DELETE FROM pair_labels WHERE passage_id = ?", withdrawn)
        catalog.executemany("UPDATE pairs SET written_by = NULL WHERE passage_id = ?", withdrawn)
        condition = "scope_id = ? AND written_by IS NOT NULL"
        n_ever = catalog.query(f"SELECT count(*) FROM pairs WHERE {condition}", (scope_id,))[0][0]
        for kind, column, n_pairs, extra in (
            ("write", "written_by", n_ever, ""),
            ("unlearn", "unlearned_by", n_ever - len(kept), " AND (superseded = 1 OR unlearned_by IS NOT NULL)"),
        ):
            batch_id = catalog.insert(
                "INSERT INTO batches(tenant_id, scope_id, kind, n_pairs, write_count_before, lsn) "
                "VALUES (?, ?, ?, ?, 0, ?)",
                (self._run.tenant_id, scope_id, kind, n_pairs, lsn),
            )
            catalog.executemany(f"UPDATE pairs SET {column} = ? WHERE {condition}{extra}", [(batch_id, scope_id)])
        catalog.executemany("DELETE FROM batches WHERE batch_id = ?", [(batch_id,) for batch_id in past])
