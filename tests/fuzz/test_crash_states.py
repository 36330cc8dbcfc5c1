"""Crash images are all those that a power cut may leave, and no others.

Red when a combination of sectors or names is left out, when synced bytes are touched, when a size cannot be durable
before its data, or when a spec does not give the same image again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from emm.vfs.handles import LocalAppender
from emm.vfs.local import LocalDirectory
from emm_fuzz.crash_states import FILLS, LIGHT, QUICK, Bounds, CrashPoint, Spec, Tear, image_hash, images
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted

HEAD = b"h" * 500


@pytest.fixture
def disk() -> Iterator[SimulatedDisk]:
    with mounted(SimulatedDisk()) as disk:
        yield disk


def begin(pending: bytes) -> tuple[LocalDirectory, LocalAppender]:
    """A file of 500 durable bytes with more on its way; keep both, or the file is closed."""
    directory = LocalDirectory("/m")
    directory.create()
    directory.publish("a.wal", [HEAD])
    appender = directory.open_append("a.wal")
    appender.append(pending)
    return directory, appender


def found(disk: SimulatedDisk, bounds: Bounds = QUICK) -> dict[bytes, dict[str, bytes] | None]:
    chosen = images(CrashPoint.of(disk, "/m"), bounds, seed=1)
    return {image_hash(each.image): None if each.image is None else dict(each.image) for each in chosen}


def test_every_combination_of_sectors_is_there(disk: SimulatedDisk) -> None:
    _kept = begin(bytes(range(1, 13)) + b"x" * 512)  # 12 bytes of one sector, all 512 of the next
    contents = {image["a.wal"] for image in found(disk).values() if image}
    first, second = bytes(range(1, 13)), b"x" * 512
    assert {HEAD, HEAD + first, HEAD + first + second, HEAD + bytes(12) + second} <= contents
    assert HEAD + bytes(524) in contents  # the size came first, the data never
    assert HEAD + first + bytes(512) in contents


def test_synced_bytes_are_never_touched(disk: SimulatedDisk) -> None:
    _kept = begin(b"y" * 3000)
    states = found(disk)
    assert len(states) > 50
    assert all(image is not None and image["a.wal"].startswith(HEAD) for image in states.values())
    assert max(len(image["a.wal"]) for image in states.values() if image) == 3500


def test_a_sector_tears_in_three_ways(disk: SimulatedDisk) -> None:
    _kept = begin(b"123456789")
    point = CrashPoint.of(disk, "/m")
    torn = {kind: point.build(Spec(512, 0, "short", Tear(0, 4, kind))) for kind in FILLS}
    contents = {kind: image["a.wal"][500:] for kind, image in torn.items() if image}
    assert contents["short"] == b"1234" and contents["zeros"] == b"1234" + bytes(5)
    assert contents["garbage"][:4] == b"1234" and contents["garbage"][4:] not in (bytes(5), b"56789")


def test_names_come_and_go_in_any_combination(disk: SimulatedDisk) -> None:
    """Also in another order than they were made: only the directory's sync binds them."""
    directory, _appender = begin(b"")
    folder = disk.walk("/m")
    assert folder is not None
    for name in ("b.emm", "c.emm"):
        disk.change(folder, name, disk.new_file())
    disk.change(folder, "a.wal", 0)
    names = {frozenset(image or ()) for image in found(disk).values()}
    everything = ("a.wal", "b.emm", "c.emm")
    assert names == {frozenset(each) for n in range(4) for each in itertools.combinations(everything, n)}
    directory.close()


def test_a_directory_whose_name_is_not_durable_may_be_gone(disk: SimulatedDisk) -> None:
    disk.change(1, "m", disk.new_folder())
    assert set(found(disk)) == {b"absent", image_hash({})}


def test_above_the_cap_a_choice_is_made_and_called_one(disk: SimulatedDisk) -> None:
    _kept = begin(b"z" * 512 * 12)
    point = CrashPoint.of(disk, "/m")
    whys = {each.why for each in images(point, LIGHT, seed=1) if each.spec.sector == 512}
    assert whys == {"sampled", "torn"}
    kept = {each.spec.kept for each in images(point, LIGHT, seed=1) if each.spec.sector == 512 and not each.spec.tear}
    assert {(1 << n) - 1 for n in range(14)} <= kept  # every prefix


def test_a_spec_gives_the_same_image_again(disk: SimulatedDisk) -> None:
    _kept = begin(b"w" * 2000)
    point = CrashPoint.of(disk, "/m")
    for each in images(point, QUICK, seed=3):
        assert image_hash(point.build(each.spec)) == image_hash(each.image)


def test_a_file_of_600_sectors_is_sampled_and_what_was_left_out_is_counted(disk: SimulatedDisk) -> None:
    """Prefixes and drops over the whole file, both ends among them, and no more than a point can afford."""
    _kept = begin(b"v" * 512 * 600)
    point = CrashPoint.of(disk, "/m")
    chosen = [each for each in images(point, LIGHT, seed=1) if each.spec.sector == 512]
    n_units = len(point.units(512))
    kept = {each.spec.kept for each in chosen if each.spec.tear is None}
    everything = (1 << n_units) - 1
    assert {0, 1, everything, everything >> 1, everything & ~1} <= kept
    assert len(kept) <= 2 * LIGHT.units_max + 4 * LIGHT.samples + 1
    torn = {each.spec.tear.unit for each in chosen if each.spec.tear is not None}
    assert len(torn) == LIGHT.units_max and {0, n_units - 1} <= torn
    pairs = n_units * (n_units - 1) // 2
    left_out = sum(each.left_out for each in chosen)
    assert 3 * (n_units - LIGHT.units_max) < left_out < 3 * n_units + pairs


def test_nothing_is_left_out_of_a_few_units(disk: SimulatedDisk) -> None:
    _kept = begin(b"u" * 900)
    assert sum(each.left_out for each in images(CrashPoint.of(disk, "/m"), QUICK, seed=1)) == 0


@pytest.mark.parametrize("seed", range(10))
def test_a_sector_tears_as_often_as_bounds_say_and_a_short_one_everywhere(disk: SimulatedDisk, seed: int) -> None:
    """Whatever the seed: two workloads in one situation must have as many images."""
    _kept = begin(b"1234" * 3 + b"s" * 100)  # the rest of one sector, the start of the next
    point = CrashPoint.of(disk, "/m")
    places: dict[int, set[int]] = {0: set(), 1: set()}
    for each in images(point, Bounds(64, 12, 15), seed):
        if each.spec.sector == 512 and each.spec.tear is not None:
            places[each.spec.tear.unit].add(each.spec.tear.at)
    assert places[0] == set(range(1, 12)) and len(places[1]) == 15
