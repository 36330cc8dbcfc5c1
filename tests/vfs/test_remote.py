"""fsspec file systems keep the reading half of the contract, and refuse to be written.

Every test says which change to `emm/vfs` would turn it red.
"""

from __future__ import annotations

import uuid

import fsspec
import pytest

from emm.errors import ClosedError, EmmError, MissingError, StorageError, TruncatedError, UnsupportedError
from emm.testing import FrozenDirectory, ReadContract
from emm.vfs import Directory, RemoteDirectory, open_directory


class TestMemoryFilesystemContract(ReadContract):
    def fresh_directory(self) -> Directory:
        return open_directory(f"memory://{uuid.uuid4().hex}/deep")

    def place(self, directory: Directory, name: str, data: bytes) -> None:
        assert isinstance(directory, RemoteDirectory)
        directory.filesystem.makedirs(directory.path, exist_ok=True)
        directory.filesystem.pipe_file(f"{directory.path}/{name}", data)


class TestFsspecLocalContract(ReadContract):
    """The same through fsspec's local file system, which answers differently at every edge."""

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path):
        self.root = tmp_path

    def fresh_directory(self) -> Directory:
        return RemoteDirectory(fsspec.filesystem("file"), str(self.root / uuid.uuid4().hex))

    def place(self, directory: Directory, name: str, data: bytes) -> None:
        directory.filesystem.makedirs(directory.path, exist_ok=True)
        directory.filesystem.pipe_file(f"{directory.path}/{name}", data)


@pytest.fixture
def directory():
    root = open_directory(f"memory://{uuid.uuid4().hex}")
    root.filesystem.pipe_file(f"{root.path}/a.emm", b"12345678")
    return root


def test_every_writing_call_is_refused_with_advice(directory):
    """Red when a writing method reaches the store: publishing there needs a probed conditional PUT."""
    calls = (
        directory.create,
        lambda: directory.publish("b.emm", [b"1"]),
        lambda: directory.open_append("a.emm"),
        lambda: directory.remove("a.emm"),
        directory.lock,
    )
    for call in calls:
        with pytest.raises(UnsupportedError) as caught:
            call()
        assert "local" in str(caught.value) and caught.value.exit_code == 5
    assert directory.list() == ["a.emm"]


class Flaky(fsspec.AbstractFileSystem):
    """A store that misbehaves in the ways fsspec stores do."""

    cachable = False

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def ls(self, path, detail=True, **_):
        raise self.answer

    def info(self, path, **_):
        raise self.answer

    def cat_file(self, path, start=None, end=None, **_):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def cat_ranges(self, paths, starts, ends, max_gap=None, on_error="return", **_):
        return [self.answer for _ in paths]


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (FileNotFoundError("x"), MissingError),
        (PermissionError("denied"), StorageError),
        (OSError("reset by peer"), StorageError),
        (RuntimeError("anything"), StorageError),
        (TimeoutError(), StorageError),
        (ClosedError("ours"), ClosedError),
    ],
)
def test_whatever_a_store_raises_is_mapped_and_names_the_file(raised, kind):
    """Red when a store's own exception escapes, or a refusal is taken for absence."""
    broken = RemoteDirectory(Flaky(raised), "/bucket/memory", "flaky://bucket/memory")
    for call in (
        broken.list,
        lambda: broken.size("a.emm"),
        lambda: broken.read_at("a.emm", 0, 1),
        lambda: broken.map("a.emm"),
    ):
        with pytest.raises(EmmError) as caught:
            call()
        assert type(caught.value) is kind
        if kind is not ClosedError:
            assert caught.value.file.startswith("flaky://bucket/memory")


def test_an_exception_inside_a_list_of_ranges_is_raised():
    """fsspec returns it in place of the bytes. Red when `cat_ranges` results are used unchecked."""
    for raised, kind in ((FileNotFoundError(), MissingError), (PermissionError(), StorageError)):
        broken = RemoteDirectory(Flaky(raised), "/bucket", "flaky://bucket")
        with pytest.raises(StorageError) as caught:
            broken.read_ranges("a.emm", [(0, 1)])
        assert type(caught.value) is kind


def test_too_many_bytes_are_refused_too():
    """Some HTTP servers ignore Range. Red when only short answers are checked."""
    for call in (lambda d: d.read_at("a", 2, 4), lambda d: d.read_ranges("a", [(2, 4)])):
        with pytest.raises(TruncatedError):
            call(RemoteDirectory(Flaky(b"the whole file"), "/bucket", "flaky://bucket"))


class Remembering(fsspec.AbstractFileSystem):
    """Lists from a cache until it is told to forget, as s3fs does."""

    cachable = False

    def __init__(self):
        super().__init__()
        self.truth = {"/bucket/a.emm": 1}
        self.cache = None

    def invalidate_cache(self, path=None):
        self.cache = None

    def ls(self, path, detail=True, **_):
        self.cache = dict(self.truth) if self.cache is None else self.cache
        return [{"name": name, "size": size, "type": "file"} for name, size in self.cache.items()]

    def info(self, path, **_):
        return next(entry for entry in self.ls("/bucket") if entry["name"] == path)


def test_the_stores_own_cache_is_not_believed():
    """Red when `invalidate_cache` is left out before a listing or a size."""
    store = Remembering()
    directory = RemoteDirectory(store, "/bucket", "remembering://bucket")
    assert directory.list() == ["a.emm"] and directory.size("a.emm") == 1
    store.truth |= {"/bucket/b.emm": 2}
    assert directory.list() == ["a.emm", "b.emm"]
    store.truth["/bucket/a.emm"] = 5
    assert directory.size("a.emm") == 5


def test_a_file_is_not_a_directory(directory):
    """Red when listing an object answers with the object itself, as fsspec does."""
    with pytest.raises(MissingError):
        open_directory(directory.url + "/a.emm").list()


def test_subdirectories_are_not_listed(directory):
    """Red when entries of type directory are taken for files."""
    directory.filesystem.pipe_file(f"{directory.path}/sub.emm/b.emm", b"1")
    assert directory.list() == ["a.emm"]


class TestFrozenContract(ReadContract):
    """The directory that verify's tests damage is a right one itself."""

    def fresh_directory(self) -> Directory:
        return FrozenDirectory(None)

    def place(self, directory: Directory, name: str, data: bytes) -> None:
        assert isinstance(directory, FrozenDirectory)
        directory._files = {**(directory._files or {}), name: data}
