"""Journals that are whole, or end as a crash may leave them: sealed, marked, unsealed, torn, logged again, pruned."""

from __future__ import annotations

from emm.layout import RecordType

from . import forge
from .case import CLEAN, TORN, UNSEALED, Case, Expected, Recipes
from .life import Life


def cases() -> list[Case]:
    made = Recipes()
    for part in (_segments, _unsealed, _torn, _again, _far):
        part(made)
    return made.cases


def _segments(made: Recipes) -> None:
    life = Life().write().seal().write().write().seal().write().seal()
    made.good("three-segments", "three sessions, one snapshot, three sealed segments", life)
    life = Life().write().checkpoint().write().write().checkpoint().write().seal()
    made.good("three-generations", "a checkpoint after each of two segments, and one segment after them", life)
    pruned = life.without("0000000000000001.emm", "0000000000000002.emm")
    made.opens("pruned-generations", "older generations are gone, the journal is kept", pruned, life, Expected(CLEAN))
    names = ("0000000000000001.emm", "0000000000000002.emm", "0000000000000001.wal", "0000000000000002.wal")
    pruned = life.without(*names)
    made.opens("pruned-journal", "older generations and their segments are gone", pruned, life, Expected(CLEAN))
    made.good("sealed-without-commits", "a segment that holds a seal and no commit", Life().begin().seal())
    life = Life().write().mark().write().mark().mark().seal()
    made.good("marks-between", "marks between commits, one of them twice", life)


def _unsealed(made: Recipes) -> None:
    def unsealed(name: str, shows: str, life: Life) -> None:
        end = len(life.files[life.wal])
        made.good(name, shows, life, "unsealed-tail", verdict=UNSEALED, rule="J-19", file=life.wal, offset=end)

    unsealed("unsealed", "the writer lives or was killed; the last commit is not proven", Life().write().write())
    unsealed("unsealed-marked", "a mark proves the last commit, but there is no seal", Life().write().mark())
    unsealed("unsealed-empty", "a segment that has its header and no record", Life().begin())
    unsealed("unsealed-second", "the second of two segments is not sealed", Life().write().seal().write())
    unsealed("unsealed-after-checkpoint", "a segment after the newest generation", Life().write().checkpoint().write())


def _torn(made: Recipes) -> None:
    """Every way in which a write may stop half way, behind two whole commits."""
    whole = Life().write().write()
    end = len(whole.files[whole.wal])
    longer = bytes(whole.copy().write().files[whole.wal])
    records = forge.offsets(longer)
    start, commit = records[4:6]
    kinds = {
        "header": ("inside a record's header", longer[: start + 11], "J-6"),
        "payload": ("inside a record's payload", longer[: start + 100], "J-6"),
        "trailer": ("before the last byte of a record's CRC", longer[: commit - 1], "J-6"),
        "no-commit": ("between a record and its commit", longer[:commit], "J-11"),
        "in-commit": ("inside the commit record", longer[: commit + 40], "J-6"),
        "zeros": ("a block of zeros, as a file system may leave it", longer[:start] + bytes(512), "J-6"),
        "one-byte": ("a single byte", longer[:start] + b"E", "J-6"),
        "stale": ("bytes of something else", longer[:start] + bytes(range(256)), "J-6"),
        "sector": (
            "the second sector of a record was never written",
            forge.patch(longer, 512, bytes(len(longer) - 512)),
            "J-10",
        ),
        "header-crc": ("a record header that was written in part", forge.flip(longer, start + 9, 3), "J-7"),
        "payload-bit": ("the last record's payload, its CRC fails", forge.flip(longer, start + 60, 5), "J-10"),
        "commit-bit": ("the commit's payload, its CRC fails", forge.flip(longer, commit + 50, 0), "J-10"),
    }
    if not start < 512 < commit:
        kinds.pop("sector")
    for name, (shows, data, rule) in kinds.items():
        expected = Expected(TORN, ("torn-tail",), rule, whole.wal, end)
        made.opens(f"torn-{name}", f"a torn tail: {shows}", whole.replaced(whole.wal, data), whole, expected)
    marked = whole.copy().mark()
    data = bytes(marked.files[marked.wal]) + longer[start : start + 77]
    expected = Expected(TORN, ("torn-tail",), "J-6", whole.wal, end + 40)
    made.opens("torn-after-mark", "a torn tail behind a mark", marked.replaced(marked.wal, data), marked, expected)
    first = Life().begin().append(longer[128:200])
    expected = {"codes": ("torn-tail",), "verdict": TORN, "rule": "J-6", "file": first.wal, "offset": 128}
    made.opens("torn-first", "the first record of a memory is torn", first.bytes(), first, Expected(**expected))


def _again(made: Recipes) -> None:
    made.good(
        "logged-again",
        "the unproven commit is in a new segment again (R-9)",
        Life().write().write().write().again(3).seal(),
    )
    life = Life().write().write().write().again(3).write().checkpoint().write().seal()
    made.good("logged-again-and-on", "the same, with a checkpoint and more commits behind it", life)
    life = Life().write().write()
    end = len(life.files[life.wal])
    dead = {"verdict": CLEAN, "file": life.wal, "offset": end}
    torn = life.copy()
    torn.again(2).seal().files[life.wal] += b"EMJR" + bytes(33)
    made.good(
        "dead-torn-bytes", "torn bytes of a dead writer, fenced off by previous_bytes", torn, "dead-bytes", **dead
    )
    fenced = life.copy().commit(life.copy().writing(life.pairs(1, seed=77)))
    life.again(2).write().seal()
    life.files[fenced.wal] = fenced.files[fenced.wal]
    made.good(
        "dead-commit",
        "a fenced writer logged another commit 3; the segment after it holds the one that counts",
        life,
        "dead-bytes",
        **dead,
    )
    fenced.commit(fenced.copy().writing(life.pairs(1, seed=78))).seal()
    life.files[fenced.wal] = fenced.files[fenced.wal]
    made.good(
        "dead-commits-sealed",
        "the same with a seal that says 4 was durable: past previous_bytes it proves nothing (R-11)",
        life,
        "dead-bytes",
        **dead,
    )


def _far(made: Recipes) -> None:
    far = {"lsn": 2**63 + 5, "chain": bytes(range(32)), "first_generation": 10**16 - 2, "segment": 10**16 - 3}
    life = Life(**far).write().checkpoint()
    made.good("largest-numbers", "LSN past 2⁶³, the last generation and segment numbers there are", life)
    life = Life(lsn=2**64 - 3, chain=bytes(range(32)), first_generation=2, segment=1).write().write().seal()
    made.good("last-lsn", "the journal ends at LSN 2⁶⁴ − 1", life)
    life = Life().write()
    life.log([life.threshold(1.0)], time_us=-(2**63), surprise=3.4e38)
    made.good("odd-commit", "the earliest time and the greatest surprise that a commit can state", life.seal())
    life = Life().write()
    life.append(life.record(RecordType.MARK, life.lsn, life.lsn) * 40)
    made.good("forty-marks", "an idle writer's marks", life.seal())
