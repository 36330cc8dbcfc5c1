"""Every directory that a power cut at this moment could leave.

Purpose: from what a simulated disk knows to be durable and to be pending, build the images a reader may find
afterwards. Data that was not synced survives sector by sector in any combination; a sector may tear; the size of a
file may be durable before its data; a name may or may not have come or gone. Invariants:

- Bytes that were synced are never touched, also not by a torn write beside them (powersafe overwrite).
- Files without a name that `list` shows make no difference, so what is pending for them is left out.
- A `Spec` is data and gives the same image again. How many images were thought of (raw), how many of them come from
  a point where all subsets were tried (exhaustive), from a choice (sampled), or hold a torn sector is counted apart.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from emm.vfs import names
from emm_fuzz.simulated_disk import ROOT, Rename, SimulatedDisk, overlay, rename

SECTORS: Final = (512, 4096)
FILLS: Final = ("short", "zeros", "garbage")  # what a file holds where data was lost before its size

is_name = lru_cache(maxsize=4096)(names.is_name)

Image = Mapping[str, bytes] | None  # names and bytes of the memory directory; None: it is not there


class Tear(NamedTuple):
    """Unit `unit` arrives up to byte `at`; the rest is what was there before, zeros or garbage."""

    unit: int
    at: int
    kind: str  # short, zeros, garbage


class Spec(NamedTuple):
    """Which crash image of a point: bit k of `kept` says that unit k survived."""

    sector: int
    kept: int
    fill: str = "short"
    tear: Tear | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much to try at one point, and in one workload."""

    subsets_max: int = 256  # all subsets while there are no more than that
    samples: int = 24  # else prefixes, drops and so many seeded choices
    tears_per_unit: int = 6
    units_max: int = 64  # prefixes that end, units that are dropped, and units that tear: of so many, spread evenly
    states_max: int = 20_000  # judged in one workload, in first and in nested crashes each

    def __post_init__(self) -> None:
        assert self.subsets_max >= 1 and self.units_max >= 2


QUICK: Final = Bounds(64, 12, 4, 32)
LIGHT: Final = Bounds(16, 4, 1, 16)
THOROUGH: Final = Bounds(1024, 64, 24, 256, 200_000)


class Part(NamedTuple):
    """Pending bytes of one sector of one file."""

    step: int
    inode: int
    offset: int
    data: bytes


class Entry(NamedTuple):
    """A pending name of one directory."""

    step: int
    folder: int
    change: Rename


@dataclass(slots=True)
class CrashPoint:
    """What one moment of a disk could become; taken before the disk goes on."""

    path: str
    durable_entries: dict[int, dict[str, int]] = field(default_factory=dict)
    durable_bytes: dict[int, bytes] = field(default_factory=dict)
    full_size: dict[int, int] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    parts: dict[int, list[Part]] = field(default_factory=dict)  # by sector size

    @classmethod
    def of(cls, disk: SimulatedDisk, path: str) -> CrashPoint:
        point = cls(path, parts={sector: [] for sector in SECTORS})
        inodes: set[int] = set()
        for number, folder in disk.folders.items():
            point.durable_entries[number] = dict(folder.durable)
            point.entries += [Entry(each.step, number, each) for each in folder.pending if is_name(each.name)]
            inodes.update(inode for name, inode in folder.durable.items() if is_name(name))
            inodes.update(each.inode for each in folder.pending if is_name(each.name))
        point.entries.sort()
        for number, file in disk.files.items():
            if number not in inodes:
                continue
            point.durable_bytes[number] = file.durable
            point.full_size[number] = max([len(file.durable), *(o + len(data) for _, o, data in file.pending)])
            for step, offset, data in file.pending:
                for sector in SECTORS:
                    point.parts[sector] += _sectors(step, number, offset, data, sector)
        return point

    def units(self, sector: int) -> Sequence[Part | Entry]:
        return sorted([*self.parts[sector], *self.entries], key=lambda unit: unit.step)

    def build(self, spec: Spec, units: Sequence[Part | Entry] | None = None) -> Image:
        """The directory of one crash image."""
        entries = {number: dict(names) for number, names in self.durable_entries.items()}
        kept: dict[int, list[tuple[int, int, bytes]]] = {}
        for index, unit in enumerate(self.units(spec.sector) if units is None else units):
            torn = spec.tear is not None and spec.tear.unit == index
            if not (spec.kept >> index & 1 or torn):
                continue
            if isinstance(unit, Entry):
                rename(entries[unit.folder], unit.change)
            else:
                data = _torn(unit, spec.tear) if torn and spec.tear is not None else unit.data
                kept.setdefault(unit.inode, []).append((unit.step, unit.offset, data))
        folder = ROOT
        for part in self.path.strip("/").split("/"):
            if part not in entries.get(folder, ()):
                return None
            folder = entries[folder][part]
        return {
            name: self._bytes(inode, kept.get(inode, []), spec.fill)
            for name, inode in sorted(entries[folder].items())
            if is_name(name)
        }

    def build_visible(self) -> Image:
        """What processes see: everything pending kept."""
        units = self.units(SECTORS[0])
        return self.build(Spec(SECTORS[0], (1 << len(units)) - 1), units)

    def _bytes(self, inode: int, kept: list[tuple[int, int, bytes]], fill: str) -> bytes:
        durable = self.durable_bytes[inode]
        if fill == "garbage" and self.full_size[inode] > len(durable):
            missing = _garbage(self.full_size[inode] - len(durable))
            return overlay(durable + missing, kept)
        size = 0 if fill == "short" else self.full_size[inode]
        return overlay(durable, kept, size) if kept or size > len(durable) else durable


def _sectors(step: int, inode: int, offset: int, data: bytes, sector: int) -> Iterator[Part]:
    start = 0
    while start < len(data):
        end = min(len(data), start + sector - (offset + start) % sector)
        yield Part(step, inode, offset + start, data[start:end])
        start = end


def _torn(unit: Part, tear: Tear) -> bytes:
    rest = len(unit.data) - tear.at
    tail = {"short": b"", "zeros": bytes(rest), "garbage": _garbage(rest)}[tear.kind]
    return unit.data[: tear.at] + tail


@lru_cache(maxsize=512)
def _garbage(length: int) -> bytes:
    """Bytes that mean nothing, the same at every run."""
    return np.random.default_rng([length, 0x6A6B]).bytes(length)


# --- which images ---------------------------------------------------------------------------------


class Chosen(NamedTuple):
    """An image to try, and why: exhaustive, sampled or torn."""

    spec: Spec
    image: Image
    why: str
    left_out: int = 0  # with the first image of a point: systematic choices that `Bounds.units_max` left out


def images(point: CrashPoint, bounds: Bounds, seed: int) -> Iterator[Chosen]:
    """The images of a point, with repetitions; the first is the one in which nothing pending survived."""
    previous: Sequence[Part | Entry] = ()
    for sector in SECTORS:
        units = point.units(sector)
        if sector != SECTORS[0] and list(units) == list(previous):
            break  # writes within one small sector: the same units again
        previous = units
        everything = (1 << len(units)) - 1
        exhaustive = everything < bounds.subsets_max
        why = "exhaustive" if exhaustive else "sampled"
        grown = any(isinstance(unit, Part) for unit in units)
        left_out = _left_out(units, bounds, exhaustive)
        for kept in range(everything + 1) if exhaustive else _choice(len(units), bounds, seed):
            for fill in FILLS if grown and kept != everything else FILLS[:1]:
                spec = Spec(sector, kept, fill)
                yield Chosen(spec, point.build(spec, units), why, left_out)
                left_out = 0
        for spec in _tears(units, sector, bounds, seed):
            yield Chosen(spec, point.build(spec, units), "torn")


def _spread(count: int, most: int) -> list[int]:
    """Up to `most` of the first `count` numbers, evenly, with both ends."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


def _choice(n_units: int, bounds: Bounds, seed: int) -> Iterator[int]:
    """Nothing, prefixes, all but one, all but two, and seeded subsets."""
    everything = (1 << n_units) - 1
    yield 0
    for last in _spread(n_units, bounds.units_max):
        yield (2 << last) - 1
    for unit in _spread(n_units, bounds.units_max):
        yield everything & ~(1 << unit)
    stride = 1 + math.comb(n_units, 2) // (2 * bounds.samples)
    for first, second in itertools.islice(itertools.combinations(range(n_units), 2), 0, None, stride):
        yield everything & ~(1 << first | 1 << second)
    random = np.random.default_rng([seed, n_units])
    for _ in range(bounds.samples):
        yield int.from_bytes(random.bytes(1 + n_units // 8), "little") & everything


def _can_tear(unit: Part | Entry) -> bool:
    return isinstance(unit, Part) and len(unit.data) >= 2


def _left_out(units: Sequence[Part | Entry], bounds: Bounds, exhaustive: bool) -> int:
    """Prefixes, single and pair drops, and units to tear that were not tried."""
    tears = max(0, sum(map(_can_tear, units)) - bounds.units_max)
    if exhaustive:
        return tears
    pairs = math.comb(len(units), 2)
    tried = len(range(0, pairs, 1 + pairs // (2 * bounds.samples)))
    return 2 * max(0, len(units) - bounds.units_max) + pairs - tried + tears


def _tears(units: Sequence[Part | Entry], sector: int, bounds: Bounds, seed: int) -> Iterator[Spec]:
    everything = (1 << len(units)) - 1
    whole = [(index, unit) for index, unit in enumerate(units) if isinstance(unit, Part) and _can_tear(unit)]
    for index, unit in (whole[number] for number in _spread(len(whole), bounds.units_max)):
        for at in _places(len(unit.data), bounds.tears_per_unit, seed + index):
            for kept in dict.fromkeys(((1 << index) - 1, everything & ~(1 << index))):
                for kind in FILLS:
                    yield Spec(sector, kept, "short", Tear(index, at, kind))


def _places(length: int, count: int, seed: int) -> list[int]:
    """Bytes at which to tear, `count` or all there are: the middle, then the ends, then seeded ones."""
    fixed = [at for at in dict.fromkeys((length // 2, length - 1, 1, 8, 32)) if 0 < at < length][:count]
    if len(fixed) == min(count, length - 1):
        return fixed
    drawn = np.random.default_rng([seed, length]).permutation(length - 1) + 1
    return list(dict.fromkeys([*fixed, *map(int, drawn)]))[:count]


def image_hash(image: Image) -> bytes:
    """Equal for images that no reader can tell apart."""
    if image is None:
        return b"absent"
    found = hashlib.blake2b(digest_size=16)
    for name, data in image.items():
        found.update(name.encode() + b"\0" + _digest(data))
    return found.digest()


@lru_cache(maxsize=1024)
def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
