"""Which segments a namespace has, and how far into the truth log they reach: one small file, replaced as a whole.

Purpose: the switch between an old and a new set of segments. `set.json` is one line of JSON and one of its SHA-256: the
records of the log that are sealed, the CRC-32 that the last of them carries (a log that begins otherwise is not the
one that was sealed), and each segment with its manifest's hash and a bitmap of the rows that a later sealed record
replaced or removed. Invariants: a process that dies at any moment leaves the old set or the new one; the set is
published under a lock, after its segments and the sealed part of the log are durable; whoever replaces a log takes the
set away first; what no set names is rubbish; a set that cannot be read, or a part of it, is as good as none.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emm_engine.files import make_folder, remove_durably, replace_durably
from emm_engine.vectors.log import LOCK, SET_NAME, locked, segments_path
from emm_engine.vectors.segment import (
    FORMAT,
    MANIFEST,
    UNREADABLE,
    DamagedError,
    Model,
    Segment,
    canonical,
    open_segment,
    read_small,
    sha256_of,
)

SET_BYTES_MAX: Final = 1 << 28
SEGMENTS_MAX: Final = 4096
MERGE_LOCK: Final = "merge.lock"  # held while segments are made of segments; taken before LOCK
NAME: Final = re.compile("[0-9a-f]{16}")
TRIES: Final = 5  # of a reader before whose eyes the set is exchanged

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Part:
    """A segment and its tombstones."""

    segment: Segment
    dead: Bits  # (n,) rows that are no longer said

    @property
    def n_alive(self) -> int:
        return len(self.dead) - int(np.count_nonzero(self.dead))


@dataclass(frozen=True, slots=True)
class SegmentSet:
    """What is sealed of a log."""

    n_records: int
    last_crc: int
    parts: tuple[Part, ...]


class SegmentFolder:
    """The segments of one namespace on disk. Segments that stay are opened once for each instance."""

    def __init__(self, folder: Path, namespace: str, model: Model) -> None:
        self.path = segments_path(folder, namespace)
        self._model = model
        self._segments: dict[str, Segment] = {}  # by the hash of the manifest

    def mark(self) -> str | None:
        """Changes when the set does; None where there is none."""
        try:
            return hashlib.sha256(read_small(self.path / SET_NAME, SET_BYTES_MAX)).hexdigest()
        except (OSError, DamagedError):
            return None

    def read(self) -> tuple[SegmentSet | None, str | None]:
        """(the set, or None where there is no usable one; its mark)."""
        mark = None
        for _ in range(TRIES):
            try:
                data = read_small(self.path / SET_NAME, SET_BYTES_MAX)
            except (OSError, DamagedError):
                return None, None
            mark = hashlib.sha256(data).hexdigest()
            try:
                return self._decoded(data), mark
            except (DamagedError, *UNREADABLE):
                return None, mark
            except OSError:  # exchanged while we looked, and what we looked for removed; or gone for good
                continue
        return None, mark

    def publish(self, news: SegmentSet) -> None:
        """Exchange the set; the lock is ours."""
        replace_durably(self.path / SET_NAME, self._encoded(news))

    def withdraw(self) -> None:
        remove_durably(self.path / SET_NAME)

    def prepare(self) -> None:
        """Make the folder, durably."""
        make_folder(self.path)

    def lock(self, name: str = LOCK, wait: bool = True) -> contextlib.AbstractContextManager[bool]:
        """Hold a lock of this folder; gives False where it is taken and we do not wait."""
        return locked(self.path / name, wait)

    def sweep(self) -> None:
        """Remove what the set does not name; both locks are ours."""
        named, _ = self.read()
        kept = {part.segment.name for part in named.parts} if named is not None else set()
        for each in list(self.path.iterdir()):
            if each.is_dir() and each.name not in kept:
                shutil.rmtree(each, ignore_errors=True)
            elif each.name.endswith(".tmp"):
                each.unlink(missing_ok=True)

    # --- the file --------------------------------------------------------------------------------

    def _encoded(self, news: SegmentSet) -> bytes:
        line = canonical(
            {
                "format": FORMAT,
                "dim": self._model.dim,
                "fingerprint": self._model.fingerprint,
                "sealed_records": news.n_records,
                "last_crc": news.last_crc,
                "segments": [
                    {
                        "name": part.segment.name,
                        "manifest_sha256": sha256_of(part.segment.path / MANIFEST),
                        "dead": base64.b64encode(np.packbits(part.dead).tobytes()).decode(),
                    }
                    for part in news.parts
                ],
            }
        )
        return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"

    def _decoded(self, data: bytes) -> SegmentSet:
        line, _, rest = data.partition(b"\n")
        if rest != hashlib.sha256(line).hexdigest().encode() + b"\n":
            raise DamagedError(SET_NAME)
        said = json.loads(line)
        if (said["format"], said["dim"], said["fingerprint"]) != (FORMAT, self._model.dim, self._model.fingerprint):
            raise DamagedError(SET_NAME)
        n_records, last_crc, entries = said["sealed_records"], said["last_crc"], said["segments"]
        if not (isinstance(n_records, int) and isinstance(last_crc, int) and n_records > 0):
            raise DamagedError(SET_NAME)
        if not isinstance(entries, list) or len(entries) > SEGMENTS_MAX:
            raise DamagedError(SET_NAME)
        parts = tuple(self._part(entry) for entry in entries)
        self._segments = {each: open_ for each, open_ in self._segments.items() if open_ in [p.segment for p in parts]}
        return SegmentSet(n_records, last_crc, parts)

    def _part(self, entry: dict[str, Any]) -> Part:
        name, digest = entry["name"], entry["manifest_sha256"]
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise DamagedError(SET_NAME)
        segment = self._segments.get(digest)
        if segment is None or segment.name != name:
            segment = self._segments[digest] = open_segment(self.path / name, self._model, digest)
        bits = np.frombuffer(base64.b64decode(entry["dead"], validate=True), np.uint8)
        if len(bits) != (len(segment) + 7) // 8:
            raise DamagedError(SET_NAME)
        return Part(segment, np.unpackbits(bits, count=len(segment)).astype(bool))
