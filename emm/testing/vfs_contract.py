"""The fault model of `emm.vfs.protocol` as inheritable tests; needs no pytest, only something that runs test_ methods.

Purpose: the local disk, object stores and the simulated disk pass the same tests. A subclass names itself
`Test…` and implements `fresh_directory`; media that cannot publish implement `place` as well and use
`ReadContract`. Invariants: every test makes its own directory; nothing is mocked.

    class TestMyStore(DirectoryContract):
        def fresh_directory(self) -> Directory: ...
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from emm.errors import ClosedError, EmmError, ExistsError, FencedError, InputError, MissingError, TruncatedError
from emm.vfs.protocol import Directory

HOSTILE_NAMES = ("", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", ".hidden", "x" * 256, "é" * 200)


@contextlib.contextmanager
def raises(kind: type[EmmError]) -> Iterator[None]:
    """Pass only when the body raises `kind`."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


class ReadContract:
    """What every medium owes a reader."""

    def fresh_directory(self) -> Directory:
        """A directory that does not exist yet, elsewhere at each call."""
        raise NotImplementedError

    def place(self, directory: Directory, name: str, data: bytes) -> None:
        """Put a file there, by whatever means the medium has; creates the directory when needed."""
        raise NotImplementedError

    def test_a_missing_directory_is_missing(self) -> None:
        """Red when a listing of nothing is an empty list: a lost memory would look like an empty one."""
        with raises(MissingError):
            self.fresh_directory().list()

    def test_a_missing_file_is_missing_to_every_reader(self) -> None:
        """Red when an absent object maps to another error than `MissingError`."""
        directory = self.fresh_directory()
        self.place(directory, "a.emm", b"1")
        with raises(MissingError):
            directory.size("b.emm")
        with raises(MissingError):
            directory.read_at("b.emm", 0, 1)
        with raises(MissingError):
            directory.read_ranges("b.emm", [(0, 1), (0, 0)])
        with raises(MissingError):
            directory.map("b.emm")

    def test_names_are_listed_sorted_and_without_hidden_ones(self) -> None:
        """Red when `list` keeps directory order or shows the temporary files of a publish."""
        directory = self.fresh_directory()
        for name in ("b.wal", "a.emm", "c"):
            self.place(directory, name, name.encode())
        assert directory.list() == ["a.emm", "b.wal", "c"]

    def test_a_listing_is_not_cached(self) -> None:
        """Red when `list` or `size` answers from a cache: a reader would miss a checkpoint."""
        directory = self.fresh_directory()
        self.place(directory, "a.emm", b"1")
        assert directory.list() == ["a.emm"]
        self.place(directory, "b.emm", b"22")
        assert directory.list() == ["a.emm", "b.emm"]
        assert directory.size("b.emm") == 2

    def test_reads_return_exactly_the_bytes_asked_for(self) -> None:
        """Red when a range is off by one at either end."""
        directory = self.fresh_directory()
        data = bytes(range(256)) * 300
        self.place(directory, "a.emm", data)
        assert directory.size("a.emm") == len(data)
        for offset, length in ((0, 0), (0, 1), (1, 255), (65535, 2), (len(data) - 1, 1), (0, len(data))):
            assert directory.read_at("a.emm", offset, length) == data[offset : offset + length]
        ranges = [(5, 7), (70000, 3), (9, 0), (0, 5)]
        assert list(directory.read_ranges("a.emm", ranges)) == [data[o : o + n] for o, n in ranges]
        assert bytes(directory.map("a.emm")) == data

    def test_a_short_read_is_an_error(self) -> None:
        """Red when the end of the file cuts a read silently (fsspec does)."""
        directory = self.fresh_directory()
        self.place(directory, "a.emm", b"12345678")
        for offset, length in ((0, 9), (7, 2), (8, 1), (1 << 40, 1), (0, 1 << 40)):
            with raises(TruncatedError):
                directory.read_at("a.emm", offset, length)
        with raises(TruncatedError):
            directory.read_ranges("a.emm", [(0, 4), (4, 5)])

    def test_an_empty_file_is_a_file(self) -> None:
        """Red when mapping or reading an empty file fails (mmap refuses length 0)."""
        directory = self.fresh_directory()
        self.place(directory, "a.emm", b"")
        assert directory.list() == ["a.emm"] and directory.size("a.emm") == 0
        assert bytes(directory.map("a.emm")) == b"" == directory.read_at("a.emm", 0, 0)
        with raises(TruncatedError):
            directory.read_at("a.emm", 0, 1)

    def test_a_mapping_is_read_only(self) -> None:
        """Red when `map` gives a writable view."""
        directory = self.fresh_directory()
        self.place(directory, "a.emm", b"123")
        assert directory.map("a.emm").readonly

    def test_hostile_names_and_ranges_are_refused(self) -> None:
        """Red when a name check is dropped from any reading call, or a negative range reaches the medium."""
        directory = self.fresh_directory()
        self.place(directory, "a.emm", b"123")
        for name in HOSTILE_NAMES:
            with raises(InputError):
                directory.size(name)
            with raises(InputError):
                directory.read_at(name, 0, 1)
            with raises(InputError):
                directory.read_ranges(name, [(0, 1)])
            with raises(InputError):
                directory.map(name)
        for offset, length in ((-1, 1), (0, -1)):
            with raises(InputError):
                directory.read_at("a.emm", offset, length)


class DirectoryContract(ReadContract):
    """What a medium owes a writer too."""

    def place(self, directory: Directory, name: str, data: bytes) -> None:
        with contextlib.suppress(ExistsError):
            directory.create()
        directory.publish(name, [data])

    def same_directory(self, directory: Directory) -> Directory:
        """Another handle on the same place, as another process would open it."""
        raise NotImplementedError

    def test_create_refuses_what_is_not_empty(self) -> None:
        """Red when `create` accepts an existing memory."""
        directory = self.fresh_directory()
        directory.create()
        assert directory.list() == []
        self.same_directory(directory).create()  # empty: nothing to lose
        directory.publish("a.emm", [b"1"])
        with raises(ExistsError):
            directory.create()

    def test_publish_shows_all_chunks_in_order(self) -> None:
        """Red when chunks are reordered, or a view that is not of bytes is measured in elements."""
        directory = self.fresh_directory()
        directory.create()
        chunks: list[Any] = [b"ab", b"", memoryview(b"cd"), memoryview(bytes(range(64))).cast("I")]
        directory.publish("a.emm", iter(chunks))
        assert bytes(directory.map("a.emm")) == b"abcd" + bytes(range(64))

    def test_publish_never_overwrites(self) -> None:
        """Red when publishing renames over the name instead of linking."""
        directory = self.fresh_directory()
        directory.create()
        directory.publish("a.emm", [b"first"])
        with raises(ExistsError):
            directory.publish("a.emm", [b"second"])
        with raises(ExistsError):
            self.same_directory(directory).publish("a.emm", [b"third"])
        assert bytes(directory.map("a.emm")) == b"first"
        assert directory.list() == ["a.emm"]

    def test_a_publish_that_fails_leaves_no_name(self) -> None:
        """Red when the final name is created before all chunks are written."""
        directory = self.fresh_directory()
        directory.create()

        def chunks() -> Iterator[bytes]:
            yield b"half"
            raise RuntimeError("the source failed")

        with contextlib.suppress(RuntimeError):
            directory.publish("a.emm", chunks())
        assert directory.list() == []
        directory.publish("a.emm", [b"whole"])
        assert bytes(directory.map("a.emm")) == b"whole"

    def test_a_mapping_outlives_removal(self) -> None:
        """Red when pruning takes the bytes away from a reader that has them mapped."""
        directory = self.fresh_directory()
        directory.create()
        directory.publish("a.emm", [b"x" * 100000])
        view = directory.map("a.emm")
        directory.remove("a.emm")
        assert directory.list() == [] and bytes(view) == b"x" * 100000

    def test_remove_of_an_absent_name_is_no_error(self) -> None:
        """Red when a prune that was interrupted cannot be repeated."""
        directory = self.fresh_directory()
        directory.create()
        directory.remove("a.emm")

    def test_sync_makes_anybodys_file_durable_and_changes_nothing(self) -> None:
        """Red when a writer that takes over cannot make durable what its predecessor left."""
        directory = self.fresh_directory()
        directory.create()
        directory.publish("a.wal", [b"head"])
        directory.open_append("a.wal").append(b"tail")
        self.same_directory(directory).sync("a.wal")
        assert directory.read_at("a.wal", 0, 8) == b"headtail"
        with raises(MissingError):
            directory.sync("b.wal")

    def test_appends_follow_what_was_published(self) -> None:
        """Red when the appender starts at 0, or when `append` truncates."""
        directory = self.fresh_directory()
        directory.create()
        directory.publish("a.wal", [b"head"])
        appender = directory.open_append("a.wal")
        appender.append(b"one")
        appender.sync()
        appender.append(b"two")
        appender.sync()
        appender.close()
        assert bytes(self.same_directory(directory).map("a.wal")) == b"headonetwo"

    def test_only_the_creator_appends(self) -> None:
        """Red when `open_append` opens any existing file: a newcomer would write into a fenced segment."""
        directory = self.fresh_directory()
        directory.create()
        directory.publish("a.wal", [b"head"])
        with raises(FencedError):
            self.same_directory(directory).open_append("a.wal")
        with raises(FencedError):
            directory.open_append("b.wal")

    def test_a_closed_appender_refuses(self) -> None:
        """Red when appending through a closed handle is silent, or closing twice raises."""
        directory = self.fresh_directory()
        directory.create()
        directory.publish("a.wal", [b""])
        appender = directory.open_append("a.wal")
        appender.close()
        appender.close()
        with raises(ClosedError):
            appender.append(b"1")
        with raises(ClosedError):
            appender.sync()

    def test_one_writer_at_a_time(self) -> None:
        """Red when the lock is per process, waits, or is not freed by `release`."""
        directory = self.fresh_directory()
        directory.create()
        lock = directory.lock()
        other = self.same_directory(directory)
        with raises(FencedError):
            other.lock()
        with raises(FencedError):
            directory.lock()
        lock.release()
        lock.release()
        other.lock().release()

    def test_hostile_names_are_refused_for_writing(self) -> None:
        """Red when the name check is dropped from any writing call."""
        directory = self.fresh_directory()
        directory.create()
        for name in HOSTILE_NAMES:
            with raises(InputError):
                directory.publish(name, [b"1"])
            with raises(InputError):
                directory.open_append(name)
            with raises(InputError):
                directory.remove(name)
        assert directory.list() == []
