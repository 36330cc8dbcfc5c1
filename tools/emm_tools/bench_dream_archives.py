"""Dreams over archives of made-up notes, for `emm bench dream`.

Purpose: the whole way, from text that waits to the report that `emm dreams` shows. Invariant: notes follow from their
number and version alone.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import emm
from emm_engine import Archive, Document, Label, Scope
from emm_engine.dream.budget import Budget, SystemClock
from emm_engine.settings import SHARING_DREAM, Settings

RUN = Scope("local", "general", "bench", "dream")
N_NOTES, N_VERSIONS = 60, 3
SUBJECTS = {
    "furnace": "crucible argon heating ramp alloy cooling oxide quench sample tube",
    "pump": "pressure valve seal leak temperature flow rotor bearing oil gasket",
    "assay": "titration buffer reagent blank dilution absorbance pipette plate enzyme",
}


def archive_row(rule: str) -> dict[str, Any]:
    """The report of one dream over an archive whose newer versions wait for it."""
    with tempfile.TemporaryDirectory(prefix="emm-dream-") as place, Archive.create(Path(place, "archive")) as archive:
        emm.create(
            str(archive.memory_path(RUN)), dim=768, rank=256, key_dim=256, rule=rule, ridge=1.0, expand_at=0.0
        ).close()
        for version in range(1, N_VERSIONS):
            archive.ingest(notes(version), RUN)
        Settings(archive._catalog).set(RUN, SHARING_DREAM, True)
        archive._catalog.add_documents(archive._catalog.ensure_run(RUN), notes(N_VERSIONS))
        clock = SystemClock()
        (report,) = archive.dreamer().dream(lambda: Budget(clock))
        return {"rule": rule, **report.to_dict()}


def notes(version: int) -> list[Document]:
    """Notes in a version, which says so in a tag that no other note carries; after the first only every other one."""
    found = []
    for number in range(0, N_NOTES, 1 if version == 1 else 2):
        chance = random.Random(number)
        subject = sorted(SUBJECTS)[number % len(SUBJECTS)]
        words = " ".join(chance.choice(SUBJECTS[subject].split()) for _ in range(14))
        labels = (Label("project", subject), Label("tag", f"state {version} of {number}"))
        title, date = f"{subject} {number}", f"{2010 + version}-05-06T07:08:09Z"
        found.append(
            Document(f"{subject}/log", title, f"Case {number}: {words}. State {version}.", date, labels, title)
        )
    return found
