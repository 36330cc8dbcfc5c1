"""Watching a run: everything that a crash could leave at each point is built, and judged once.

Purpose: the crash half of a run. Invariants: a point is just before a sync or at an acknowledgement; points are
counted whether or not they are looked at, so a number names the same moment in every run of a case; an image is judged
once for each set of states allowed, whoever meets it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from emm_fuzz.cases import Case
from emm_fuzz.crash_states import Chosen, CrashPoint, Spec, image_hash, images
from emm_fuzz.deterministic import Source
from emm_fuzz.judge import PATH, Aftermath, check_verdict, name, read
from emm_fuzz.places import Place, crash_point
from emm_fuzz.record import Record
from emm_fuzz.simulated_disk import SimulatedDisk


class Watch:
    """The eyes of one run. `open` says whether they are."""

    def __init__(self, record: Record, case: Case, source: Source) -> None:
        self.record = record
        self.tally = record.tally
        self.case = case
        self.source = source
        self.points = 0
        self.open = False
        self.spec: Spec | None = None  # of the image that is being judged
        self._bounds = case.shape.bounds or record.bounds

    def look(self, disk: SimulatedDisk, places: Sequence[Place]) -> None:
        """Judge everything that a crash could leave here, in every place."""
        self.points += 1
        wanted = self.case.point is None or self.case.point == self.points - 1
        if not self.open or not wanted or (self.case.faults and not disk.faults_met):
            return
        self.tally.points += 1
        for place in places:
            point = crash_point(disk, place.path)
            for chosen in self._images(point):
                if not self.record.is_new(chosen, place.allowed):
                    continue
                self.spec = chosen.spec
                self._judge(chosen, place, disk)
            self.spec = None
            self._kill_here(point, place, disk)

    def _images(self, point: CrashPoint) -> Iterator[Chosen]:
        if self.case.spec is not None:
            return iter([Chosen(self.case.spec, point.build(self.case.spec), "replayed")])
        return images(point, self._bounds, self.case.seed + self.points)

    def _judge(self, chosen: Chosen, place: Place, disk: SimulatedDisk) -> None:
        state, recovered = read(chosen.image, place.allowed)
        self.record.trace(f"{self.points} {chosen.spec} {name(state)}")
        found = place.allowed[state]
        signature: tuple[object, ...] = ("absent", chosen.image is None, found.state)
        if recovered is not None:
            verdict = check_verdict(chosen.image, recovered, dropped=disk.dropped)
            self.tally.verdicts[verdict] += 1
            torn = None if recovered.torn is None else recovered.torn.rule
            ends = (recovered.segment_next, recovered.previous_bytes, recovered.generation_last)
            signature = (state, torn, len(recovered.unproven), recovered.sealed, ends)
        if self.record.is_new_signature(signature):
            path = place.path if recovered is None else PATH  # whole, a memory may lie anywhere
            left = Place(path, {state: found}, place.make, place.beside)
            Aftermath(left.disk(chosen.image, disk), left, self.source, self.tally.nested).run()

    def _kill_here(self, point: CrashPoint, place: Place, disk: SimulatedDisk) -> None:
        """The process dies, the page cache survives; then the power goes."""
        units = () if disk.in_doubt else point.units(512)
        if units and self.record.is_new_signature((image_hash(point.build_visible()), len(units), *place.allowed)):
            self.tally.killed += 1
            Aftermath(disk.clone(), place, self.source, self.tally.nested).run()
