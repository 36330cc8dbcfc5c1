"""One damaged or odd memory for every finding code, and what a check says of it: the examples of docs/findings.md.

Purpose: no code is documented that nothing produces. Each function changes the memory `chemistry` (generations 1 to
3, two segments, commits 1 to 5) in the current directory and runs a check; `python -m tests.verify.finding_examples
--write` writes the page anew.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np

import emm
from emm.codec.journal import SegmentHeader, decode_segment_header, encode_record
from emm.codec.snapshot import decode_snapshot, encode_snapshot
from emm.layout import SEGMENT_HEADER, RecordType
from emm.verify import CODES, Finding, Level, Request, Scrub, workers
from emm.verify.finding import codes_markdown
from emm.vfs.local import LocalDirectory
from spec.vectors.cell import Mlstm
from tests.verify import test_journal as journal
from tests.verify.conftest import write_some

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"
BEGIN, END = "<!-- examples: begin -->\n", "<!-- examples: end -->\n"
MEMORY = Path("chemistry")
G1, G2, G3 = (MEMORY / f"{number:016}.emm" for number in (1, 2, 3))
W1, W2 = (MEMORY / f"{number:016}.wal" for number in (1, 2))
LAST = MEMORY / f"{3:016}.wal"

Change = Callable[[], object]
EXAMPLES: dict[str, tuple[str, Change, dict[str, object]]] = {}


def example(code: str, story: str, **asked: object) -> Callable[[Change], Change]:
    def keep(change: Change) -> Change:
        EXAMPLES[code] = story, change, asked
        return change

    return keep


def make(path: Path, last: int = 4) -> None:
    with emm.create(path, dim=16, rank=16, key_dim=16, expand_at=0) as memory:
        write_some(memory, 1, 3)
        write_some(memory, 2, 2)
        memory.forget(np.ones((1, 16), np.float32))
    with emm.open(path, "a") as memory:
        write_some(memory, 3, 2)
        write_some(memory, last, 17)


def flip(path: Path, *places: int, mask: int = 0x11) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= mask
    path.write_bytes(data)


def forge(path: Path, **fields: object) -> None:
    path.write_bytes(encode_snapshot(replace(decode_snapshot(path.read_bytes()), **fields)))


def spoil(change: Callable[[object], object]) -> None:
    """The newest snapshot with another state, under valid checksums."""
    state = decode_snapshot(G3.read_bytes()).state.copy()
    change(state)
    forge(G3, state=state)


def files() -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in MEMORY.iterdir()}


def unclosed(n_writes: int = 4) -> None:
    """The memory as a writer leaves it that was killed."""
    shutil.rmtree(MEMORY)
    memory = emm.create(MEMORY, dim=16, rank=16, key_dim=16, expand_at=0)
    for seed in range(n_writes):
        write_some(memory, seed, 2)
    found = files()
    memory.close()
    shutil.rmtree(MEMORY)
    MEMORY.mkdir()
    for name, data in found.items():
        (MEMORY / name).write_bytes(data)


def seen_before(change: Change) -> None:
    """An earlier check with the ledger, then the change."""
    list(Scrub(Request((str(MEMORY),), ledger=Path("ledger"))).run())
    change()


LEDGER = {"ledger": Path("ledger")}
REPLICA = {"against": "replica"}

example("missing", "a name that leads nowhere")(lambda: shutil.rmtree(MEMORY))
example("not-emm", "a letter that is called like a snapshot", urls=("letter.emm",))(
    lambda: Path("letter.emm").write_text("Dear Sir")
)
example("wrong-location", "a URL of a kind that nobody knows", urls=("nosuch://x",))(lambda: None)
example("over-limit", "a state larger than this process allows", state_bytes_max=1000)(lambda: None)
example("wrong-name", "generation 3 copied over generation 2")(lambda: shutil.copy(G3, G2))
example("generation-missing", "generation 2 deleted")(G2.unlink)
example("header-damaged", "a byte of the header flipped")(lambda: flip(G3, 40))
example("head-damaged", "a byte of the integrity table flipped")(lambda: flip(G3, 300))
example("mirror-damaged", "a byte of the mirror flipped")(lambda: flip(G3, G3.stat().st_size - 200))
example("truncated", "the last 50,000 bytes cut off")(lambda: os.truncate(G3, G3.stat().st_size - 50000))
example("trailing-bytes", "a line appended")(lambda: G3.open("ab").write(b"hello\n"))
example("block-damaged", "two bytes of M flipped")(lambda: flip(G3, 5000, 5003))
example("payload-invalid", "a padding byte that is not zero, under valid checksums")(
    lambda: G3.write_bytes(journal_padding(G3.read_bytes()))
)
example("segment-missing", "the second segment deleted")(W2.unlink)
example("segment-header-damaged", "a byte of a segment's header flipped")(lambda: flip(W2, 60))
example("record-damaged", "a byte of commit 4 flipped")(lambda: flip(W2, SEGMENT_HEADER.size + 50))
example("commits-missing", "the second segment cut after commit 4")(
    lambda: os.truncate(W2, journal.commits(files(), W2.name)[0].end)
)
example("seal-missing", "the seal cut off")(lambda: os.truncate(W2, journal.commits(files(), W2.name)[-1].end))
example("chain-broken", "a value of commit 4 changed together with its CRC")(
    lambda: W2.write_bytes(journal.edited(files(), W2.name, 4))
)
example("unsealed-tail", "a writer at work, or killed")(unclosed)
example("not-finite", "NaN in M, under valid checksums", level=Level.NUMERIC)(
    lambda: spoil(lambda state: state.matrix.__setitem__((3, 5), np.nan))
)
example("gain-not-symmetric", "one element of P̄ changed, under valid checksums", level=Level.NUMERIC)(
    lambda: spoil(lambda state: state.gain.pbar.__setitem__((7, 4), np.float32(0.5)))
)
example("gain-out-of-bounds", "a diagonal element of P̄ of 70, under valid checksums", level=Level.NUMERIC)(
    lambda: spoil(lambda state: state.gain.pbar.__setitem__((6, 6), np.float32(70.0)))
)
example("replay-differs", "one number of M changed, under valid checksums", level=Level.REPLAY)(
    lambda: spoil(lambda state: state.matrix.__setitem__((0, 0), np.float32(1.0)))
)
example("other-file", "a copy of a snapshot beside the memory")(lambda: shutil.copy(G1, MEMORY / "copy.emm"))
example("sha256-differs", "another file than was expected", urls=(str(G3),), sha256="0" * 64)(lambda: None)
example("rolled-back", "an older copy put in the place of the memory", **LEDGER)(
    lambda: (shutil.copytree(MEMORY, "older"), grow(), seen_before(lambda: swap("older")))
)
example("history-replaced", "a fork of the memory put in its place", **LEDGER)(
    lambda: (shutil.copytree(MEMORY, "fork"), grow(), seen_before(lambda: (swap("fork"), grow(8), grow(9))))
)
example("memory-replaced", "another memory put in its place", **LEDGER)(
    lambda: seen_before(lambda: (shutil.rmtree(MEMORY), make(MEMORY)))
)
example("memory-gone", "a memory of the archive deleted", urls=(".",), ledger=Path("../ledger"))(
    lambda: (
        make(Path("biology")),
        list(Scrub(Request((".",), ledger=Path("../ledger"))).run()),
        shutil.rmtree("biology"),
    )
)
example("replica-equal", "a copy", **REPLICA)(lambda: shutil.copytree(MEMORY, "replica"))
example("replica-behind", "a copy, and one commit more", **REPLICA)(
    lambda: (shutil.copytree(MEMORY, "replica"), grow())
)
example("replica-ahead", "the copy has one commit more", **REPLICA)(
    lambda: (shutil.copytree(MEMORY, "replica"), grow(path=Path("replica")))
)
example("replica-diverged", "each of both has a commit of its own", **REPLICA)(
    lambda: (shutil.copytree(MEMORY, "replica"), grow(), grow(8, Path("replica")))
)
example("replica-foreign", "another memory", **REPLICA)(lambda: make(Path("replica")))
example("replica-missing", "no copy", **REPLICA)(lambda: None)
example("replica-differs", "a byte of the copy flipped", **REPLICA)(
    lambda: (shutil.copytree(MEMORY, "replica"), flip(Path("replica") / G3.name, 5000))
)


def grow(seed: int = 7, path: Path = MEMORY) -> None:
    with emm.open(path, "a") as memory:
        write_some(memory, seed, 2)


def swap(other: str) -> None:
    shutil.rmtree(MEMORY)
    shutil.move(other, MEMORY)


def journal_padding(data: bytes) -> bytes:
    """The snapshot with a padding byte of 1, and the checksums that belong to it."""
    from emm.codec.integrity import hash_payload
    from emm.codec.payload import encode_payload
    from emm.codec.snapshot import encode_head

    snapshot = decode_snapshot(data)
    payload = encode_payload(snapshot.state)
    payload[-1] = 1
    head, mirror = encode_head(snapshot, hash_payload(payload))
    return head + payload + mirror


@example("unsupported", "a record of a type that a newer writer may log")
def _unsupported() -> None:
    unclosed()
    uuid = journal.uuid_of(files())
    header = bytearray(encode_record(RecordType.SEAL, 4, 4, b"", uuid)[:28])
    header[4] = 99
    header += zlib.crc32(bytes(header)).to_bytes(4, "little")
    record = bytes(header) + bytes(4)
    with W1.open("ab") as segment:
        segment.write(record + zlib.crc32(record, zlib.crc32(uuid)).to_bytes(4, "little"))


@example("foreign-file", "generation 2 of another memory")
def _foreign() -> None:
    make(Path("biology"))
    shutil.copy(Path("biology") / G2.name, G2)


@example("log-contradicted", "a segment whose header takes back commits 2 and 3")
def _contradicted() -> None:
    header = decode_segment_header(W2.read_bytes()[: SEGMENT_HEADER.size])
    back = SegmentHeader(2, 2, 1, header.uuid, header.writer_nonce, header.chain, header.previous_bytes, 16)
    W2.write_bytes(back.encode())


@example("torn-tail", "a killed writer's last record, half written")
def _torn() -> None:
    unclosed()
    os.truncate(W1, W1.stat().st_size - 20)


@example("dead-bytes", "a torn tail, and a writer that came after")
def _dead() -> None:
    _torn()
    grow()


@example("v3-file", "a file of the predecessor", urls=("cell.v3",))
def _v3() -> None:
    cell = Mlstm(16)
    cell.write(np.ones(16, np.float32), np.ones(16, np.float32))
    Path("cell.v3").write_bytes(cell.bytes())


@example("v3-damaged", "a byte of it flipped", urls=("cell.v3",))
def _v3_damaged() -> None:
    _v3()
    flip(Path("cell.v3"), 200)


@example("replay-refused", "a first snapshot of another dim, under valid checksums", level=Level.REPLAY)
def _refused() -> None:
    unclosed()
    emm.create("narrow", dim=8, rank=16, key_dim=16, expand_at=0).close()
    narrow = decode_snapshot((Path("narrow") / G1.name).read_bytes())
    ours = decode_snapshot(G1.read_bytes())
    G1.write_bytes(encode_snapshot(replace(narrow, uuid=ours.uuid, lineage=ours.lineage)))


example("replay-not-possible", "the second segment deleted", level=Level.REPLAY)(W2.unlink)


@example("not-regular", "the newest snapshot is a link to a file elsewhere")
def _linked() -> None:
    shutil.move(G3, "elsewhere")
    G3.symlink_to(Path("elsewhere").absolute())


@example("replica-unknown", "a copy whose journal is pruned, and a rollback of this", **REPLICA)
def _unknown() -> None:
    shutil.copytree(MEMORY, "replica")
    grow(path=Path("replica"))
    with emm.open("replica", "a") as memory:
        memory.prune(keep=1, journal=True)


class _Failing(LocalDirectory):
    """A disk with a bad sector in the newest snapshot."""

    def read_ranges(self, name, ranges):
        if name == G3.name and any(start <= 5000 < start + length for start, length in ranges):
            raise emm.StorageError("cannot read: Input/output error", file=f"{self.url}/{name}")
        return super().read_ranges(name, ranges)


class _Vanishing(LocalDirectory):
    """Somebody deletes the newest snapshot while it is read."""

    def read_ranges(self, name, ranges):
        if name == G3.name and any(start > 4095 for start, _ in ranges):
            shutil.rmtree(self.path, ignore_errors=True)
        return super().read_ranges(name, ranges)


def with_directory(kind: type[LocalDirectory]) -> Change:
    def change() -> None:
        from emm.verify import target

        target.open_directory = kind

    return change


example("unreadable", "a bad sector")(with_directory(_Failing))
example("changed-while-reading", "the memory is deleted while it is read")(with_directory(_Vanishing))


@example("not-checked", "the process that checks it is killed", jobs=2)
def _killed() -> None:
    def dying(task, options):
        os.kill(os.getpid(), 9)

    workers.check_task = dying


@example("reading-differs", "a controller that flips bits now and then", paranoid=True)
def _moody() -> None:
    from emm.verify.blocks import BlockReader

    batch, calls = BlockReader._batch, []

    def moody(self, indices):
        calls.append(1)
        wrong = replace(self, table=[replace(each, crc32=each.crc32 ^ 1) for each in self.table])
        return batch(wrong if len(calls) == 3 else self, indices)

    BlockReader._batch = moody


# --- the page ---------------------------------------------------------------------------------------


def produced(code: str, template: Path) -> list[Finding]:
    """All findings of the example of a code; what it replaced in the library is put back."""
    from emm.verify import target
    from emm.verify.blocks import BlockReader

    _, change, asked = EXAMPLES[code]
    kept = target.open_directory, workers.check_task, BlockReader._batch
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(template, Path(place) / "archive" / MEMORY)
        with chdir(Path(place) / "archive"):
            try:
                change()
                request = replace(Request((str(MEMORY),)), **asked)
                return [each for found in Scrub(request).run() for each in found.findings]
            finally:
                target.open_directory, workers.check_task, BlockReader._batch = kept


def page() -> str:
    """docs/findings.md as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    lines = []
    with tempfile.TemporaryDirectory() as place:
        make(Path(place) / "template")
        for code in CODES:
            found = [each for each in produced(code, Path(place) / "template") if each.code == code]
            assert found, f"the example of {code} does not produce it"
            shown = re.sub(r"\(/\S*/archive/", "(", str(found[0]))  # the ledger knows places by their absolute path
            lines += [f"- {EXAMPLES[code][0]}:", "", f"      {shown}", ""]
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    head, _, _ = after.partition("| code | severity")
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{head}{codes_markdown()}"


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    PAGE.write_text(page(), encoding="utf-8")
