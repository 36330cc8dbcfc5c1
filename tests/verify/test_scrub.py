"""Runs over whole archives: what is found, in which order, by how many workers, and what a dying worker costs.

Each test says which change to `emm/verify` would turn it red.
"""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from emm.errors import InputError
from emm.layout import BLOCK_BYTES
from emm.verify import Level, Request, Scrub, blocks, paranoia, parse_sample, workers
from emm.verify.blocks import BlockReader
from emm.verify.places import discover
from tests.verify.test_report import put


def run(*urls, **asked):
    scrub = Scrub(Request(tuple(map(str, urls)), **asked))
    return list(scrub.run()), scrub.totals


def flipped(data: bytes, *places: int) -> bytes:
    damaged = bytearray(data)
    for place in places:
        damaged[place] ^= 1
    return bytes(damaged)


@pytest.fixture
def archive(tmp_path: Path, small, killed) -> Path:
    """a, b/c and d, the last with two bytes of its newest snapshot spoiled; a loose copy beside a."""
    put(tmp_path / "archive" / "a", small | {"copy.emm": small["0000000000000001.emm"]})
    put(tmp_path / "archive" / "b" / "c", killed)
    newest = "0000000000000003.emm"
    put(tmp_path / "archive" / "d", small | {newest: flipped(small[newest], 5000, 5003)})
    return tmp_path / "archive"


def plain(targets):
    return [(Path(each.url).name, each.kind, str(each.verdict), [f.code for f in each.findings]) for each in targets]


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_any_number_of_jobs_gives_the_same_targets_in_the_same_order(archive, jobs):
    """Red when results come in the order of the workers, or a worker leaves something out."""
    targets, totals = run(archive, jobs=jobs)
    assert plain(targets) == [
        ("a", "memory", "clean", ["other-file"]),
        ("copy.emm", "snapshot", "clean", []),
        ("c", "memory", "clean-unsealed", ["unsealed-tail"]),
        ("d", "memory", "damaged-repairable", ["block-damaged"]),
    ]
    assert (totals.exit_code, totals.targets, totals.places) == (3, 4, 3)
    alone, _ = run(archive)
    assert [each.to_dict() for each in targets] == [each.to_dict() for each in alone]


@pytest.mark.parametrize("jobs", [1, 3])
def test_progress_and_findings_are_told_on_the_way(archive, jobs):
    """Red when a worker keeps its progress to itself, or findings wait for the end of the run."""
    read, met = [], []
    asked = Request((str(archive),), jobs=jobs)
    scrub = Scrub(
        asked, progress=lambda _, n: read.append(n), on_finding=lambda url, each: met.append((url, each.code))
    )
    targets = list(scrub.run())
    assert sum(read) == scrub.totals.coverage.bytes_read == sum(each.coverage.bytes_read for each in targets)
    assert {code for _, code in met} == {"unsealed-tail", "block-damaged"}


def test_a_target_is_handed_on_before_the_next_one_is_looked_at(archive):
    """Red when a run collects before it yields: the second memory goes while the first is in hand, and is missed."""
    targets = Scrub(Request((str(archive / "a"), str(archive / "d")))).run()
    assert next(targets).kind == "memory"
    shutil.rmtree(archive / "d")
    assert str(list(targets)[-1].verdict) == "missing"


def test_a_worker_that_dies_costs_the_place_it_was_at_and_no_other(archive, monkeypatch):
    """Red when the death of a process is taken for the end of its work, or hangs the run."""
    check_task = workers.check_task

    def dying(task, options):
        if task.place.url.endswith("c"):
            os.kill(os.getpid(), signal.SIGKILL)
        yield from check_task(task, options)

    monkeypatch.setattr(workers, "check_task", dying)
    targets, totals = run(archive, jobs=2)
    assert [codes for *_, codes in plain(targets)] == [["other-file"], [], ["not-checked"], ["block-damaged"]]
    assert str(targets[2].verdict) == "indeterminate" and "-9" in targets[2].findings[0].message
    assert totals.exit_code == 3 and not totals.coverage.complete


def test_many_places_go_through_a_small_window(tmp_path, small, monkeypatch):
    """Red when finished targets pile up behind a slow one, or the window is never opened again."""
    monkeypatch.setattr(workers, "WINDOW", 2)
    for number in range(30):
        put(tmp_path / f"{number:02}", small)
    targets, _ = run(tmp_path, jobs=2)
    assert [Path(each.url).name for each in targets] == [f"{number:02}" for number in range(30)]


def test_threads_find_what_one_thread_finds(wide, tmp_path, monkeypatch):
    """Red when a batch of blocks is lost, or verdicts come in the order of the threads."""
    monkeypatch.setattr(blocks, "_THREADED_BLOCKS_MIN", 1)
    monkeypatch.setattr(blocks, "BATCH_BLOCKS", 1)
    name = "0000000000000002.emm"
    places = [8192 + block * BLOCK_BYTES + step for block in (0, 2, 4) for step in (7, 9000)]
    put(tmp_path, wide | {name: flipped(wide[name], *places)})
    one, _ = run(tmp_path)
    three, _ = run(tmp_path, jobs=3)
    assert [each.to_dict() for each in one] == [each.to_dict() for each in three]
    assert [each.block for each in one[0].findings] == [0, 2, 4]


def test_each_file_of_a_memory_is_opened_once_or_twice(tmp_path, small, monkeypatch):
    """Red when a check of a small memory spends its time on opening: eleven times a memory of three files, once."""
    put(tmp_path, small)
    opened = []
    monkeypatch.setattr(os, "open", lambda path, *a, _open=os.open, **k: opened.append(path) or _open(path, *a, **k))
    _, totals = run(tmp_path)
    assert totals.exit_code == 0 and totals.coverage.complete
    for name in small:
        assert opened.count(name) <= (1 if name.endswith(".emm") else 2), name


def test_an_unreadable_sector_hides_nothing_beside_it(wide, tmp_path, monkeypatch):
    """Red when a failed batch is given up as a whole."""
    from emm.errors import StorageError
    from emm.vfs.local import LocalDirectory

    bad = range(8192 + BLOCK_BYTES, 8192 + 2 * BLOCK_BYTES)
    read = LocalDirectory.read_ranges

    def failing(self, name, ranges):
        if any(offset <= bad.start < offset + length for offset, length in ranges) and name.endswith("2.emm"):
            raise StorageError("cannot read: Input/output error", file=name)
        return read(self, name, ranges)

    monkeypatch.setattr(LocalDirectory, "read_ranges", failing)
    name = "0000000000000002.emm"
    put(tmp_path, wide | {name: flipped(wide[name], 8192 + 3 * BLOCK_BYTES + 1, 8192 + 3 * BLOCK_BYTES + 5)})
    ((only,), _) = run(tmp_path)
    found = [(each.code, each.block) for each in only.findings]
    assert (("unreadable", 1) in found) and (("block-damaged", 3) in found) and len(found) == 2


# --- places ---------------------------------------------------------------------------------------


def named(*urls):
    return [(os.path.basename(each.url), each.is_file, each.problem is not None) for each in discover(map(str, urls))]


def test_files_memories_trees_and_patterns_may_be_mixed(archive, monkeypatch):
    """Red when a pattern is not looked up, or one kind of name hides another."""
    monkeypatch.chdir(archive)
    assert named("a", "b", "d/0000000000000001.emm") == [
        ("a", False, False),
        ("c", False, False),
        ("0000000000000001.emm", True, False),
    ]
    assert named("[ad]") == [("a", False, False), ("d", False, False)]
    assert named("*/0000000000000001.emm") == [("0000000000000001.emm", True, False)] * 2
    assert len(named("**/*.emm")) == len(list(archive.rglob("*.emm")))
    assert named("**") == named(".") == named(archive / "**") == named(archive)
    assert named("z*", archive / "no?") == [("z*", False, True), ("no?", False, True)]


def test_a_name_with_the_characters_of_a_pattern_is_itself(tmp_path, small):
    """Red when a directory called [x] cannot be named."""
    put(tmp_path / "[x]", small)
    put(tmp_path / "x", small)
    assert named(tmp_path / "[x]") == [("[x]", False, False)]


def test_a_pattern_follows_no_link_and_ends(tmp_path, small):
    """Red when `**` goes round a loop of links, or leaves the tree by one."""
    put(tmp_path / "tree" / "m", small)
    put(tmp_path / "outside", small)
    (tmp_path / "tree" / "loop").symlink_to(tmp_path / "tree")
    (tmp_path / "tree" / "out").symlink_to(tmp_path / "outside")
    found = [each.url for each in discover([str(tmp_path / "tree" / "**" / "*.emm")])]
    assert {os.path.dirname(each) for each in found} == {str(tmp_path / "tree" / "m")}


def test_urls_and_their_patterns_are_checked_where_they_lie(small):
    """Red when only local paths may be mixed."""
    filesystem = fsspec.filesystem("memory")
    root = uuid.uuid4().hex
    for memory in ("a", "b"):
        for name, data in small.items():
            filesystem.pipe_file(f"/{root}/{memory}/{name}", data)
    targets, totals = run(f"memory://{root}", f"memory://{root}/*/0000000000000001.emm")
    assert [each.kind for each in targets] == ["memory", "memory", "snapshot", "snapshot"] and totals.exit_code == 0


# --- what makes no sense ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {"sample": parse_sample("5%"), "level": Level.TABLE},
        {"sample": parse_sample("5%"), "paranoid": True},
        {"sample": parse_sample("5%"), "against": "x"},
        {"against": "x", "level": Level.TABLE},
        {"max_age_s": 3.0},
        {"accept": True},
        {"sha256": "ab"},
    ],
)
def test_what_cannot_go_together_is_refused(tmp_path, asked):
    """Red when an option is ignored in silence."""
    with pytest.raises(InputError):
        Scrub(replace(Request((str(tmp_path),)), **asked))


def test_a_sha256_is_of_one_file(tmp_path, small):
    """Red when a digest is compared with nothing."""
    import hashlib

    put(tmp_path, small)
    name = "0000000000000003.emm"
    right = hashlib.sha256(small[name]).hexdigest()
    for digest, code in ((right, 0), (right.upper(), 0), (right[::-1], 4)):
        targets, totals = run(tmp_path / name, sha256=digest)
        assert totals.exit_code == code and [f.code for f in targets[0].findings] == ["sha256-differs"][: code // 4]
    shutil.copy(tmp_path / name, tmp_path / "replica.emm")
    targets, totals = run(tmp_path / name, sha256=right[::-1], against=str(tmp_path / "replica.emm"))
    assert [[f.code for f in each.findings] for each in targets] == [["sha256-differs"], []] and totals.exit_code == 4
    for urls in ((tmp_path,), (tmp_path / name, tmp_path / name)):
        with pytest.raises(InputError):
            run(*urls, sha256=right)


# --- paranoid -------------------------------------------------------------------------------------


def test_paranoid_replays_reads_twice_and_uses_another_crc(tmp_path, small, monkeypatch):
    """Red when --paranoid is another word for numeric."""
    put(tmp_path, small)
    ((whole,), _) = run(tmp_path, paranoid=True)
    ((once,), _) = run(tmp_path, level=Level.NUMERIC)
    assert whole.coverage.bytes_read == 2 * once.coverage.bytes_read and str(whole.verdict) == "clean"
    assert whole.coverage.commits_replayed and whole.coverage.level is Level.NUMERIC
    monkeypatch.setattr(paranoia, "other_crc32", lambda: lambda block: 0)
    ((differs,), totals) = run(tmp_path, paranoid=True)
    assert differs.findings[0].message.endswith("as other code computes it") and totals.exit_code != 0


def test_paranoid_sees_a_medium_that_answers_differently(tmp_path, small, monkeypatch):
    """Red when the second reading is not compared with the first."""
    put(tmp_path, small)
    batch, calls = BlockReader._batch, []

    def moody(self, indices):
        calls.append(self.name)
        if len(calls) == 1:
            table = [replace(each, crc32=each.crc32 ^ 1) for each in self.table]
            return batch(replace(self, table=table), indices)
        return batch(self, indices)

    monkeypatch.setattr(BlockReader, "_batch", moody)
    ((only,), totals) = run(tmp_path, paranoid=True)
    assert "reading-differs" in [each.code for each in only.findings] and totals.exit_code in (3, 4, 6)
