"""Samples: what is drawn is drawn by its place and a seed, parts add up to everything, damage in the sample is seen.

Each test says which change to `emm/verify/sample.py` would turn it red.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.errors import InputError
from emm.verify import parse_sample
from tests.verify.test_report import put
from tests.verify.test_scrub import flipped, run

NAME = "0000000000000002.emm"


@given(t=st.integers(1, 40), n_blocks=st.integers(0, 300), place=st.text(max_size=8))
def test_the_parts_are_everything_and_each_block_is_in_one(t, n_blocks, place):
    """Red when rounding leaves a gap between two parts, or they overlap."""
    parts = [parse_sample(f"{n}/{t}").sample(7) for n in range(1, t + 1)]
    drawn = [index for part in parts for index in part.draws_blocks(n_blocks, place)]
    assert sorted(drawn) == list(range(n_blocks))
    assert sum(part.draws("journal", place) for part in parts) == 1


@pytest.mark.parametrize("share", [1, 5, 50, 99.9])
def test_a_share_draws_about_its_share(share):
    """Red when 5% draws 5 in 1,000, or the hash is not even."""
    drawn = len(parse_sample(f"{share}%").sample(3).draws_blocks(20000, "m", 1))
    expected = 200 * share
    assert abs(drawn - expected) <= 5 * (expected * (1 - share / 100)) ** 0.5 + 1


def test_the_same_seed_draws_the_same_and_another_does_not():
    """Red when a run cannot be repeated, or the seed has no effect."""
    wanted = parse_sample("10%")
    one, again, other = (wanted.sample(seed).draws_blocks(1000, "m", 1) for seed in (1, 1, 2))
    assert one == again != other
    assert one[:50] == wanted.sample(1).draws_blocks(500, "m", 1)[:50]  # a longer payload moves nothing


def test_a_size_becomes_a_share_of_the_whole():
    """Red when a size is taken for a number of blocks, or units are decimal."""
    sample = parse_sample("2M").sample(1, bytes_total=8 << 20)
    assert abs(len(sample.draws_blocks(20000, "m")) - 5000) < 400
    everything = parse_sample("1T").sample(1, bytes_total=8 << 20)
    assert len(everything.draws_blocks(100, "m")) == 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0%",
        "101%",
        "0/3",
        "4/3",
        "3/0",
        "-5%",
        "5 percent",
        "0",
        "1.5/3",
        "5X",
        "nan%",
        f"{'9' * 400}G",
        "1/" + "9" * 5000,
    ],
)
def test_anything_else_is_refused(text):
    """Red when a typing error reads less than a person believes, or a number of any length is turned into one."""
    with pytest.raises(InputError):
        parse_sample(text)


def test_a_sampled_check_is_incomplete_and_says_what_it_left_out(tmp_path, wide):
    """Red when a sample counts as a whole check."""
    put(tmp_path, wide)
    ((whole,), _) = run(tmp_path)
    ((sampled,), totals) = run(tmp_path, sample=parse_sample("50%"), seed=1, strict=True)
    covered = sampled.coverage
    assert covered.blocks + covered.blocks_left_out == whole.coverage.blocks and covered.blocks_left_out
    assert covered.bytes_read < whole.coverage.bytes_read and not covered.complete
    assert str(sampled.verdict) == "clean" and totals.exit_code == 7
    assert (sampled.uuid, sampled.generation) == (whole.uuid, whole.generation)


def test_every_part_together_finds_what_a_whole_check_finds(tmp_path, wide):
    """Red when a block can hide from all of n/t. What is found is judged with the whole memory read."""
    put(tmp_path, wide | {NAME: flipped(wide[NAME], 70000, 70009)})
    verdicts = []
    for n in range(1, 5):
        ((only,), totals) = run(tmp_path, sample=parse_sample(f"{n}/4"))
        verdicts.append(totals.exit_code)
        if only.findings:
            assert [(each.code, each.block) for each in only.findings] == [("block-damaged", 1)]
            assert only.findings[0].repair is not None
    assert sorted(verdicts) == [0, 0, 0, 3]
