"""A campaign goes on where the last one ended, and counts a state once however often it was come upon."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from emm_fuzz.campaign import main, piece, read_lines, seeds_after


def test_seeds_that_were_run_are_not_run_again() -> None:
    assert list(islice(seeds_after([{"seed": 1}, {"seed": 3}]), 3)) == [2, 4, 5]


def test_a_piece_counts_what_it_judged_and_its_states_are_distinct() -> None:
    line, keys, text = piece((1, 0.1))
    assert line["violations"] == 0 and "0 violations" in text
    assert line["distinct"] < len(keys) == len(np.unique(keys)) <= line["distinct"] + line["nested_distinct"]
    again = piece((1, 0.1))[1]
    assert len(np.union1d(keys, again)) < len(keys) + len(again)


def test_a_campaign_of_no_time_sums_up_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.jsonl"
    assert read_lines(path) == []
    line, keys, _ = piece((7, 0.1))
    path.write_text(json.dumps(line) + "\n")
    np.save(path.with_suffix(".keys.npy"), keys)
    assert main(["--hours", "0", "--jsonl", str(path)]) == 0
    assert f"1 seeds, 0.00 process hours, {line['cases']} cases" in capsys.readouterr().out
