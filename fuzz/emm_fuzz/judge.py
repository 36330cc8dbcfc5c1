"""The one invariant, held against one crash image: what is recovered was acknowledged last, or started since.

Purpose: everything that is asked of an image or of a disk whose process died. Invariants:

- Recovery refuses no image that a crash alone can leave, and gives a state that is allowed.
- Verify says torn exactly where recovery found a torn tail, clean where the end is sealed, and never damage.
- Returning from an open for append is an acknowledgement: crash again, also during it, and that state is there.
- After it a write, a checkpoint and a close work, a reader finds the result, and verify calls it clean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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
from emm_fuzz.cases import DIM, KEY_DIM, RANK, Moment, State, advance
from emm_fuzz.crash_states import LIGHT, Bounds, CrashPoint, Image, image_hash, images
from emm_fuzz.deterministic import Source
from emm_fuzz.memo import ImageDirectory
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted
from emm_fuzz.workload import perform

PATH: Final = "/lab/chemistry"
PLACE_AFTER: Final = 1000  # the write after a crash counts as operation number 1000 of its workload
OPTIONS: Final = Options(Level.BLOCKS, False, 1 << 30, None)

Moments = Mapping[State | None, Moment]  # the states allowed, and what each leads on from; None: no memory yet


class ViolationError(Exception):
    """The invariant does not hold."""


@dataclass(slots=True)
class Nested:
    """What crashes during and after a recovery came to."""

    raw: int = 0
    distinct: int = 0
    aftermaths: int = 0
    leftovers: int = 0  # healthy images of which verify says "damaged, repairable: no commit is touched"
    seen: set[bytes] = field(default_factory=set)


def create() -> emm.Memory:
    return emm.create(PATH, dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0.0)


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


def check_verdict(image: Image, recovered: Recovered, *, took_over: bool = False) -> Verdict:
    """Verify agrees with recovery about an image that a crash alone left.

    After a take-over of what was page cache only (`took_over`) leftovers may have been lost that the next segment's
    `previous_bytes` vouches for. Verify then speaks of damage of which no commit is touched; that is let pass here
    and counted, see docs/durability.md.
    """
    if recovered.torn is not None:
        expected = Verdict.TORN
    else:
        expected = Verdict.CLEAN if recovered.sealed else Verdict.CLEAN_UNSEALED
    return _verify(ImageDirectory(image, PATH), expected, took_over)


def verdict_of_image(image: Image) -> Verdict:
    """What verify says of files, whatever they are."""
    return worst(verdict_of(each) for each in check_memory(ImageDirectory(image, PATH), OPTIONS).findings)


def _verify(directory: Directory, expected: Verdict, took_over: bool) -> Verdict:
    findings = check_memory(directory, OPTIONS).findings
    verdict = worst(verdict_of(each) for each in findings)
    damage = [each for each in findings if each.severity is Severity.DAMAGE]
    leftovers = took_over and all(each.repair == NOTHING_TOUCHED for each in damage)
    if verdict is not expected and not (verdict is Verdict.REPAIRABLE and leftovers):
        why = "; ".join(str(each) for each in findings if verdict_of(each) is verdict)
        raise ViolationError(f"verify says {verdict}, expected {expected}: {why}")
    return verdict


# --- what comes after a crash ---------------------------------------------------------------------


@dataclass(slots=True)
class Aftermath:
    """A new process on a disk whose process died, with crashes at every sync on its way."""

    disk: SimulatedDisk
    allowed: Moments
    source: Source
    nested: Nested
    took_over: bool = False  # the page cache survived
    bounds: Bounds = LIGHT

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
        try:
            memory = emm.open(PATH, "a")
            state: State | None = state_of(memory)
        except MissingError:
            if None not in self.allowed:
                raise
            self.allowed = {None: Moment(), Moment().state: Moment()}
            memory = create()
            state = state_of(memory)
        if state not in self.allowed:
            raise ViolationError(f"opened {name(state)}, allowed {', '.join(map(name, self.allowed))}")
        moment = self.allowed[state]
        self._acknowledge(moment)
        found = advance(moment, "write", PLACE_AFTER)
        assert found is not None and found[1] is not None
        after = found[0]
        self.allowed = {moment.state: moment, after.state: after}
        perform(memory, found[1])
        self._acknowledge(after)
        memory.checkpoint()
        memory.close()
        self._acknowledge(after)
        with emm.open(PATH) as reader:
            if state_of(reader) != after.state:
                raise ViolationError(f"closed with {name(after.state)}, a reader finds {name(state_of(reader))}")
        _verify(LocalDirectory(PATH), Verdict.CLEAN, self.took_over)

    def _acknowledge(self, moment: Moment) -> None:
        self.allowed = {moment.state: moment}
        self._crash("acknowledged")

    def _crash(self, kind: str) -> None:
        """A second crash, here."""
        for chosen in images(CrashPoint.of(self.disk, PATH), self.bounds, 0):
            self.nested.raw += 1
            key = state_key(chosen.image, self.allowed)
            if key in self.nested.seen:
                continue
            self.nested.seen.add(key)
            self.nested.distinct += 1
            try:
                _, recovered = read(chosen.image, self.allowed)
                if recovered is not None:
                    verdict = check_verdict(chosen.image, recovered, took_over=self.took_over)
                    self.nested.leftovers += verdict is Verdict.REPAIRABLE
            except ViolationError as error:
                raise ViolationError(f"crashed again before {kind} ({chosen.spec}): {error}") from error
