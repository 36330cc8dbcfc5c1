"""Cuts, swaps, replays of older files and edits that keep every CRC-32 right: noticed, or proven to be nothing.

Red when a cut is not told as the life of the memory says, when a piece in the wrong place or an edit goes unnoticed,
when anything opens that was never acknowledged, or when verify names a repair that does not work. Every single cut is
made by `python -m emm_fuzz.cuts`, all forgeries of all memories by `python -m emm_fuzz.forgeries`.
"""

from __future__ import annotations

import functools

import pytest

from emm.layout import SEGMENT_SUFFIX
from emm.verify.levels import Level, Options
from emm.verify.memory import check_memory
from emm.verify.verdict import Verdict
from emm_fuzz import cuts, edits, forgeries, swaps
from emm_fuzz.anatomy import records
from emm_fuzz.cases import State
from emm_fuzz.cuts import cut_all, lengths_of, unseen_lengths, whole_lengths
from emm_fuzz.damage import flip
from emm_fuzz.examine import DAMAGE, Examination, Examiner
from emm_fuzz.forgeries import HELD_BY_A_CRC_ALONE, Judged, before_last, edited, judge, moved
from emm_fuzz.specimens import SPECIMENS, Files, Specimen, branch, closed, killed, taken_over, wide
from emm_fuzz.swaps import Forgery
from emm_fuzz.unchanged import DamagedDirectory


def examined(specimen: Specimen, files: Files) -> Examination:
    with Examiner(specimen).ready() as examiner:
        return examiner.examine(files)


# --- cuts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "stride"), [("closed", 13), ("killed", 23), ("taken-over", 13)])
def test_a_cut_is_noticed_unless_all_that_is_gone_was_never_proven(key: str, stride: int) -> None:
    specimen = SPECIMENS[key]()
    for name in specimen.files:
        step = stride if name.endswith(SEGMENT_SUFFIX) else 997
        count = cut_all(key, name, lengths_of(specimen, name, step))
        assert count.violations == []
        assert set(count.unseen) == unseen_lengths(specimen, name)


def test_exactly_these_cuts_cannot_be_seen() -> None:
    """None of a closed memory; of an open end those at acknowledgements; of a fenced segment those behind the fence."""
    assert all(unseen_lengths(closed(), name) == set() for name in closed().files)
    last = killed().last_segment
    assert all((unseen_lengths(killed(), name) == set()) == (name != last) for name in killed().files)
    assert len(unseen_lengths(killed(), last)) == 9 and 128 in unseen_lengths(killed(), last)
    first = min(name for name in taken_over().files if name.endswith(SEGMENT_SUFFIX))
    size = len(taken_over().files[first])
    assert unseen_lengths(taken_over(), first) == set(range(taken_over().fenced[first], size)) != set()


def test_a_bit_of_an_open_end_is_torn_in_the_last_batch_and_damage_before_it() -> None:
    """What the last batch's own bytes say is all that speaks for it. Red when proven commits are called torn."""
    specimen, name = killed(), killed().last_segment
    proven = sorted(whole_lengths(specimen, name))[-2]
    size = len(specimen.files[name])
    with Examiner(specimen).ready() as examiner:
        for offset in range(0, size, 11):
            files = flip(name, offset, offset % 8)(specimen.files)
            found = examiner.examine(files)
            if offset >= proven:
                assert (found.verdict, found.reader, found.writer) == (Verdict.TORN, *[before_last(specimen)] * 2), (
                    offset
                )
            else:
                assert examiner.fault_of_damage(files, found, name) is None and isinstance(found.reader, str), offset


# --- pieces in the wrong place, and edits ---------------------------------------------------------


@functools.cache
def judged(key: str, what: str) -> Judged:
    """Everything of one kind, made and examined once."""
    specimen = SPECIMENS[key]()
    return judge(Examiner(specimen), {"moved": moved, "edited": edited, "chained": edits.chained_edits}[what](specimen))


@functools.cache
def judged_branch() -> Judged:
    ours = branch(closed(), 8)
    return judge(Examiner(ours), swaps.from_branch(ours, branch(closed(), 9)))


@pytest.mark.parametrize("key", ["closed", "killed", "taken-over"])
def test_whatever_is_in_the_wrong_place_is_noticed(key: str) -> None:
    """Blocks, records, batches, segments, snapshots, older versions of files."""
    found = judged(key, "moved")
    assert found.unnoticed == [] and found.wrong == []
    assert found.made == found.noticed and found.made["records swapped"] >= 60


def test_every_two_blocks_of_a_large_snapshot_are_missed() -> None:
    """With their table entries as they were, swapped along, and swapped along in both copies of the table."""
    found = judge(Examiner(wide()), swaps.block_swaps(wide()))
    assert found.unnoticed == [] and found.wrong == [] and found.promises == []
    assert set(found.made.values()) == {30} and len(found.made) == 3


def test_a_segment_of_another_branch_is_noticed() -> None:
    """The same memory was copied and written on twice: both have the UUID and the LSNs, and every CRC fits."""
    found = judged_branch()
    assert found.unnoticed == [] and found.wrong == [] and found.made.total() == 4


@pytest.mark.parametrize("key", ["closed", "killed"])
def test_edits_that_keep_every_crc_right_are_noticed(key: str) -> None:
    """Each field of each record, payload and head. Red also when a field that only a CRC-32 holds gets company."""
    found = judged(key, "edited")
    assert found.wrong == []
    assert {kind for kind, _ in found.unnoticed} == HELD_BY_A_CRC_ALONE
    for kind, made in found.made.items():
        assert kind in HELD_BY_A_CRC_ALONE or found.noticed[kind] == made, kind
    assert len(found.made) >= 30 and found.made.total() >= 750


def test_the_edits_keep_every_crc_right() -> None:
    """Red when an edit would be found for the wrong reason."""
    for each in (*edits.payload_edits(closed()), *edits.segment_header_edits(closed()), *edits.chained_edits(closed())):
        assert each.files != closed().files
        assert all(edits.crcs_fit(data) for name, data in each.files.items() if name.endswith(SEGMENT_SUFFIX)), (
            each.kind
        )


def test_edits_with_the_chain_made_right_contradict_the_snapshots() -> None:
    found = judged("closed", "chained")
    assert found.unnoticed == [] and found.wrong == [] and found.made.total() == 46


@pytest.mark.parametrize("what", ["moved", "edited"])
@pytest.mark.parametrize("key", ["closed", "killed", "taken-over"])
def test_every_repair_that_is_named_works(key: str, what: str) -> None:
    """Found by this harness: of a segment under another one's name, or with another `first_lsn`, verify says "leave the
    bytes out: no commit that counts is touched", while the commits that belong there are gone.
    """
    assert judged(key, what).promises == []


def test_a_snapshot_that_the_journal_contradicts_is_not_rebuilt_from_it() -> None:
    """Found by this harness. When the journal was edited (chain made right) or comes from another branch, verify blames
    the snapshot and says "damaged-repairable: replay commits … of the journal"; that gives a state which was never
    acknowledged, and throws the right one away.
    """
    assert judged("closed", "chained").promises == [] and judged_branch().promises == []


def test_an_edit_of_a_dead_commit_is_noticed() -> None:
    """Found by this harness: chain values of commits that a successor logged again are not compared (J-12, R-11)."""
    specimen = taken_over()
    name = min(specimen.fenced)
    dead = max(each.lsn for each in records(specimen.files, name))
    at = next(each.offset for each in records(specimen.files, name) if each.lsn == dead)
    found = judge(
        Examiner(specimen),
        (each for each in edits.payload_edits(specimen) if f"{name} byte {at}" in each.label),
    )
    assert found.wrong == [] and found.made.total() > 0
    assert found.unnoticed == []


def test_a_length_that_no_segment_can_have_is_noticed() -> None:
    """Found by this harness: `previous_bytes` is 0 or at least 128 (R-11), also where the segment before is gone."""
    name = min(name for name in closed().files if name.endswith(SEGMENT_SUFFIX))
    only = [each for each in edits.segment_header_edits(closed()) if each.label == f"{name} one more"]
    (forged,) = [each for each in only if each.kind == "segment header: previous_bytes"]
    assert examined(closed(), forged.files).noticed


# --- where the line is ----------------------------------------------------------------------------


def test_who_computes_every_digest_anew_is_believed() -> None:
    """Out of the fault model: no key is involved, so whoever rewrites chain, SHA-256 and mirror makes another memory.

    Red when the forgery is incomplete, which would mean that something holds that this line does not know of.
    """
    edit = next(each for each in edits.chained_edits(closed()) if each.kind == "commit, chained anew in every segment")
    halfway = examined(closed(), edit.files)
    assert halfway.verdict in DAMAGE
    complete = edits.with_chains_of_the_journal(edit.files)
    found = examined(closed(), complete)
    assert (found.verdict, found.reader) == (Verdict.CLEAN, closed().state)  # only the time of a commit is another one


def test_a_forged_value_behind_right_digests_is_found_by_replaying() -> None:
    """Level `blocks` believes it; level `replay` does not, as long as an older snapshot and the journal are there."""
    kind = "write, chained anew in every segment"
    edit = [each for each in edits.chained_edits(closed()) if each.kind == kind][-1]
    complete = edits.with_chains_of_the_journal(edit.files)
    assert examined(closed(), complete).verdict is Verdict.CLEAN
    findings = check_memory(DamagedDirectory(complete), Options(Level.REPLAY)).findings
    assert [each.code for each in findings] == ["replay-differs"]


def test_the_end_of_an_open_journal_can_be_written_anew() -> None:
    """Nothing but the chain itself speaks for commits past the newest snapshot; who computes it anew is believed."""
    name = killed().last_segment
    forged = [each for each in edits.chained_edits(killed()) if each.label.startswith(name)]
    edit = next(each for each in forged if each.kind == "write, chained anew in its segment")
    found = examined(killed(), edit.files)
    assert found.verdict is Verdict.CLEAN_UNSEALED and found.reader != killed().state


def test_a_directory_put_back_as_a_whole_is_clean() -> None:
    """Every moment of the past is a whole memory. Only (uuid, lsn, chain) of another copy tells them apart."""
    past: dict[State, Files] = {state: files for files, state in closed().history}
    for state, files in past.items():
        found = examined(closed(), files)
        assert found.verdict in (Verdict.CLEAN, Verdict.CLEAN_UNSEALED) and found.reader == state


def test_a_whole_snapshot_of_another_branch_opens_and_verify_sees_it() -> None:
    """Recovery reads no journal from before the newest snapshot (R-1); verify compares chains."""
    ours, theirs = branch(closed(), 8), branch(closed(), 9)
    newest = max(swaps.snapshots(ours.files))
    found = examined(ours, {**ours.files, newest: theirs.files[newest]})
    assert found.verdict in DAMAGE and found.reader == theirs.state != ours.state


# --- the harness itself ---------------------------------------------------------------------------


def test_a_memory_that_nobody_touched_is_no_forgery() -> None:
    """The judge says so, too: red when it would call everything noticed."""
    whole = [Forgery("nothing", "at all", specimen().files) for specimen in SPECIMENS.values()]
    for forged, specimen in zip(whole, SPECIMENS.values(), strict=True):
        found = judge(Examiner(specimen()), [forged])
        assert found.unnoticed == [("nothing", "at all")] and found.wrong == [] == found.promises
    stranger = judge(Examiner(closed()), [Forgery("another state", "", branch(closed(), 8).files)])
    assert stranger.wrong != []


def test_the_command_lines_report_and_replay(capsys: pytest.CaptureFixture[str]) -> None:
    name = closed().last_segment
    assert cuts.main(["--replay", f"closed:{name}:200"]) == 0
    assert "1 cuts, 0 violations" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        forgeries.main(["--help"])
    assert end.value.code == 0
