"""Single bits, bursts and lost sectors of a closed memory: verify names the damage, and nobody opens a wrong state.

Red when a byte of the format falls out of every checksum, when verify says clean, torn or refused of damage that it
could name, blames another file or names a repair that does not give the bytes back, and when a reader or a writer opens
anything but the acknowledged state. `python -m emm_fuzz.flips` does the same with every bit.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emm_fuzz.anatomy import Anatomy
from emm_fuzz.bursts import KINDS, burst
from emm_fuzz.damage import flip
from emm_fuzz.examine import Examiner
from emm_fuzz.flips import PIECE_BITS, Flipper, main, pieces, run_piece, sample, table
from emm_fuzz.mutants.patching import Patch, planted
from emm_fuzz.specimens import closed, pruned

N_FLIPS = 3600
N_BURSTS = 300


def test_flips_in_every_part_of_the_format_are_noticed() -> None:
    anatomy = Anatomy(closed().files)
    numbers = sample(anatomy, N_FLIPS, seed=1)
    count = Flipper(closed()).flip_all(numbers)
    assert count.violations == []
    assert len(set(numbers)) == N_FLIPS and set(count.parts) == set(anatomy.bits_by_part())
    for part, counts in count.parts.items():
        assert counts["damaged-repairable"] == counts["damages"] == counts["newest"] + counts["older"], part


def test_flips_of_the_only_snapshot_are_refused_or_do_not_matter() -> None:
    """No older generation, no journal. Red when a state is opened whose block or head does not fit its digest."""
    count = Flipper(pruned()).flip_all(sample(Anatomy(pruned().files), 400, seed=2))
    assert count.violations == []
    for part, counts in count.parts.items():
        only = "newest" if part.startswith("mirror") else "refused"
        assert counts[only] == counts["damages"] == counts["damaged-repairable"], part


def test_bursts_lost_sectors_and_swapped_sectors_are_noticed() -> None:
    count = Flipper(closed()).burst_all(1, range(N_BURSTS))
    assert count.violations == []
    assert set(count.parts) == set(KINDS) and sum(each["damages"] for each in count.parts.values()) == N_BURSTS


def test_a_burst_is_told_by_its_number() -> None:
    files = closed().files
    assert burst(files, 3, 7).files == burst(files, 3, 7).files != burst(files, 4, 7).files
    assert all(burst(files, 5, number).files != files for number in range(20))


def test_the_memory_is_of_the_size_that_the_numbers_speak_of() -> None:
    """About 200 KB with two snapshots, one of several blocks, and two sealed segments."""
    anatomy = Anatomy(closed().files)
    assert 1_600_000 <= anatomy.n_bits <= 1_800_000 and len(closed().files) == 4
    with Examiner(closed()).ready() as examiner:
        found = examiner.examine(closed().files)
    assert (found.verdict, found.findings) == ("clean", ())
    assert found.reader == found.writer == closed().state and found.generation == 3


def test_answers_about_unchanged_files_are_those_of_reading_them_again() -> None:
    """Red when what is remembered of one memory is handed out for another, or was changed in between."""
    examiner, files = Examiner(closed()), closed().files
    anatomy = Anatomy(files)
    for number in sample(anatomy, 50, seed=4):
        damaged = flip(*anatomy.place(number))(files)
        with examiner.ready():
            remembered = examiner.examine(damaged)
        assert remembered == examiner.examine(damaged), anatomy.place(number)


def test_the_parts_of_a_memory_are_all_of_it() -> None:
    anatomy = Anatomy(closed().files)
    numbers = np.concatenate([np.arange(each.start, each.stop) for r in anatomy.bits_by_part().values() for each in r])
    assert np.array_equal(np.sort(numbers), np.arange(anatomy.n_bits))
    for part, ranges in anatomy.bits_by_part().items():
        name, offset, bit = anatomy.place(ranges[0].start)
        assert (anatomy.part_of(name, offset), bit) == (part, 0)


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        (Patch("emm.verify.snapshot:SnapshotCheck._judge_mirror", "if length:", "if False:"), "verify says clean"),
        (Patch("emm.storage.snapshot_file:load_snapshot", "if verify:", "if False:"), "a reader opened"),
        (
            Patch("emm.verify.payload:PayloadCheck._damaged_block", "{flip.bit}", "{7 - flip.bit}"),
            "do not give it back",
        ),
        (Patch("emm.verify.snapshot:SnapshotCheck._check_blocks", "present = ", "present = 0 * "), "verify says clean"),
    ],
    ids=["mirror not compared", "blocks not read", "wrong bit named", "no block checked"],
)
def test_a_library_that_does_not_notice_is_noticed(patch: Patch, says: str) -> None:
    """The harness itself: with a bug planted, the same flips must give a violation."""
    numbers = sample(Anatomy(closed().files), 150, seed=5)
    with planted(patch):
        count = Flipper(closed()).flip_all(numbers)
    assert any(says in fault for _, fault in count.violations), count.violations


def test_a_run_goes_on_where_the_last_one_ended() -> None:
    n_bits = Anatomy(closed().files).n_bits
    todo = list(pieces([], n_bits))
    assert sum(len(numbers) for _, _, numbers in todo) == n_bits
    line = run_piece(("flips", 0, todo[1][2][:20]))
    assert (line["first"], line["n"], line["violations"]) == (PIECE_BITS, 20, [])
    left = [numbers[0] for _, _, numbers in pieces([line], n_bits)]
    assert left == [first for first in range(0, n_bits, PIECE_BITS) if first != PIECE_BITS]
    for other in ({**line, "memory": "another"}, {**line, "violations": [["--replay …", "something"]]}):
        assert len(list(pieces([other], n_bits))) == len(todo)
    assert "| **all** | 20 | 20 |" in table([line])


def test_the_command_line_samples_replays_and_sums_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flips.jsonl"
    assert main(["--sample", "30", "--processes", "1", "--jsonl", str(path)]) == 0
    (line,) = [json.loads(each) for each in path.read_text().splitlines()]
    assert (line["kind"], line["n"], line["memory"]) == ("sample", 30, closed().digest)
    assert main(["--table", str(path)]) == 0 and main(["--replay", "0000000000000003.emm:4096:3"]) == 0
    said = capsys.readouterr().out
    assert "30 damages, 0 violations" in said and "flip bit 3 of byte 4096 back" in said
