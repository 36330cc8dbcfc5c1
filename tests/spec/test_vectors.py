"""The conformance vectors: recipes give the committed bytes, and the library says of every case what the manifest says.

The manifest's verdicts, codes and rules were written by hand from the spec; so a failure here is a bug of the library,
of the recipe or of the page, never a file to write anew. Each test says which change would turn it red.
"""

from __future__ import annotations

import json
import os
import re
import resource
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import emm
from emm.kernel import dispatch
from emm.verify.verdict import verdict_of, worst
from emm_tools.conformance_command import conformance_command, judge, told
from spec.twin import Twin, fma, packed, phi
from spec.vectors import forge, hostile
from spec.vectors.case import CLEAN, EXIT_CODES, TORN, UNSEALED, Case
from spec.vectors.catalog import ARITHMETIC, HERE, MANIFEST, all_cases, arithmetic_text, differences
from spec.vectors.stream import Numbers

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = json.loads(MANIFEST.read_text(encoding="utf-8"))["cases"]
CASES = {case.name: case for case in all_cases()}
STATE_BYTES_MAX = 64 << 20  # above every honest vector, so that bombs are cheap here
SECONDS_MAX = 5.0  # a hostile case takes some milliseconds; this allows for a busy machine
VECTORS_BYTES_MAX = 2 << 20

# Rules about what a writer or an environment does, or whose vector would not be small. No single file breaks them.
NOT_IN_BYTES = {
    "N-1": "other-names shows it: nothing is broken",
    "N-3": "how a file is published",
    "N-4": "how a file is published",
    "N-5": "a lock",
    "N-7": "where a repair goes and what it leaves beside it: tests/repair",
    "L-7": "what a repair may put back: tests/repair",
    "M-2": "the header's H-13 refuses the length first",
    "P-1": "the header's H-11 refuses the length first",
    "J-18": "order of a write",
    "R-9": "logged-again shows it: nothing is broken",
    "S-2": "every forged length",
    "S-4": "a batch above 256 MiB is too large for a vector",
    "S-5": "every vector",
    "S-7": "every vector",
}


# --- recipes and manifest --------------------------------------------------------------------------


def test_recipes_give_what_is_committed() -> None:
    """Red when a recipe, the codec's bytes or the kernel's arithmetic change without the manifest."""
    assert differences(list(CASES.values())) == []


def test_generation_does_not_depend_on_the_kernel() -> None:
    """Red when the NumPy reference gives another bit anywhere in the vectors, or the script does not start."""
    environment = os.environ | {"EMM_KERNEL": "reference", "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, HERE / "generate.py", "--check"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_vectors_are_many_and_small() -> None:
    """Red when cases vanish, a kind is not there, or megabytes are committed."""
    kinds = Counter(entry["kind"] for entry in COMMITTED)
    assert sum(kinds.values()) >= 150 and set(kinds) == {"memory", "snapshot", "segment"}
    assert {entry["verdict"] for entry in COMMITTED} == set(EXIT_CODES)
    assert sum(path.stat().st_size for path in HERE.iterdir() if path.is_file()) <= VECTORS_BYTES_MAX


def test_every_rule_that_bytes_can_break_is_broken() -> None:
    """Red when a rule is added to the page without a vector, or a vector cites a rule that is not there."""
    page = (ROOT / "spec" / "emm-v4.md").read_text(encoding="utf-8")
    rules = set(re.findall(r"^- \*\*([HLTMPJRNS]-\d+)\b", page, re.MULTILINE))
    cited = {rule for entry in COMMITTED for rule in [entry["rule"], *entry["also"]] if rule}
    assert {rule for rule in cited if rule[0] != "A"} - rules == set(), "cited, but not on the page"
    assert rules - cited - set(NOT_IN_BYTES) == set(), "no vector breaks it"
    assert set(NOT_IN_BYTES) <= rules


# --- the library -----------------------------------------------------------------------------------


def laid_out(case: Case, place: Path) -> Path:
    """The case's files on disk; the path that a reader is given."""
    for name, data in case.files.items():
        (place / name).write_bytes(data)
    return place if case.target is None else place / case.target


@pytest.mark.parametrize("entry", COMMITTED, ids=[entry["name"] for entry in COMMITTED])
def test_the_library_says_what_the_manifest_says(entry: dict[str, Any], tmp_path: Path) -> None:
    """Red when verify gives another verdict, code, rule or place, or `open` another state than the manifest's."""
    path = laid_out(CASES[entry["name"]], tmp_path)
    report = emm.verify(path, "numeric", state_bytes_max=STATE_BYTES_MAX)
    findings = report.findings
    assert (report.verdict, report.exit_code) == (entry["verdict"], entry["exit_code"])
    assert sorted({each.code for each in findings}) == entry["codes"]
    if findings:
        decides = worst(map(verdict_of, findings))
        first = next(each for each in findings if verdict_of(each) is decides)
        assert first.rule in (entry["rule"], *entry["also"])
        for field, found in (
            ("file", Path(first.file or "").name),
            ("offset", first.offset),
            ("rows", None if first.rows is None else list(first.rows)),
        ):
            assert entry[field] in (None, found), field
    if entry["kind"] == "memory":
        assert opened(path) == (entry["lsn"], entry["digest"])
    elif entry["digest"] is not None:
        snapshot = emm.decode_snapshot(mirrored(path.read_bytes(), entry))
        assert (snapshot.lsn, snapshot.digest.hex()) == (entry["lsn"], entry["digest"])


def opened(path: Path) -> tuple[int | None, str | None]:
    """(LSN, digest) of the memory, both None when it does not open."""
    try:
        with emm.open(path, state_bytes_max=STATE_BYTES_MAX) as memory:
            return memory.lsn, memory.digest
    except emm.EmmError:
        return None, None


def mirrored(data: bytes, entry: dict[str, Any]) -> bytes:
    """A snapshot file with its mirror made anew where only that is damaged: `decode_snapshot` wants a whole file."""
    if entry["codes"] != ["mirror-damaged"]:
        return data
    return forge.cut(data).join()


def test_what_is_clean_is_said_with_its_digest() -> None:
    """Red when a case that opens cleanly states no state, so that a reader's digest would go unchecked."""
    for entry in COMMITTED:
        if entry["verdict"] in (CLEAN, UNSEALED, TORN) and entry["kind"] != "segment":
            assert entry["digest"] and entry["lsn"] is not None, entry["name"]


def test_hostile_cases_cost_little(tmp_path: Path) -> None:
    """Red when a forged size is allocated before it is checked, or the search for evidence has no bound."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in hostile.cases():
        place = tmp_path / case.name
        place.mkdir()
        started = time.monotonic()
        emm.verify(laid_out(case, place), "numeric", state_bytes_max=STATE_BYTES_MAX)
        assert time.monotonic() - started < SECONDS_MAX, case.name
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 512 << 10


# --- arithmetic ------------------------------------------------------------------------------------


def committed_arithmetic() -> dict[str, Any]:
    found = json.loads(ARITHMETIC.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("level", dispatch.available_levels())
def test_every_backend_gives_the_arithmetic_vectors(level: str) -> None:
    """Red when any backend differs in any bit after 1, 2, 17 or 1,000 writes, or in φ, an operation or an FMA tie."""
    with dispatch.forced(level):
        assert json.loads(arithmetic_text()) == committed_arithmetic()


def assert_same(twin: Twin, after: dict[str, Any], entry: dict[str, Any]) -> None:
    assert twin.digest(after["lsn"], entry["key_dim"], 1, entry["projection_seed"]) == after["digest"]
    for name, data in twin.arrays().items():
        assert after[name].get("hex", data.hex()) == data.hex(), name


@pytest.mark.parametrize("entry", committed_arithmetic()["runs"], ids=lambda entry: entry["name"])
def test_the_rational_twin_gives_the_short_runs(entry: dict[str, Any]) -> None:
    """Red when what is committed is not what the spec says: `spec/twin.py` shares no code with the library."""
    twin = Twin(entry["dim"], entry["rank"], entry["rule"], entry["ridge"])
    numbers, decay, write = Numbers(entry["seed"]), entry["decay_gates"], entry["write_gates"]
    for i in range(17):
        key, value = numbers.row(entry["key_dim"]), numbers.row(entry["dim"])
        x = phi(key, entry["rank"], entry["projection_seed"])
        twin.write(x, value, decay[i % len(decay)], write[i % len(write)])
        if str(i + 1) in entry["after"]:
            assert_same(twin, entry["after"][str(i + 1)], entry)


@pytest.mark.parametrize("entry", committed_arithmetic()["operations"], ids=lambda entry: entry["name"])
def test_the_rational_twin_gives_the_operations(entry: dict[str, Any]) -> None:
    """Red when unlearn, forget or expand of the vectors is not what A-14, A-16 and A-18 say."""
    twin = Twin(entry["dim"], entry["rank"], entry["rule"], entry["ridge"])
    rows = [Numbers(entry["seed"]).row(entry["writes"] * (entry["key_dim"] + entry["dim"]))]
    width = entry["key_dim"] + entry["dim"]
    pairs = [rows[0][i * width : (i + 1) * width] for i in range(entry["writes"])]
    keys, values = [row[: entry["key_dim"]] for row in pairs], [row[entry["key_dim"] :] for row in pairs]
    x = [phi(key, twin.rank, entry["projection_seed"]) for key in keys]
    for each, value in zip(x, values, strict=True):
        twin.write(each, value, 1.0, 1.0)
    for index in entry["unlearned"]:
        twin.write(x[index], values[index], 1.0, -1.0)
    for batch in entry["forgotten"]:
        twin.forget([x[index] for index in batch])
    if entry["expanded_to"]:
        twin.expand(entry["expanded_to"])
    twin.write(phi(keys[0], twin.rank, entry["projection_seed"]), values[0], 1.0, 1.0)
    assert_same(twin, entry["after"], entry)


def test_the_rational_twin_gives_phi_and_fma() -> None:
    """Red when φ of a fixed key or a fused multiply-add at a tie is not what A-3 and A-7 say."""
    found = committed_arithmetic()
    for entry in found["phi"]:
        key = Numbers(entry["seed"]).row(entry["key_dim"])
        assert packed([phi(key, entry["rank"], entry["projection_seed"])]).hex() == entry["x"]
    for entry in found["fma"]:
        assert struct.pack("<f", fma(entry["p"], entry["q"], entry["r"])).hex() == entry["result"], entry


# --- emm-conformance -------------------------------------------------------------------------------

VERIFY = [sys.executable, "-c", "from emm_tools.entry import emm_verify; emm_verify()", "--json", "--level", "numeric"]


def conform(*arguments: object) -> Any:
    return CliRunner().invoke(conformance_command, [str(each) for each in arguments], prog_name="emm-conformance")


def saying(text: str, code: int) -> list[str]:
    """A reader that says the same of everything."""
    return [sys.executable, "-c", f"import sys; print({text!r}); sys.exit({code})"]


def test_help_shows_how_to_test_a_reader() -> None:
    """Red when the examples go, or an option of the reader is taken for one of ours."""
    shown = conform("--help").output
    assert "emm-conformance emm-verify --json" in shown and "spec/reference_reader.py" in shown
    own = conform("--case", "unsealed", *saying("{}", 0), "--json", "--level", "numeric")
    assert own.exit_code == 0 and "memory" in own.output


def test_emm_verify_passes() -> None:
    """Red when the command hands out other paths than the manifest's, or misreads a right answer."""
    ended = conform("--case", "torn-z*", "--case", "h1-m*", "--case", "segment-a*", "--all", *VERIFY)
    assert ended.exit_code == 0, ended.output
    assert [line.split()[0] for line in ended.output.splitlines()[:3]] == ["pass"] * 3


def test_a_wrong_reader_is_shown() -> None:
    """Red when a reader that calls everything clean passes."""
    ended = conform(
        "--case", "torn-zeros", "--case", "unsealed", "--case", "unlearned", *saying('{"verdict":"clean"}', 0)
    )
    assert ended.exit_code == 1
    failed = [line.split()[1] for line in ended.output.splitlines() if line.startswith("fail")]
    assert failed == ["unsealed", "torn-zeros"]
    assert "verdict clean, not torn-or-damaged-tail" in ended.output


def test_a_reader_without_json_is_judged_by_its_exit_code() -> None:
    """Red when exit codes are not compared."""
    ended = conform("--json", "--case", "torn-zeros", "--case", "unlearned", *saying("hello", 6))
    assert ended.exit_code == 1
    assert {each["name"]: each["status"] for each in json.loads(ended.output)["cases"]} == {
        "unlearned": "fail",
        "torn-zeros": "pass",
    }


def test_a_reader_that_hangs_or_is_not_there_is_told() -> None:
    """Red when a slow reader blocks the run, or a mistyped command gives a traceback."""
    slow = conform("--timeout", "0.3", "--case", "unsealed", sys.executable, "-c", "import time; time.sleep(60)")
    assert slow.exit_code == 1 and "took longer than 0.3 s" in slow.output
    gone = conform("--case", "unsealed", "/nowhere/reader")
    assert gone.exit_code == 2 and "cannot run /nowhere/reader" in gone.output
    nothing = conform("--vectors", "/nowhere", "reader")
    assert nothing.exit_code == 2 and "--vectors" in nothing.output


@pytest.mark.parametrize(
    ("name", "code", "report", "level", "status"),
    [
        ("older-block", 4, {"verdict": "damaged"}, "verdict", "pass"),  # repairable, for one that can tell
        ("older-block", 4, {"verdict": "damaged-loss"}, "verdict", "fail"),
        ("older-block", 0, {"verdict": "damaged"}, "verdict", "fail"),
        ("h5-reserved-a", 4, {"verdict": "damaged", "rule": "H-5"}, "digest", "pass"),
        ("h5-reserved-a", 4, {"verdict": "damaged", "rule": "H-6"}, "verdict", "fail"),
        ("unlearned", 0, {"verdict": "clean"}, "verdict", "pass"),
        ("unlearned", 0, {"verdict": "clean"}, "digest", "fail"),
        ("unlearned", 0, {"verdict": "clean", "lsn": 4, "digest": "00"}, "verdict", "fail"),
        ("unlearned", 0, {"verdict": "clean", "lsn": 4, "digest": CASES["unlearned"].digest}, "digest", "pass"),
        ("unlearned", 69, {}, "verdict", "unsupported"),
        ("unlearned", 0, {"verdict": "unsupported"}, "verdict", "unsupported"),
    ],
)
def test_how_an_answer_is_judged(name: str, code: int, report: dict[str, Any], level: str, status: str) -> None:
    """Red when "damaged" stops standing for both verdicts, or a stated rule, LSN or digest is not compared."""
    entry = next(each for each in COMMITTED if each["name"] == name)
    assert judge(entry, code, report, level)[0] == status


def test_json_is_found_alone_or_as_the_last_line() -> None:
    """Red when a reader that logs before its answer, or prints no JSON, is misread."""
    assert told('{\n "verdict": "clean"\n}\n') == {"verdict": "clean"}
    assert told('reading…\n{"verdict": "clean"}') == {"verdict": "clean"}
    assert told("") == told("[1]") == told("[" * 100_000) == {}
