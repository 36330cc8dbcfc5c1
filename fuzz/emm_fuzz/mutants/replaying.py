"""Bugs in what is applied: in replay, in expansions, in what goes from one segment or memory to the next.

Purpose: the mutants of the replayer, of expanding and of merging.
"""

from __future__ import annotations

from typing import Final

from emm_fuzz.mutants.killers import explored
from emm_fuzz.mutants.patching import Patch
from emm_fuzz.mutants.planting import Mutant

SESSION: Final = "emm.storage.session:Session"
REPLAYER: Final = "emm.storage.replay:Replayer"

REPLAYING: Final = (
    Mutant(
        "expansion-not-journalled",
        "The rank doubles in memory only, when nothing was written since a later snapshot.",
        (
            Patch(
                f"{SESSION}.expand_bare",
                "return self._commit("
                "[(RecordType.EXPAND, encode_expand(rank))], 0, lambda: self.replayer.expand(rank))",
                "self.replayer.expand(rank)\nreturn self.lsn",
                when="self.lsn == self.snapshot.lsn and self.snapshot.generation > 2",
            ),
        ),
        explored("write", "checkpoint", "write", "checkpoint", "bare"),
    ),
    Mutant(
        "expansion-skipped-in-replay",
        "Recovery does not raise the rank.",
        (Patch(f"{REPLAYER}.apply_record", "not self._resolving", "False", when="not self._resolving"),),
        explored("write", "bare"),
    ),
    Mutant(
        "unlearned-at-the-wrong-rank",
        "A pair from before two expansions is taken out as if it had been written between them.",
        (
            Patch(
                f"{REPLAYER}.apply_pairs",
                "rank if self._resolving else batch.rank",
                "rank // 2",
                when="batch.rank * 4 <= rank and not self._resolving",
            ),
        ),
        explored("write", "bare", "bare", "unlearn", geometry="wide"),
    ),
    Mutant(
        "decay-lost",
        "Writes are applied without their decay gates.",
        (
            Patch(
                f"{REPLAYER}.apply_pairs",
                "batch.decay_gates",
                "0 * batch.decay_gates + 1",
                when="(batch.decay_gates != 1).any()",
            ),
        ),
        explored("write", "decay"),
    ),
    Mutant(
        "chain-restarts-after-a-mark",
        "The chain value is not carried into the next segment when the last one ends with a mark and a seal.",
        (
            Patch(
                "emm.storage.journal_writer:JournalWriter.seal",
                "self._marked = True",
                "self._marked = True\nself.chain = bytes(32)",
                when="self._marked",
            ),
        ),
        explored("write", "mark", "checkpoint", "write"),
    ),
    Mutant(
        "merged-in-two-steps",
        "The first source is published as the new memory, the others are added in a second snapshot.",
        (
            Patch(
                "emm.memory.opening:merge",
                "merged = kernel.merge(states)",
                "merged = kernel.merge(states)\n"
                "if len(states) > 1:\n"
                "    made = _publish_first(into, states[0], Origin.MERGE, writes, threshold, metadata)\n"
                "    made._session.replayer.state = merged\n"
                "    made._session._publish(Origin.MERGE)\n"
                "    return made",
            ),
        ),
        explored("write", "merge"),
    ),
    Mutant(
        "merge-replayed-as-writes",
        "Merging writes the pairs of every source into a new memory, one commit after another.",
        (
            Patch(
                "emm.memory.opening:merge",
                "merged = kernel.merge(states)",
                "state = empty_state(states[0].parameters)\n"
                "made = _publish_first(into, state, Origin.CHECKPOINT, 0, threshold, metadata)\n"
                "for source in sources:\n"
                "    with contextlib.ExitStack() as each:\n"
                "        memory = source if isinstance(source, Memory) else each.enter_context(open(source))\n"
                "        for logged in memory._session.history().commits():\n"
                "            for record in logged.records:\n"
                "                made._session.replayer.apply_record(record)\n"
                "            records = [(record.type, record.payload) for record in logged.records]\n"
                "            made._session._commit(records, logged.commit.n_pairs, lambda: None)\n"
                "return made",
            ),
        ),
        explored("write", "merge"),
    ),
)
