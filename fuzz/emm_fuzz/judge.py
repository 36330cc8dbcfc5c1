"""The one invariant, held against one crash image: what is recovered was acknowledged last, or started since.

Purpose: everything that is asked of an image or of a disk whose process died. Invariants:

- Recovery refuses no image that a crash alone can leave, and gives a state that is allowed.
- Verify says torn exactly where recovery found a torn tail, clean where the end is sealed, and never damage.
- Returning from an open for append is an acknowledgement: crash again, also during it, and that state is there.
- After it a write, a checkpoint and a close work, a reader finds the result, and verify calls it clean.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

import emm
from emm.codec.payload import state_digest
from emm.errors import EmmError, MissingError
from emm.storage.names import segment_name
from emm.storage.recovery import Recovered, recover
from emm.verify.evidence import NOTHING_TOUCHED
from emm.verify.finding import Severity
from emm.verify.levels import Level, Options
from emm.verify.memory import check_memory
from emm.verify.verdict import Verdict, verdict_of, worst
from emm.vfs.local import LocalDirectory
from emm.vfs.protocol import Directory
from emm_fuzz.counts import States
from emm_fuzz.crash_states import LIGHT, Bounds, Image, image_hash, images
from emm_fuzz.deterministic import Source
from emm_fuzz.memo import ImageDirectory
from emm_fuzz.model import State, advance
from emm_fuzz.places import PATH, Moments, Place, crash_point
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted
from emm_fuzz.workload import perform

__all__ = [
    "OPTIONS",
    "PATH",
    "Aftermath",
    "Moments",
    "Nested",
    "ViolationError",
    "check_verdict",
    "expected_verdict",
    "name",
    "read",
    "state_key",
    "state_of",
    "verdict_of_image",
    "verify_says",
]

PLACE_AFTER: Final = 1000  # the write after a crash counts as operation number 1000 of its workload
OPTIONS: Final = Options(Level.BLOCKS, False, 1 << 30, None)


class ViolationError(Exception):
    """The invariant does not hold."""


@dataclass(slots=True)
class Nested(States):
    """What crashes during and after a recovery came to."""

    aftermaths: int = 0
    leftovers: int = 0  # healthy images of which verify says "damaged, repairable: no commit is touched"


def state_of(memory: emm.Memory) -> State:
    return memory.lsn, memory.digest


def read(image: Image, allowed: Moments) -> tuple[State | None, Recovered | None]:
    """What a reader finds in an image; `ViolationError` unless it is allowed."""
    try:
        recovered = recover(ImageDirectory(image, PATH))
        state: State | None = (recovered.lsn, state_digest(recovered.state, recovered.lsn).hex())
    except MissingError:
        recovered, state = None, None
    except EmmError as error:
        raise ViolationError(f"recovery refuses what a crash left: {type(error).__name__}: {error}") from error
    except Exception as error:
        raise ViolationError(f"recovery fails: {error!r}") from error
    if state not in allowed:
        raise ViolationError(f"recovered {name(state)}, allowed {', '.join(map(name, allowed))}")
    if image is not None and recovered is not None and recovered.torn is None and recovered.previous_bytes:
        size = len(image[segment_name(recovered.segment_next - 1)])
        if size != recovered.previous_bytes:  # told from the sizes alone, whatever the reader thought of them
            raise ViolationError(f"{size - recovered.previous_bytes} bytes after the last commit, and nobody says so")
    return state, recovered


def state_key(image: Image, allowed: Moments) -> bytes:
    """Equal for crash states of which the same is asked: equal bytes, the same states allowed."""
    return image_hash(image) + hashlib.blake2b(repr(list(allowed)).encode(), digest_size=8).digest()


def name(state: State | None) -> str:
    return "no memory" if state is None else f"lsn {state[0]} ({state[1][:8]})"


def check_verdict(image: Image, recovered: Recovered, *, dropped: bool = False) -> Verdict:
    """Verify agrees with recovery about an image that a crash alone left.

    When a failed fsync has dropped data that stayed to be seen (`dropped`), a take-over may have stated a length that
    is not durable, though it synced first: a later success proves nothing. Verify then speaks of damage of which no
    commit is touched. That, and only after such a fault, is let pass and counted, see docs/durability.md.
    """
    return verify_says(ImageDirectory(image, PATH), expected_verdict(recovered), dropped)


def expected_verdict(recovered: Recovered) -> Verdict:
    """What verify must say of a memory that nobody damaged."""
    if recovered.torn is not None:
        return Verdict.TORN
    return Verdict.CLEAN if recovered.sealed else Verdict.CLEAN_UNSEALED


def verdict_of_image(image: Image) -> Verdict:
    """What verify says of files, whatever they are."""
    return worst(verdict_of(each) for each in check_memory(ImageDirectory(image, PATH), OPTIONS).findings)


def verify_says(directory: Directory, expected: Verdict, dropped: bool) -> Verdict:
    """The verdict, which must be this one; `dropped` as in `check_verdict`."""
    findings = check_memory(directory, OPTIONS).findings
    verdict = worst(verdict_of(each) for each in findings)
    damage = [each for each in findings if each.severity is Severity.DAMAGE]
    leftovers = dropped and all(each.repair == NOTHING_TOUCHED for each in damage)
    if verdict is not expected and not (verdict is Verdict.REPAIRABLE and leftovers):
        why = "; ".join(str(each) for each in findings if verdict_of(each) is verdict)
        raise ViolationError(f"verify says {verdict}, expected {expected}: {why}")
    return verdict


# --- what comes after a crash ---------------------------------------------------------------------


@dataclass(slots=True)
class Aftermath:
    """A new process on a disk whose process died, with crashes at every sync on its way."""

    disk: SimulatedDisk
    place: Place
    source: Source
    nested: Nested
    bounds: Bounds = LIGHT
    allowed: Moments = field(init=False)

    def __post_init__(self) -> None:
        self.allowed = self.place.allowed

    def run(self) -> None:
        """Open for append, write, checkpoint, close, read, verify."""
        self.nested.aftermaths += 1
        self.disk.on_sync = self._crash
        with self.source.aside(), mounted(self.disk):
            try:
                self._live()
            except EmmError as error:
                raise ViolationError(f"after the crash: {type(error).__name__}: {error}") from error
            finally:
                self.disk.on_sync = None
                self.disk.kill()

    def _live(self) -> None:
        path = self.place.path
        try:
            memory = emm.open(path, "a")
        except MissingError:
            if None not in self.allowed:
                raise
            made = self.allowed[None]
            self.allowed = {None: made, made.state: made}
            memory = self.place.make()
        state: State | None = state_of(memory)
        if state not in self.allowed:
            raise ViolationError(f"opened {name(state)}, allowed {', '.join(map(name, self.allowed))}")
        moment = self.allowed[state]
        self._acknowledge({state: moment})
        found = advance(moment, "write", PLACE_AFTER)
        assert found is not None and found[1] is not None
        after = found[0]
        self.allowed = {moment.state: moment, after.state: after}
        perform(memory, found[1])
        self._acknowledge({after.state: after})
        memory.checkpoint()
        memory.close()
        self._acknowledge({after.state: after})
        with emm.open(path) as reader:
            if state_of(reader) != after.state:
                raise ViolationError(f"closed with {name(after.state)}, a reader finds {name(state_of(reader))}")
        verify_says(LocalDirectory(path), Verdict.CLEAN, self.disk.dropped)

    def _acknowledge(self, allowed: Moments) -> None:
        self.allowed = allowed
        self._crash("acknowledged")

    def _crash(self, kind: str) -> None:
        """A second crash, here."""
        for chosen in images(crash_point(self.disk, self.place.path), self.bounds, 0):
            if not self.nested.is_new(state_key(chosen.image, self.allowed), chosen):
                continue
            try:
                _, recovered = read(chosen.image, self.allowed)
                if recovered is not None:
                    verdict = check_verdict(chosen.image, recovered, dropped=self.disk.dropped)
                    self.nested.leftovers += verdict is Verdict.REPAIRABLE
            except ViolationError as error:
                raise ViolationError(f"crashed again before {kind} ({chosen.spec}): {error}") from error
