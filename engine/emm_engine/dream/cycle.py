"""One dream of one run: ingest → extract → probe → distill → checkpoint → complete.

Purpose: carry a cycle from the phase it stands at to its end. Invariants: a phase is recorded in the transaction that
ends it, and doing it again changes nothing more, so a kill costs at most the phase under way; the memory is
replaced in one act, at the end, after the candidate answered the probes no worse than the memory does, and only if the
memory is to the bit what the probe phase read; whoever writes meanwhile wins, and the dream's work is thrown away.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import emm
from emm_engine.catalog.cycles import PHASES, Cycle, Cycles, Facts, SwapDigests, settle_swap
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.store import Catalog, Run
from emm_engine.dream.budget import Budget, Paused, Yielded
from emm_engine.dream.distill import CANDIDATE, Distillation, Made
from emm_engine.dream.extract import CONTRADICTIONS_NAMED, contradictions, extractor_of, reexamine
from emm_engine.dream.kept import KeptPairs
from emm_engine.dream.plan import SATURATION_MAX, Plan, Standing, plan_of
from emm_engine.dream.probes import chosen
from emm_engine.dream.stale import stale_answers
from emm_engine.dream.verdict import measured, probed_before, seen_of, why_worse
from emm_engine.errors import EmbedderUnavailable
from emm_engine.hierarchy import Scope
from emm_engine.ingest.pipeline import Ingest
from emm_engine.matrices.growth import KeysOf
from emm_engine.matrices.shelf import MatrixShelf

FENCED = "another process is writing to the run"

Tell = Callable[[str], None]
Settling = Callable[[Run], Ingest]  # takes the run's memory to settle what waits there; `FencedError`
MergeUp = Callable[[Scope], list[str]]  # refresh the roll-ups above a run; which could not be, and why
Following = Literal["ingest", "extract", "probe", "distill", "checkpoint", "complete", "done", "rolled-back"]
Phase = Callable[[Cycle], tuple[Following, Facts]]  # what a phase leads to, and what it found


class CycleRun:
    """The work of one cycle."""

    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        shelf: MatrixShelf,
        settling: Settling,
        keys_of: KeysOf,
        merge_up: MergeUp,
        run: Run,
        budget: Budget,
        tell: Tell,
    ) -> None:
        self._folder = folder  # of all cycles; this one's own lies in it
        self._catalog = catalog
        self._shelf = shelf
        self._settling = settling
        self._keys_of = keys_of
        self._merge_up = merge_up
        self._run = run
        self._budget = budget
        self._tell = tell
        self._cycles = Cycles(catalog, run)
        self._ledger = PairLedger(catalog, run)
        self._phases: dict[str, Phase] = {
            "ingest": self._ingest,
            "extract": self._extract,
            "probe": self._probe,
            "distill": self._distill,
            "checkpoint": self._checkpoint,
            "complete": self._complete,
        }
        assert tuple(self._phases) == PHASES

    def go(self) -> Cycle:
        """From where the run's cycle stands, or from the start, as far as the budget allows."""
        cycle = self._cycles.running() or self._cycles.begin(self._budget.clock.utc())
        try:
            if self._cycles.is_torn():
                with self._writer():  # which settles it
                    cycle = self._cycles.running() or cycle
            while cycle.state == "running":
                self._budget.check()
                cycle = self._phase(cycle)
        except (Paused, EmbedderUnavailable) as reason:
            cycle = self._cycles.record(cycle, cycle.phase, {"why": str(reason)})
        except Yielded as reason:
            cycle = self._cycles.end(cycle, "yielded", self._budget.clock.utc(), {"why": str(reason)}, None)
        if cycle.state != "running":
            shutil.rmtree(self._own(cycle), ignore_errors=True)
        self._tell(f"cycle {cycle.cycle_id} {cycle.state}")
        return cycle

    def _phase(self, cycle: Cycle) -> Cycle:
        self._tell(f"phase {cycle.phase}")
        started = self._budget.elapsed()
        following, found = self._phases[cycle.phase](cycle)
        found["seconds"] = self._seconds(cycle, self._budget.elapsed() - started)
        if following == "done" or following == "rolled-back":
            seen = self._seen((self._cycles.running() or cycle).facts | found)
            return self._cycles.end(cycle, following, self._budget.clock.utc(), found, seen)
        return self._cycles.record(cycle, following, found | {"why": ""})

    def _seen(self, facts: Facts) -> str:
        """What this cycle has dealt with; what came in since it looked is not in it, and so makes the run due again."""
        left = facts.get("left", [0, 0])
        seen = seen_of(facts["lsn_after"], 0, left[0], left[1], facts["extractor"], self._budget.writes_max)
        return seen + (" and more" if facts.get("swapped") and facts.get("more") else "")

    def _seconds(self, cycle: Cycle, spent: float) -> dict[str, float]:
        seconds: dict[str, float] = dict(cycle.facts.get("seconds", {}))
        seconds[cycle.phase] = round(seconds.get(cycle.phase, 0.0) + spent, 3)
        return seconds

    def _own(self, cycle: Cycle) -> Path:
        return self._folder / str(cycle.cycle_id)

    # --- ingest, extract, probe ------------------------------------------------------------------

    def _ingest(self, cycle: Cycle) -> tuple[Following, Facts]:
        """Settle what waits: the existing pipeline, with no document. Counts before, so that a kill hides nothing."""
        with self._settled() as ingest:
            memory = ingest.memory
            if "stale_before" not in cycle.facts:
                found = {
                    "stale_before": stale_answers(memory, self._pairs(), self._catalog, self._run),
                    "batches_before": self._newest_batch(),
                }
                cycle = self._cycles.record(cycle, cycle.phase, found)
            ingest.run([])
        rows = self._catalog.query(
            "SELECT kind, sum(n_pairs) FROM batches "
            "WHERE scope_id = ? AND batch_id > ? AND lsn IS NOT NULL GROUP BY kind",
            (self._run.scope_id, cycle.facts["batches_before"]),
        )
        counts = {kind: int(count) for kind, count in rows}
        return "extract", {"learnt": counts.get("write", 0), "taken_out": counts.get("unlearn", 0)}

    def _newest_batch(self) -> int:
        rows = self._catalog.query(
            "SELECT coalesce(max(batch_id), 0) FROM batches WHERE scope_id = ? AND lsn IS NOT NULL",
            (self._run.scope_id,),
        )
        return int(rows[0][0])

    def _extract(self, cycle: Cycle) -> tuple[Following, Facts]:
        staged = reexamine(self._catalog, self._run, self._pairs(), self._budget, self._tell)
        found = contradictions(self._catalog, self._run)
        return "probe", {
            "extractor": extractor_of(self._catalog, self._run),
            "staged": staged,
            "contradictions": len(found),
            "contradicting": found[:CONTRADICTIONS_NAMED],
        }

    def _probe(self, cycle: Cycle) -> tuple[Following, Facts]:
        pairs = self._pairs()
        probed = chosen(cycle.cycle_id, pairs.kept())
        with self._reader() as memory:
            standing = Standing(
                memory.digest, memory.lsn, memory.rule, memory.rank, memory.key_dim, float(memory.saturation)
            )
            found: Facts = {"standing": asdict(standing), "probed": probed}
            found |= probed_before(memory, pairs, cycle.cycle_id, probed)
        return "distill", found

    # --- distill, checkpoint ---------------------------------------------------------------------

    def _distill(self, cycle: Cycle) -> tuple[Following, Facts]:
        standing, pairs = Standing(**cycle.facts["standing"]), self._pairs()
        self._still(standing)
        there = pairs.sorted()
        if there.unsettled:
            return "ingest", {}
        plan = plan_of(
            standing, there.stale, there.relabelled, there.kept, self._budget.writes_max, self._is_fresh(standing)
        )
        left = [len(there.stale) - len(plan.drops), len(there.relabelled) - len(plan.relabels)]
        if plan.n_writes == 0 and plan.way == "nothing":
            return "checkpoint", {"way": plan.way, "notes": plan.notes, "candidate": None, "left": left}
        distillation = Distillation(
            self._own(cycle), standing, pairs, self._budget, self._tell, lambda: self._moved(standing)
        )
        with self._reader() as live:
            try:
                made = self._made(cycle, distillation, live, plan)
            except emm.GateError:
                plan = plan.solved_anew()
                made = self._made(cycle, distillation, live, plan)
        return "checkpoint", {
            "way": plan.way,
            "drops": len(plan.drops),
            "relabels": len(plan.relabels),
            "replay": plan.replay,
            "left": left,
            "more": any(left) or (plan.rank > standing.rank and made.saturation >= SATURATION_MAX),
            "rank": made.rank,
            "saturation": float(made.saturation),
            "writes": made.n_writes,
            "candidate": made.digest,
            "notes": plan.notes,
        }

    def _made(self, cycle: Cycle, distillation: Distillation, live: emm.Memory, plan: Plan) -> Made:
        self._cycles.plan(cycle, plan.drops, plan.relabels)
        self._tell(f"planned {plan.way}")
        return distillation.make(live, plan)

    def _is_fresh(self, standing: Standing) -> bool:
        """Whether the memory is another than the last finished dream left."""
        ended = [each for each in self._cycles.history(8) if each.state in ("done", "rolled-back")]
        return not ended or ended[0].facts.get("lsn_after") != standing.lsn

    def _checkpoint(self, cycle: Cycle) -> tuple[Following, Facts]:
        """The candidate as it lies on disk, every block checked, is the one that was distilled; else distil again."""
        if cycle.facts["candidate"] is None:
            return "complete", {}
        try:
            with emm.open(str(self._own(cycle) / CANDIDATE), mode="r") as candidate:
                if candidate.digest == cycle.facts["candidate"]:
                    return "complete", {"n_pairs": candidate.write_count}
        except (emm.MissingError, emm.FormatError):
            pass
        shutil.rmtree(self._own(cycle), ignore_errors=True)
        return "distill", {}

    # --- complete --------------------------------------------------------------------------------

    def _complete(self, cycle: Cycle) -> tuple[Following, Facts]:
        """Measure again; replace the memory, or leave it as it is."""
        if cycle.facts.get("candidate") is None or cycle.facts.get("swapped"):
            return self._finished(cycle)
        standing = Standing(**cycle.facts["standing"])
        self._still(standing)
        try:
            candidate = emm.open(str(self._own(cycle) / CANDIDATE), mode="r")
        except (emm.MissingError, emm.FormatError):
            return "distill", {}
        with candidate:
            cycle = self._cycles.record(cycle, cycle.phase, self._measured(cycle, candidate))
            worse = why_worse(cycle.facts)
            if worse:
                stale, staged = cycle.facts["left"]
                left = [stale + cycle.facts["drops"], staged + cycle.facts["relabels"]]
                return "rolled-back", {"why": worse, "lsn_after": standing.lsn, "left": left}
            self._swap(cycle, standing, candidate)
        return self._finished(self._cycles.running() or cycle)

    def _measured(self, cycle: Cycle, memory: emm.Memory) -> Facts:
        return measured(memory, self._pairs(), self._catalog, self._run, cycle)

    def _swap(self, cycle: Cycle, standing: Standing, candidate: emm.Memory) -> None:
        """Compare and swap, under the memory's lock."""
        with self._writer() as live:
            self._ledger.reconcile(live.write_count, live.lsn)
            if live.digest != standing.digest:
                raise Yielded("the memory was written to meanwhile")
            self._cycles.intend_swap(cycle, SwapDigests.of(live, candidate))
            self._tell("swap intended")
            live.adopt(candidate, live.lsn)
            self._tell("swap adopted")
            settle_swap(self._catalog, self._run, live)
            self._tell("swap settled")

    def _finished(self, cycle: Cycle) -> tuple[Following, Facts]:
        found: Facts = {"lsn_after": cycle.facts.get("lsn_after", cycle.facts["standing"]["lsn"])}
        if not cycle.facts.get("swapped"):
            with self._reader() as memory:
                found |= self._measured(cycle, memory)
        found["notes"] = [*cycle.facts.get("notes", ()), *self._merge_up(self._run.scope)]
        return "done", found

    # --- the memory ------------------------------------------------------------------------------

    def _pairs(self) -> KeptPairs:
        return KeptPairs(self._catalog, self._run, self._keys_of)

    @contextlib.contextmanager
    def _settled(self) -> Iterator[Ingest]:
        try:
            ingest = self._settling(self._run)
        except emm.FencedError:
            raise Paused(FENCED) from None
        with ingest:
            yield ingest

    @contextlib.contextmanager
    def _writer(self) -> Iterator[emm.Memory]:
        """The run's memory under its lock; a dream never waits for a writer."""
        try:
            memory = self._shelf.open_writer(self._run)
        except emm.FencedError:
            raise Paused(FENCED) from None
        with memory:
            yield memory

    def _reader(self) -> emm.Memory:
        return emm.open(str(self._shelf.path(self._run)), mode="r")

    def _still(self, standing: Standing) -> None:
        with self._reader() as memory:
            if memory.digest != standing.digest:
                raise Yielded("the memory was written to meanwhile")

    def _moved(self, standing: Standing) -> None:
        """As `_still`, by what the catalog says: quick enough to be asked at each step."""
        if self._ledger.progress().lsn > standing.lsn:
            raise Yielded("the memory was written to meanwhile")
