"""`emm bench latency` on a small archive, and the synthetic text behind it.

Red when: the same seed gives other text, a run that was stored prints otherwise, a target that is missed reads as met.
"""

from __future__ import annotations

import json
from pathlib import Path

from emm_engine.chunking import passages
from emm_tools.bench_latency import text_of
from emm_tools.bench_text import SyntheticText


def test_synthetic_text_is_the_same_everywhere_and_has_as_many_passages_as_asked() -> None:
    first, second = (list(SyntheticText(3).documents(60)) for _ in range(2))
    assert first == second and first != list(SyntheticText(4).documents(60))
    assert abs(sum(len(passages(document.text)) for document in first) - 60) <= 2
    assert first[0].text[:60] == "For pekkle until priondhio glortfou are creantfe vobstro whe"
    assert SyntheticText(3).questions(5) == SyntheticText(3).questions(5)


def test_a_stored_run_prints_what_was_measured(run, tmp_path: Path) -> None:
    stored = tmp_path / "run.json"
    measured = run("emm", "bench", "latency", "--passages", 100, "--questions", 4, "--rounds", 2, "--json", stored)
    assert measured.code == 0
    assert run("emm", "bench", "latency", "--from", stored).out == measured.out
    report = json.loads(stored.read_text())
    assert {len(each) for rounds in report["timings_ms"].values() for each in rounds} == {4}
    slow = json.loads(stored.read_text())
    for rounds in slow["timings_ms"].values():
        for each in rounds[0]:
            each["total"] += 1000.0
    assert "NOT MET" in text_of(slow, "median") and "ms, met" in text_of(slow, "minimum")
    stored.write_text("{}")
    assert run("emm", "bench", "latency", "--from", stored).code == 2
