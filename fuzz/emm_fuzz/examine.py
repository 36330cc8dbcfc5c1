"""Ask everybody about a memory whose bytes were damaged: a reader, a writer and verify; then judge their answers.

Purpose: what "detected" means, in one place. Invariants: the answers come from `emm.open` in both modes and from
`check_memory` at level `blocks`; an answer counts as right only when state and LSN are, to the bit, those that were
acknowledged; a verdict must not promise more than is true, so every repair that it names is made (`promises`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import emm
from emm.errors import EmmError, StorageError
from emm.verify.finding import Finding, Severity
from emm.verify.memory import check_memory
from emm.verify.verdict import Verdict, exit_code, verdict_of, worst
from emm_fuzz.cases import State
from emm_fuzz.judge import OPTIONS, PATH, name, state_of
from emm_fuzz.promises import Promises
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted
from emm_fuzz.specimens import Files, Specimen, living
from emm_fuzz.unchanged import DamagedDirectory, Unchanged, WouldWriteError, found_at

Answer = State | str  # a state, or the name of the error and the rule with which it was refused

DAMAGE = (Verdict.REPAIRABLE, Verdict.LOSS)


@dataclass(frozen=True, slots=True)
class Examination:
    """What everybody says of one damaged memory."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    reader: Answer
    writer: Answer
    generation: int  # of the snapshot that the reader started from; 0 when it refused

    @property
    def exit_code(self) -> int:
        return exit_code(self.verdict)

    @property
    def noticed(self) -> bool:
        """Verify neither calls it clean nor exits with 0."""
        return self.verdict not in (Verdict.CLEAN, Verdict.CLEAN_UNSEALED) and self.exit_code != 0


def told(answer: Answer) -> str:
    return answer if isinstance(answer, str) else name(answer)


class Examiner:
    """Examines damaged copies of one specimen. Use it inside `ready`."""

    def __init__(self, specimen: Specimen) -> None:
        self.specimen = specimen
        self._unchanged = Unchanged(specimen.files)
        self._promises = Promises(specimen)
        self._one_more: tuple[Files, Answer] | None = None

    @contextlib.contextmanager
    def ready(self) -> Iterator[Examiner]:
        """In this block unchanged files are read once."""
        with self._unchanged.remembered():
            yield self

    def examine(self, files: Files) -> Examination:
        findings = tuple(check_memory(DamagedDirectory(files), OPTIONS).findings)
        reader, generation = self._open(files, "r")
        writer, _ = self._open(files, "a")
        return Examination(worst(map(verdict_of, findings)), findings, reader, writer, generation)

    def _open(self, files: Files, mode: str) -> tuple[Answer, int]:
        """(the state opened, the generation it started from), or how it was refused."""
        try:
            with found_at(DamagedDirectory(files)):
                memory = emm.open(PATH, mode)
                return state_of(memory), memory.generation
        except WouldWriteError:
            return open_on_disk(files), 0
        except StorageError:
            raise
        except EmmError as error:
            return f"{type(error).__name__} {error.rule}", 0

    # --- judging ----------------------------------------------------------------------------------

    def fault_of_damage(self, files: Files, found: Examination, damaged: str | None = None) -> str | None:
        """Why somebody failed, where everything was proven; None when all is well. `damaged`: the only file touched."""
        if not found.noticed or found.verdict not in DAMAGE:
            return f"verify says {found.verdict}"
        return (
            self.fault_of_opening(found, {self.specimen.state})
            or self._blame(found, damaged)
            or self.fault_of_promises(files, found)
        )

    def fault_of_promises(self, files: Files, found: Examination) -> str | None:
        """A repair that verify names and that does not work."""
        return self._promises.broken(files, found.findings)

    def fault_of_opening(self, found: Examination, allowed: set[State]) -> str | None:
        """Why a reader or a writer failed: neither refused nor right."""
        for who, answer in (("a reader", found.reader), ("a writer", found.writer)):
            if not isinstance(answer, str) and answer not in allowed:
                return f"{who} opened {name(answer)}, not {', '.join(map(name, sorted(allowed)))}"
        return None

    def _blame(self, found: Examination, damaged: str | None) -> str | None:
        accused = {(each.file or "").rpartition("/")[2] for each in found.findings if each.severity is Severity.DAMAGE}
        if damaged is not None and accused != {damaged}:
            return f"verify blames {sorted(accused)}, damaged is {damaged}"
        return None

    def fault_of_going_on(self, files: Files) -> str | None:
        """Open on a disk, write, close, read, verify: a writer that opens leaves no wrong state and hides no damage."""
        answer = open_on_disk(files)
        if isinstance(answer, str):
            return None
        if self._one_more is None:
            self._one_more = _after_one_more_write(self.specimen.files)
        after, expected = _after_one_more_write(files), self._one_more
        if after[1] != expected[1]:
            return f"after one more write {told(after[1])}, expected {told(expected[1])}"
        verdict = worst(map(verdict_of, check_memory(DamagedDirectory(after[0]), OPTIONS).findings))
        return None if verdict in DAMAGE else f"after one more write verify says {verdict}"


def open_on_disk(files: Files) -> Answer:
    """What an open for append finds on a simulated disk, through the real calls to the system."""
    with mounted(SimulatedDisk.holding(PATH, files)) as disk:
        try:
            return state_of(emm.open(PATH, "a"))
        except StorageError:
            raise
        except EmmError as error:
            return f"{type(error).__name__} {error.rule}"
        finally:
            disk.kill()


def _after_one_more_write(files: Files) -> tuple[Files, Answer]:
    """(files, what a reader then finds) after a session that writes one pair and closes."""
    with living(77, SimulatedDisk.holding(PATH, files)) as life:
        life.write(1)
        life.close()
        with emm.open(PATH) as reader:
            return life.files(), state_of(reader)
