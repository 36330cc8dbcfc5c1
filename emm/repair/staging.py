"""Write a whole memory directory that appears under its name complete or not at all.

Purpose: a repair that is killed leaves nothing that opens half made. Invariants: files are published in a hidden
directory beside the target, journal first (which opens for nobody without a snapshot), then snapshots from the newest
on; the hidden directory gets its name in one `rename` after everything in it was checked; a name that is taken by
anything but an empty directory is refused and not touched.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil

from emm.errors import EmmError, ExistsError, InputError, StorageError, UnsupportedError
from emm.vfs import LocalDirectory
from emm.vfs.handles import fsync_directory, storage_error
from emm.vfs.resolve import Location, local_path

_PREFIX = ".emm-repair-"


def target_path(out: Location, source_url: str) -> str:
    """The absolute path of `--out`; refused when it is remote, taken, or inside the memory that is to be repaired."""
    path = local_path(out)
    if path is None:
        raise UnsupportedError(
            "a repair is written to a local directory; copy it to its store afterwards", file=str(out)
        )
    path = os.path.abspath(path)
    try:
        if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path) or os.listdir(path)):
            raise ExistsError("the name to repair into is taken; nothing is ever overwritten", file=path)
        source = local_path(source_url)
        if source is not None and os.path.commonpath([os.path.realpath(path), os.path.realpath(source)]) == (
            os.path.realpath(source)
        ):
            raise InputError("a repair is never written into the damaged memory", file=path)
    except OSError as error:
        raise storage_error(error, path, "look at the name to repair into") from error
    return path


class Staging:
    """The hidden directory of one repair; a context manager that removes what was not adopted."""

    def __init__(self, path: str, bytes_out: int) -> None:
        self.path = path
        parent, name = os.path.split(path)
        self.directory = LocalDirectory(os.path.join(parent, f"{_PREFIX}{name[:100]}-{secrets.token_hex(8)}"))
        self._bytes_out = bytes_out
        self._adopted = False

    def __enter__(self) -> Staging:
        self._require_room()
        self.directory.create()
        return self

    def __exit__(self, *_: object) -> None:
        self.directory.close()
        if not self._adopted:
            shutil.rmtree(self.directory.path, ignore_errors=True)

    def _require_room(self) -> None:
        """Refuse before anything is written what visibly cannot fit."""
        place = os.path.dirname(self.path)
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        with contextlib.suppress(OSError):
            status = os.statvfs(place)
            free = status.f_bavail * status.f_frsize
            if free < self._bytes_out:
                raise StorageError(
                    "there is no room for the repaired memory",
                    file=self.path,
                    expected=f"{self._bytes_out} bytes free",
                    found=f"{free} bytes",
                )

    def adopt(self) -> None:
        """Give the checked directory its name, durably."""
        try:
            fsync_directory(self.directory.path)
            os.rename(self.directory.path, self.path)  # takes the place of an empty directory, never of a full one
            self._adopted = True
            fsync_directory(os.path.dirname(self.path))
        except OSError as error:
            if self._adopted or not os.path.lexists(self.path):
                raise storage_error(error, self.path, "give the repaired memory its name") from error
            raise ExistsError("the name to repair into has been taken meanwhile", file=self.path) from error


def refuse_as_full(error: EmmError, path: str) -> EmmError:
    """An error of the hidden directory, told of the place that the caller named."""
    if error.file is not None and _PREFIX in error.file:
        error.file = os.path.join(path, os.path.basename(error.file))
    return error
