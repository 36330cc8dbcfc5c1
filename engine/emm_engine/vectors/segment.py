"""A sealed segment: vectors that are mapped and not read, and a manifest that vouches for every file.

Purpose: the checked form of a stretch of the truth log. The one module that imports mmap-ninja. A folder holds
`rows.bin` (id, text hash, CRC-32 of the log's record, for each row), `vectors/` (an mmap-ninja array), `codes.bin` (its
rows once more, rounded to bytes), `index.ann` where there is an index, and `manifest.json`. Invariants: a segment is
never changed, it appears under its name whole; ids ascend and are dense, the place of a row is its number in the index;
small files are hashed as a whole when the segment is opened; a vector is checked against its CRC, which binds it to its
id and text, when it is first used, or all of them against the file's SHA-256; codes are hashed before the first search,
the index before Annoy sees it; without either, or where it is damaged, the vectors answer.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from mmap_ninja import numpy as ninja

from emm_engine.embeddings.provider import Float32Array
from emm_engine.files import sync_file, sync_folder
from emm_engine.loops import loops
from emm_engine.vectors.codes import Codes, coded, file_bytes, map_file, over
from emm_engine.vectors.index import METRIC, Index, IndexFacts, build, load
from emm_engine.vectors.log import KIND_ADD, Hashes, Rows, encode, record_of
from emm_engine.vectors.ranking import SCAN_ROWS, Places
from emm_engine.vectors.store import Ids

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
ROWS: Final = "rows.bin"
DATA: Final = "vectors/data.ninja"
NOTES: Final = ("dtype", "order", "shape", "type")  # how mmap-ninja remembers what an array is
CODES: Final = "codes.bin"
INDEX: Final = "index.ann"
SMALL: Final = (ROWS, *(f"vectors/{name}.ninja" for name in NOTES))
ROW: Final = np.dtype([("id", "<i8"), ("hash", "<u8"), ("crc", "<u4")])
MANIFEST_BYTES_MAX: Final = 1 << 16
HASHED_BYTES: Final = 1 << 20  # at a time
UNREADABLE: Final = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)  # strange JSON


class DamagedError(Exception):
    """A file of a segment is not what it was. Never leaves the store: it answers from the log instead."""


@dataclass(frozen=True, slots=True)
class Model:
    """What vectors are made by and how long they are."""

    dim: int
    fingerprint: str


class Segment:
    """An open segment."""

    def __init__(self, path: Path, rows: npt.NDArray[np.void], vectors: Any, facts: Any) -> None:
        self.path = path
        self.ids: Ids = rows["id"].astype(np.int64)  # (n,) ascending
        self.hashes: Hashes = rows["hash"].astype(np.uint64)
        self.index_tried: bool = bool(facts["index_tried"])  # there is one, or it did not pay
        self.facts: IndexFacts | None = IndexFacts(**facts["index"]) if facts["index"] else None
        self._crcs = rows["crc"].astype(np.uint32)
        self._files: dict[str, Any] = facts["files"]
        self._vectors: Float32Array = np.asarray(vectors)  # (n, dim)
        self._map: mmap.mmap = vectors.base
        self._checked = np.zeros(len(rows), bool)
        self._codes: Codes | None = None
        self._codes_opened = False
        self._index: Index | None = None
        self._index_opened = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def name(self) -> str:
        return self.path.name

    def vectors(self, places: Places) -> Float32Array:
        """(n, dim) vectors of these rows, each one checked; `DamagedError` where one is not what was sealed."""
        new = places[~self._checked[places]]
        if len(new):
            rows = Rows(self.ids[new], self.hashes[new], self._vectors[new])
            if not np.array_equal(_records(rows)["crc"], self._crcs[new]):
                raise DamagedError(DATA)
            self._checked[new] = True
        return self._vectors[places]

    def mapped(self, places: Places | None) -> Float32Array:
        """All vectors (n, dim), mapped; those of `places`, or all, are checked (as one file, once)."""
        if places is not None:
            for low in range(0, len(places), SCAN_ROWS):
                self.vectors(places[low : low + SCAN_ROWS])
        elif not self._checked.all():
            if hashlib.sha256(self._vectors.data).hexdigest() != self._files[DATA]["sha256"]:
                raise DamagedError(DATA)
            self._checked[:] = True
        return self._vectors

    def release(self) -> None:
        """The system may have back what a look at everything has mapped; it comes again when it is needed."""
        self._map.madvise(mmap.MADV_DONTNEED)

    @property
    def has_codes(self) -> bool:
        """Segments of earlier versions have none."""
        return CODES in self._files

    def codes(self) -> Codes | None:
        """The codes, checked the first time; None where there are none, or damaged ones, or nothing reads them fast."""
        if not self._codes_opened:
            self._codes_opened = True
            compiled = loops()
            if self.has_codes and compiled is not None:
                try:
                    data = map_file(self.path / CODES, len(self), self._vectors.shape[1])
                except (OSError, ValueError):
                    return None
                if hashlib.sha256(data.data).hexdigest() == self._files[CODES]["sha256"]:
                    self._codes = over(data, len(self), self._vectors.shape[1], compiled)
        return self._codes

    def index(self) -> Index | None:
        """The index, checked and loaded the first time; None where there is none or it is damaged."""
        if not self._index_opened:
            self._index_opened = True
            if self.facts is not None:
                entry, dim = self._files[INDEX], self._vectors.shape[1]
                self._index = load(self.path / INDEX, entry["bytes"], entry["sha256"], len(self), dim)
                self.facts = self.facts if self._index is not None else None  # what is not there has no measures
        return self._index

    def check(self) -> None:
        """Every file, byte for byte; `DamagedError` names the first that differs."""
        for name, entry in self._files.items():
            if self._sha256(name) != entry["sha256"]:
                raise DamagedError(name)

    def _sha256(self, name: str) -> str:
        try:
            return sha256_of(self.path / name)
        except OSError as error:
            raise DamagedError(name) from error


def write_segment(folder: Path, model: Model, blocks: Iterable[Rows], trees: int) -> Path:
    """A new segment in `folder`, durable under its name, of rows whose ids ascend; with an index if `trees` > 0.

    Takes the memory of one block, and 32 bytes a row. A process that dies leaves a hidden folder behind.
    """
    name = secrets.token_hex(8)
    path = folder / f".{name}.tmp"
    (path / "vectors").mkdir(parents=True)
    parts: list[npt.NDArray[np.void]] = []
    columns: list[Float32Array] = []
    for block in blocks:
        records = _records(block)
        rows = np.zeros(len(records), ROW)
        for field in ("id", "hash", "crc"):
            rows[field] = records[field]
        if parts:
            ninja.extend_dir(path / "vectors", block.vectors)
        else:
            ninja.from_ndarray(path / "vectors", np.ascontiguousarray(block.vectors, "<f4")).flush()
        parts.append(rows)
        codes, beside = coded(block.vectors)
        with (path / CODES).open("ab") as file:
            file.write(codes.tobytes())
        columns.append(beside)
    with (path / CODES).open("ab") as file:
        file.write(np.concatenate(columns).tobytes())
    rows = np.concatenate(parts)
    (path / ROWS).write_bytes(rows.tobytes())
    facts = build(ninja.open_existing(path / "vectors"), path / INDEX, trees) if trees else None
    files = {each: path / each for each in (*SMALL, DATA, CODES, *([INDEX] if facts is not None else []))}
    manifest = {
        "format": FORMAT,
        "dim": model.dim,
        "fingerprint": model.fingerprint,
        "rows": len(rows),
        "index_tried": trees > 0,
        "index": asdict(facts) if facts is not None else None,
        "files": {each: {"bytes": at.stat().st_size, "sha256": sha256_of(at)} for each, at in files.items()},
    }
    (path / MANIFEST).write_bytes(canonical(manifest))
    for at in (*files.values(), path / MANIFEST):
        sync_file(at)
    sync_folder(path / "vectors")
    sync_folder(path)
    os.rename(path, folder / name)
    sync_folder(folder)
    return folder / name


def _records(rows: Rows) -> npt.NDArray[np.void]:
    """The log's records that say this."""
    record = record_of(rows.vectors.shape[1])
    return np.frombuffer(encode(KIND_ADD, rows, record), record)


def open_segment(path: Path, model: Model, manifest_sha256: str) -> Segment:
    """A segment whose manifest has this hash. `DamagedError` for anything else, `FileNotFoundError` if it is gone."""
    data = read_small(path / MANIFEST, MANIFEST_BYTES_MAX)
    if hashlib.sha256(data).hexdigest() != manifest_sha256:
        raise DamagedError(MANIFEST)
    try:
        return _opened(path, model, json.loads(data))
    except UNREADABLE as error:
        raise DamagedError(MANIFEST) from error


def _opened(path: Path, model: Model, facts: dict[str, Any]) -> Segment:
    n = facts["rows"]
    if (facts["format"], facts["dim"], facts["fingerprint"]) != (FORMAT, model.dim, model.fingerprint):
        raise DamagedError(MANIFEST)
    files, index = facts["files"], facts["index"]
    if not isinstance(n, int) or n < 1 or set(files) - {CODES} != {*SMALL, DATA, *([INDEX] if index else [])}:
        raise DamagedError(MANIFEST)
    if index and IndexFacts(**index).metric != METRIC:
        raise DamagedError(MANIFEST)
    sizes = {ROWS: n * ROW.itemsize, DATA: n * model.dim * 4, CODES: file_bytes(n, model.dim)}
    for name, entry in files.items():
        if entry["bytes"] != sizes.get(name, entry["bytes"]):
            raise DamagedError(name)
    small = {}
    for name in SMALL:
        small[name] = read_small(path / name, sizes.get(name, MANIFEST_BYTES_MAX))
        if hashlib.sha256(small[name]).hexdigest() != files[name]["sha256"]:
            raise DamagedError(name)
    if (path / DATA).stat().st_size != sizes[DATA]:
        raise DamagedError(DATA)
    rows = np.frombuffer(small[ROWS], ROW)
    if len(rows) != n or not (np.diff(rows["id"]) > 0).all():
        raise DamagedError(ROWS)
    notes = (b"float32", b"C", np.array([n, model.dim], "<u8").tobytes(), b"numpy")
    if tuple(small[name] for name in SMALL[1:]) != notes:  # before anything is made of them
        raise DamagedError(DATA)
    return Segment(path, rows, ninja.open_existing(path / "vectors"), facts)


def canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256_of(path: Path) -> str:
    """Of a file, without keeping it in memory."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while part := file.read(HASHED_BYTES):
            digest.update(part)
    return digest.hexdigest()


def read_small(path: Path, n_bytes_max: int) -> bytes:
    """A file as a whole; `DamagedError` where it is no file or longer than it may be."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > n_bytes_max:
            raise DamagedError(path.name)
        return file.read(status.st_size) or b""
