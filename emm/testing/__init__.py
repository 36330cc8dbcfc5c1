"""Contract suites for people who bring their own medium: subclass one in your tests and run pytest.

Purpose: an implementation of `emm.vfs.protocol` is right when `DirectoryContract` (or, for media that
only read, `ReadContract`) passes against it. `FrozenDirectory` is one whose files are bytes in memory.
"""

from emm.testing.frozen import FrozenDirectory
from emm.testing.vfs_contract import DirectoryContract, ReadContract

__all__ = ["DirectoryContract", "FrozenDirectory", "ReadContract"]
