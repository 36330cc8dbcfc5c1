"""Archives checked by many workers.

Purpose: a unit is a few places of a walk; its result is their targets. Invariants: targets come in the order of the
places and the totals are those of `emm-verify` at the same level; nothing is written; a place that a worker does not
see is not clean: it is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from emm.verify import Level, Target, Totals
from emm.verify.coverage import Coverage
from emm.verify.levels import Options
from emm.verify.places import Place, discover
from emm.verify.target import check_place
from emm_engine.scale.unit import identity_of
from emm_engine.scale.workers import Workers

PLACES_PER_UNIT: Final = 8


@dataclass(frozen=True, slots=True)
class VerifyUnit:
    """Places to check at a level, all of them files of a file system that workers see."""

    places: tuple[Place, ...]
    level: Level
    strict: bool

    @property
    def identity(self) -> str:
        return identity_of("verify", self.level.label, str(self.strict), *(place.url for place in self.places))

    def run(self) -> tuple[Target, ...]:
        options = Options(self.level, self.strict)
        return tuple(target for place in self.places for target, _ in check_place(place, options))


class Verifying:
    """One check. When `targets` is exhausted, `totals` is final."""

    def __init__(self, workers: Workers, urls: Iterable[str], level: Level, *, strict: bool = False) -> None:
        self._workers = workers
        self._urls = tuple(urls)
        self._level = level
        self._strict = strict
        self.totals = Totals(Coverage(level), strict)

    def targets(self) -> Iterator[Target]:
        for targets in self._workers.results(self._units()):
            for target in targets:
                self.totals.add(target)
                yield target

    def _units(self) -> Iterator[VerifyUnit]:
        places = iter(discover(self._urls))
        while part := tuple(itertools.islice(places, PLACES_PER_UNIT)):
            self.totals.places += len(part)
            yield VerifyUnit(part, self._level, self._strict)
