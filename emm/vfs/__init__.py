"""Durable I/O behind one small protocol: the local disk, and read-only anything that fsspec opens."""

from emm.vfs.local import LocalDirectory
from emm.vfs.protocol import Appender, Directory, Lock
from emm.vfs.read_only import ReadOnly
from emm.vfs.remote import RemoteDirectory
from emm.vfs.resolve import is_directory, open_directory, open_file, walk_memories

__all__ = [
    "Appender",
    "Directory",
    "LocalDirectory",
    "Lock",
    "ReadOnly",
    "RemoteDirectory",
    "is_directory",
    "open_directory",
    "open_file",
    "walk_memories",
]
