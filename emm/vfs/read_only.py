"""The half of a directory that changes it, refused.

Purpose: one place for what a read-only `emm.vfs.protocol.Directory` answers. Invariant: every method that could change
something raises `UnsupportedError` with the directory's own reason; `close` holds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, NoReturn

from emm.errors import UnsupportedError
from emm.vfs.protocol import Appender, Lock


class ReadOnly:
    """Mixed into a directory that is only read; `refusal` says why, in a sentence for its user."""

    refusal: ClassVar[str]

    @property
    def url(self) -> str:
        raise NotImplementedError

    def _refuse(self, *_: object) -> NoReturn:
        raise UnsupportedError(self.refusal, file=self.url)

    def create(self) -> None:
        self._refuse()

    def publish(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        self._refuse(name, chunks)

    def open_append(self, name: str) -> Appender:
        self._refuse(name)

    def sync(self, name: str) -> None:
        self._refuse(name)

    def remove(self, name: str) -> None:
        self._refuse(name)

    def lock(self) -> Lock:
        self._refuse()

    def sweep(self) -> Sequence[str]:
        self._refuse()

    def close(self) -> None:
        """Nothing is held open between calls."""
