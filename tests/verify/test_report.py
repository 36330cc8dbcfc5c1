"""`verify` takes anything and always answers: places, trees, strange files, random bytes, exit codes, JSON.

Each test says which change to `emm/verify` would turn it red.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
import uuid
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emm.errors import InputError
from emm.layout import RECORD_MAGIC, SEGMENT_MAGIC, SNAPSHOT_MAGIC
from emm.testing import FrozenDirectory
from emm.verify import CODES, EXIT_ORDER, Finding, Severity, verify, worst_exit
from emm.verify.finding import codes_markdown
from emm.verify.levels import Level, Options
from emm.verify.memory import check_memory
from emm.verify.single import check_file
from emm.verify.verdict import Verdict, exit_code, verdict_of, worst

DOC = Path(__file__).parents[2] / "docs" / "findings.md"


def put(path: Path, files) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def answer(url, level="blocks", **options):
    report = verify(url, level, **options)
    json.loads(report.to_json())
    return report.verdict, report.exit_code


# --- places ---------------------------------------------------------------------------------------


def test_what_is_not_there_is_missing(tmp_path):
    """Red when a missing path raises, or an empty directory is clean."""
    assert answer(tmp_path / "nothing") == ("missing", 10)
    assert answer(tmp_path) == ("missing", 10)
    assert answer(f"memory://{uuid.uuid4().hex}/x") == ("missing", 10)
    (tmp_path / "readme.txt").write_text("hello")
    assert answer(tmp_path) == ("missing", 10)
    assert answer(tmp_path / "dangling") == ("missing", 10)


def test_what_is_not_a_location_is_refused():
    """Red when a bad URL raises."""
    for url in ("nosuch://x", "", "a\0b", "file://host/x"):
        assert answer(url) == ("refused", 5)


def test_an_unknown_level_is_the_callers_mistake(tmp_path):
    """Red when a mistyped level checks less than the caller believes."""
    with pytest.raises(InputError):
        verify(tmp_path, "block")


def test_links_fifos_and_devices_are_not_followed_and_do_not_hang(tmp_path, small):
    """Red when a FIFO is opened without O_NONBLOCK, or a link counts as the file it points to."""
    put(tmp_path / "real", small)
    here = tmp_path / "odd"
    here.mkdir()
    os.mkfifo(here / "0000000000000001.emm")
    (here / "0000000000000002.emm").symlink_to(tmp_path / "real" / "0000000000000002.emm")
    assert answer(here) == ("indeterminate", 6)
    assert answer(here / "0000000000000001.emm") == ("indeterminate", 6)
    assert answer(here / "0000000000000002.emm") == ("indeterminate", 6)
    assert answer("/dev/null") == ("indeterminate", 6)
    (here / "0000000000000003.emm").mkdir()
    assert answer(here / "0000000000000003.emm") == ("missing", 10)


def test_a_link_to_a_directory_given_by_name_is_followed_but_not_below(tmp_path, small):
    """Red when a person's own link is refused, or discovery follows links it meets."""
    put(tmp_path / "archive" / "m", small)
    (tmp_path / "link").symlink_to(tmp_path / "archive")
    assert answer(tmp_path / "link") == ("clean", 0)
    (tmp_path / "archive" / "loop").symlink_to(tmp_path / "archive")
    assert len(verify(tmp_path / "archive").targets) == 1


def test_a_single_file_a_memory_and_a_tree_are_told_apart(tmp_path, small, killed):
    """Red when a tree stops at its first memory, or loose files are not looked at."""
    put(tmp_path / "a", small)
    put(tmp_path / "b" / "c", killed)
    (tmp_path / "a" / "copy.emm").write_bytes(small["0000000000000001.emm"])
    report = verify(tmp_path)
    assert [(each.kind, each.verdict) for each in report.targets] == [
        ("memory", "clean"),
        ("snapshot", "clean"),
        ("memory", "clean-unsealed"),
    ]
    assert (report.verdict, report.exit_code) == ("clean-unsealed", 0)
    assert report.coverage.memories == 2 and report.coverage.snapshots == 5 and report.coverage.complete
    assert answer(tmp_path / "a" / "0000000000000001.emm") == ("clean", 0)
    assert answer(tmp_path / "a" / "0000000000000001.wal") == ("clean", 0)
    assert (report.targets[0].generation, report.targets[0].lsn) == (3, 5)


def test_an_object_store_is_verified_where_it_lies(small):
    """Red when verify needs a local path."""
    filesystem = fsspec.filesystem("memory")
    root = f"/{uuid.uuid4().hex}/deep/m"
    for name, data in small.items():
        filesystem.pipe_file(f"{root}/{name}", data)
    assert answer(f"memory:/{root}", "numeric") == ("clean", 0)
    assert answer(f"memory:/{os.path.dirname(root)}") == ("clean", 0)
    assert answer(f"memory:/{root}/0000000000000003.emm") == ("clean", 0)
    damaged = bytearray(small["0000000000000003.emm"])
    damaged[5000] ^= 1
    filesystem.pipe_file(f"{root}/0000000000000003.emm", bytes(damaged))
    assert answer(f"memory:/{root}") == ("damaged-repairable", 3)


def test_checking_writes_nothing(tmp_path, small):
    """Red when verify creates, locks by a file, or repairs."""
    put(tmp_path, small)
    before = {each.name: (each.stat().st_mtime_ns, each.read_bytes()) for each in tmp_path.iterdir()}
    verify(tmp_path, "numeric")
    assert {each.name: (each.stat().st_mtime_ns, each.read_bytes()) for each in tmp_path.iterdir()} == before


WRITER = """
import sys
import numpy as np, emm
rng = np.random.default_rng(0)
with emm.open(sys.argv[1], "a") as memory:
    for step in range(100000):
        memory.write(rng.standard_normal((9, 16)).astype("f4"), rng.standard_normal((9, 16)).astype("f4"))
        if step % 7 == 0:
            memory.checkpoint()
        if step == 1:
            print("started", flush=True)
"""


def test_a_memory_that_is_being_written_is_never_called_damaged(tmp_path, small):
    """Appends, checkpoints and prunes go on meanwhile. Red when a change under the check is not checked again."""
    put(tmp_path, small)
    path = os.pathsep.join(each for each in sys.path if each)
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        try:
            assert writer.stdout.readline() == "started\n"
            seen = set()
            end = time.monotonic() + 3
            while time.monotonic() < end and writer.poll() is None:
                report = verify(tmp_path)
                seen.add(report.verdict)
                assert report.verdict in ("clean", "clean-unsealed", "indeterminate"), report.findings
            assert writer.poll() is None and "clean-unsealed" in seen
        finally:
            writer.kill()


# --- exit codes -----------------------------------------------------------------------------------


def test_strict_turns_unsealed_and_incomplete_into_7(tmp_path, killed, small):
    """Red when --strict passes what was not fully looked at."""
    put(tmp_path / "k", killed)
    put(tmp_path / "s", small)
    assert answer(tmp_path / "k", strict=True) == ("clean-unsealed", 7)
    assert answer(tmp_path / "s", strict=True) == ("clean", 0)
    assert answer(tmp_path / "s", "table", strict=True) == ("clean", 7)
    assert answer(tmp_path / "s", "table") == ("clean", 0)


def test_the_worst_of_many_targets_decides(tmp_path, small, killed):
    """Red when the order 130, 1, 2, 4, 3, 5, 6, 10, 7, 0 changes."""
    assert EXIT_ORDER == (130, 1, 2, 4, 3, 5, 6, 10, 7, 0)
    assert worst_exit([0, 10, 6]) == 6 and worst_exit([3, 5]) == 3 and worst_exit([3, 4, 2]) == 2
    assert worst_exit([]) == 0 and worst_exit([7, 10]) == 10
    put(tmp_path / "good", small)
    put(tmp_path / "old", {"a.emm": b"not emm at all"})
    assert answer(tmp_path) == ("refused", 5)
    put(tmp_path / "torn", killed | {"0000000000000001.wal": killed["0000000000000001.wal"] + b"x"})
    assert answer(tmp_path) == ("refused", 5)
    put(tmp_path / "lost", {"0000000000000001.wal": killed["0000000000000001.wal"]})
    assert answer(tmp_path) == ("damaged-loss", 4)


def test_s7_each_verdict_has_its_exit_code():
    """Red when a number in docs/exit-codes.md's table changes."""
    assert {str(each): exit_code(each) for each in Verdict} == {
        "clean": 0,
        "clean-unsealed": 0,
        "damaged-repairable": 3,
        "damaged-loss": 4,
        "torn-or-damaged-tail": 6,
        "refused": 5,
        "indeterminate": 6,
        "missing": 10,
    }


# --- any bytes ------------------------------------------------------------------------------------

EASY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STARTS = st.sampled_from([b"", SNAPSHOT_MAGIC, SEGMENT_MAGIC, RECORD_MAGIC.to_bytes(4, "little")])


@EASY
@given(start=STARTS, data=st.binary(max_size=600), suffix=st.sampled_from([".emm", ".wal"]))
def test_random_bytes_get_a_verdict(start, data, suffix):
    """Red when any decoder raises something that is not an EmmError, or calls noise clean."""
    name = f"0000000000000001{suffix}"
    directory = FrozenDirectory({name: start + data})
    for level in Level:
        alone = check_file(directory, name, Options(level)).findings
        within = check_memory(directory, Options(level)).findings
        for findings in (alone, within):
            assert worst(map(verdict_of, findings)) in (Verdict.REFUSED, Verdict.LOSS), findings


@EASY
@given(data=st.data())
def test_random_edits_of_a_real_memory_get_a_verdict_and_are_never_clean(small, data):
    """Red when an edit of any file slips through, or any check raises. Inserts and deletions move everything."""
    name = data.draw(st.sampled_from(sorted(small)))
    content = small[name]
    start = data.draw(st.integers(0, len(content)))
    gone = data.draw(st.integers(0, 40))
    new = data.draw(st.binary(max_size=40))
    edited = content[:start] + new + content[start + gone :]
    findings = check_memory(FrozenDirectory(small | {name: edited}), Options()).findings
    verdict = worst(map(verdict_of, findings))
    if edited == content:
        assert verdict is Verdict.CLEAN
    else:
        assert findings and verdict not in (Verdict.REFUSED, Verdict.INDETERMINATE, Verdict.MISSING), (name, findings)
        assert verdict not in (Verdict.CLEAN, Verdict.CLEAN_UNSEALED), (name, start, gone, new, findings)


@EASY
@given(data=st.data())
def test_random_record_bytes_in_a_segment_do_not_hang_or_raise(killed, data):
    """Overlapping false records are the costly case. Red when evidence beyond damage has no work limit."""
    pieces = st.lists(st.sampled_from([b"EMJR", bytes(4), b"\xff" * 8, killed["0000000000000001.wal"][128:300]]))
    noise = b"".join(data.draw(pieces))
    files = killed | {"0000000000000001.wal": killed["0000000000000001.wal"][:140] + noise}
    findings = check_memory(FrozenDirectory(files), Options(Level.NUMERIC)).findings
    assert findings


# --- findings -------------------------------------------------------------------------------------


def test_the_table_of_codes_is_the_documentation():
    """Red when a code is added, renamed or explained differently without docs/findings.md."""
    assert DOC.read_text(encoding="utf-8").endswith(codes_markdown())
    rows = [line for line in DOC.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(rows) == len(CODES)


def test_every_severity_has_a_code_and_a_verdict():
    """Red when a severity is added that no verdict knows."""
    assert {code.severity for code in CODES.values()} == set(Severity)
    for severity in Severity:
        assert isinstance(verdict_of(Finding("x", severity, "x")), Verdict)


def test_a_finding_is_a_value_that_survives_pickling_and_json(small, tmp_path):
    """Red when a finding holds what another process or JSON cannot."""
    damaged = bytearray(small["0000000000000003.emm"])
    damaged[5000] ^= 1
    put(tmp_path, small | {"0000000000000003.emm": bytes(damaged)})
    report = verify(tmp_path)
    (only,) = report.findings
    assert pickle.loads(pickle.dumps(only)) == only
    plain = json.loads(report.to_json())["targets"][0]["findings"][0]
    assert plain["code"] == "block-damaged" and plain["rows"] == [14, 14] and plain["block"] == 0
    assert plain["spans"] == [{"region": "M", "rows": [14, 14], "columns": [2, 2]}]
    assert str(only).startswith("block-damaged: ") and "M row 14, column 2" in str(only)
    assert report.to_json() == verify(tmp_path).to_json()


def test_progress_is_told_every_byte(small, tmp_path):
    """Red when a progress bar would stop short."""
    put(tmp_path, small)
    seen: dict[str, int] = {}
    report = verify(tmp_path, progress=lambda file, n: seen.__setitem__(file, seen.get(file, 0) + n))
    assert set(seen) == {f"{tmp_path}/{name}" for name in small}
    assert sum(seen.values()) == report.coverage.bytes_read >= report.coverage.bytes_total
