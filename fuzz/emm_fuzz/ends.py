"""How a process ends that does not end by itself: killed, or with the power that fails.

Purpose: ends drawn as data, before it is known what they will meet. Invariants: a drawn spec always fits, whatever is
pending when it strikes; nothing in the library can catch the end of its process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emm_fuzz.crash_states import Entry, Part, Spec, Tear
from emm_fuzz.simulated_disk import SimulatedDisk


class EndOfProcess(BaseException):
    """The process is no more: not an error that anything could handle. `left` is the disk that its successor finds."""

    def __init__(self, left: SimulatedDisk) -> None:
        super().__init__("the process is no more")
        self.left = left


class NothingPromisedError(Exception):
    """A process ended and left a name that its failed sync had dropped and everybody still sees.

    Who comes after cannot know: a later sync succeeds and proves nothing (spec 1.1). What is acknowledged from here on
    may be lost, so the run is over.
    """


@dataclass(slots=True)
class Armed:
    """The end of the process, so many points from now; with `cut` the power fails as well and leaves that image."""

    points: int
    cut: Spec | None


def spec_of(numbers: list[str]) -> Spec:
    """`512 5 short`, perhaps followed by `1 4 garbage` for a tear."""
    sector, kept, fill, *tear = numbers
    return Spec(int(sector), int(kept), fill, Tear(int(tear[0]), int(tear[1]), tear[2]) if tear else None)


def fitting(drawn: Spec, units: Sequence[Part | Entry]) -> Spec:
    """A drawn spec made one that these units can have: it was drawn before they were known."""
    tear = drawn.tear
    torn = units[tear.unit % len(units)] if tear is not None and units else None
    if tear is None or not isinstance(torn, Part) or len(torn.data) < 2:
        return drawn._replace(tear=None)
    return drawn._replace(tear=Tear(tear.unit % len(units), 1 + tear.at % (len(torn.data) - 1), tear.kind))
