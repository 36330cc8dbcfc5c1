"""Paths and URLs lead to the right kind of directory, and discovery finds every memory once.

Every test says which change to `emm/vfs/resolve.py` would turn it red.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from emm.errors import InputError, LimitError, MissingError, StorageError
from emm.vfs import LocalDirectory, RemoteDirectory, is_directory, open_directory, open_file, walk_memories


def test_paths_and_file_urls_are_local(tmp_path):
    """Red when a path is handed to fsspec, or %20 in a file URL is not decoded."""
    there = tmp_path / "with space"
    there.mkdir()
    (there / "a.emm").write_bytes(b"1")
    for url in (str(there), there, there.as_uri(), f"file://localhost{tmp_path}/with%20space", there.as_uri() + "/"):
        directory = open_directory(url)
        assert isinstance(directory, LocalDirectory) and directory.list() == ["a.emm"]


def test_a_relative_path_with_a_colon_is_a_path(tmp_path, monkeypatch):
    """Red when a lone colon makes a URL."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labs:chemistry").mkdir()
    assert open_directory("labs:chemistry").list() == []


def test_other_urls_go_through_fsspec():
    """Red when memory:// is taken for a path."""
    assert isinstance(open_directory(f"memory://{uuid.uuid4().hex}"), RemoteDirectory)


@pytest.mark.parametrize("url", ["nosuch://bucket/x", "", "file://otherhost/x", "a\0b", "file://relative", b"bytes", 3])
def test_what_cannot_be_a_location_is_refused_in_a_sentence(url):
    """Red when fsspec's ValueError or a TypeError reaches the caller."""
    with pytest.raises(InputError) as caught:
        open_directory(url)
    assert len(str(caught.value)) > 20 and caught.value.exit_code == 2


def test_a_protocol_whose_package_is_missing_says_so():
    """Red when ImportError reaches the caller."""
    with pytest.raises(InputError) as caught:
        open_directory("dropbox://x/y")
    assert "package" in str(caught.value)


def test_a_single_file_splits_into_directory_and_name(tmp_path, monkeypatch):
    """Red when the parent of a bare name is not the current directory."""
    (tmp_path / "a.emm").write_bytes(b"123")
    monkeypatch.chdir(tmp_path)
    for url in ("a.emm", "./a.emm", str(tmp_path / "a.emm"), (tmp_path / "a.emm").as_uri(), Path("a.emm")):
        directory, name = open_file(url)
        assert name == "a.emm" and directory.read_at(name, 0, 3) == b"123"
    root = open_directory(f"memory://{uuid.uuid4().hex}")
    root.filesystem.pipe_file(f"{root.path}/sub/b.emm", b"45")
    directory, name = open_file(root.url + "/sub/b.emm")
    assert directory.url == root.url + "/sub" and directory.read_at(name, 0, 2) == b"45"
    for url in ("..", "dir/", "dir/.."):
        with pytest.raises(InputError):
            open_file(url)


def test_directory_file_and_nothing_are_told_apart(tmp_path):
    """Red when a dangling link or an absent object counts as a file."""
    (tmp_path / "a.emm").write_bytes(b"")
    assert is_directory(tmp_path) is True
    assert is_directory(tmp_path / "a.emm") is False
    with pytest.raises(MissingError):
        is_directory(tmp_path / "nothing")
    root = open_directory(f"memory://{uuid.uuid4().hex}")
    root.filesystem.pipe_file(f"{root.path}/a.emm", b"")
    assert is_directory(root.url) is True
    assert is_directory(root.url + "/a.emm") is False
    with pytest.raises(MissingError):
        is_directory(root.url + "/nothing")


def plant(root: Path) -> None:
    for name in ("b/x/1.emm", "a/1.wal", "a/deep/er/1.emm", "c/readme.txt", ".hidden/1.emm"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


EXPECTED = [".hidden", "a", "a/deep/er", "b/x"]


def test_discovery_is_sorted_and_does_not_follow_links(tmp_path):
    """Red when links are followed (a loop would never end), or when order is the file system's."""
    root = tmp_path / "archive"
    plant(root)
    (root / "a" / "loop").symlink_to(root)
    (root / "z").symlink_to(root / "a")
    found = [os.path.relpath(directory.url, root) for directory in walk_memories(root)]
    assert found == EXPECTED
    assert [d.url for d in walk_memories(root / "a" / "deep" / "er")] == [str(root / "a" / "deep" / "er")]


def test_discovery_in_a_store_finds_the_same(tmp_path):
    """Red when remote and local discovery disagree."""
    root = open_directory(f"memory://{uuid.uuid4().hex}")
    for name in ("b/x/1.emm", "a/1.wal", "a/deep/er/1.emm", "c/readme.txt", ".hidden/1.emm"):
        root.filesystem.pipe_file(f"{root.path}/{name}", b"")
    assert [directory.url[len(root.url) + 1 :] for directory in walk_memories(root.url)] == EXPECTED


def test_discovery_is_bounded_and_tells(tmp_path):
    """Red when the bound is dropped, or when passing something over is silent."""
    plant(tmp_path)
    errors = []
    found = [os.path.relpath(d.url, tmp_path) for d in walk_memories(tmp_path, depth_max=1, on_error=errors.append)]
    assert found == [".hidden", "a"] and all(isinstance(error, LimitError) for error in errors) and len(errors) == 2
    with pytest.raises(LimitError):
        list(walk_memories(tmp_path, depth_max=1))


def test_discovery_of_nothing_is_missing(tmp_path):
    """Red when an absent root looks like an empty archive."""
    with pytest.raises(MissingError):
        list(walk_memories(tmp_path / "nothing"))
    with pytest.raises(MissingError):
        list(walk_memories(f"memory://{uuid.uuid4().hex}"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        list(walk_memories(tmp_path / "file"))
