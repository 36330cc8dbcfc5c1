"""The demo for an archive keeper: a killed writer, a flipped byte, and what `emm-verify` says.

Purpose: show durability and verification on real processes and real files. Invariants: the acknowledgements are those
the parent read from the writer's pipe; the flipped byte is in a copy, the original is verified afterwards.
"""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import emm
from emm_tools.demo_stage import Result, Stage, pipe_of

WRITER = """\
import sys, numpy as np, emm
path, rng, n_commits = sys.argv[1], np.random.default_rng(int(sys.argv[2])), int(sys.argv[3])
with emm.create(path, dim=768, rank=64, key_dim=384, expand_at=0) as memory:
    for _ in range(n_commits):
        keys, values = (rng.standard_normal((4, width), np.float32) for width in (384, 768))
        lsn = memory.write(keys, values)          # returns when the commit is durable
        print(lsn, flush=True)                    # the acknowledgement
"""
REOPEN = """\
import json, sys, emm
with emm.open(sys.argv[1]) as memory:
    print(json.dumps({"lsn": memory.lsn, "replayed": memory.replayed, "digest": memory.digest}))
"""
FLIP = """\
import sys
path, offset = sys.argv[1], int(sys.argv[2])
with open(path, "r+b") as file:
    file.seek(offset)
    byte = file.read(1)[0]
    file.seek(offset)
    file.write(bytes([byte ^ 1]))
print(f"byte {offset}: {byte:08b} -> {byte ^ 1:08b}")
"""
COMMITS_MAX = 1_000_000


def keeper_part(stage: Stage, seed: int) -> Path:
    """Run both halves; returns the memory's directory."""
    stage.title("For an archive keeper: a killed writer, a flipped byte")
    memory = _killed_writer(stage, seed)
    _flipped_byte(stage, memory)
    return memory


def _killed_writer(stage: Stage, seed: int) -> Path:
    writer = stage.write_file("writer.py", WRITER)
    path = stage.folder / "keeper"
    wanted = random.SystemRandom().randint(30, 200)
    process = stage.start("python", writer, path, str(seed), str(COMMITS_MAX))
    acknowledged = 0
    with pipe_of(process) as pipe:
        for line in pipe:
            if not line.endswith(b"\n"):
                break
            acknowledged = int(line)
            if acknowledged == wanted:
                stage.say(f"(kill -9 {process.pid}, after reading acknowledgement {acknowledged} from the pipe)")
                process.send_signal(signal.SIGKILL)
    code = process.wait()
    stage.claim(
        code == -signal.SIGKILL, f"the writer was killed in the middle; it had acknowledged {acknowledged} commits"
    )
    reopen = stage.write_file("reopen.py", REOPEN)
    found = json.loads(stage.run("python", reopen, path).text)
    stage.claim(
        found["lsn"] >= acknowledged,
        f"every acknowledged commit is there: {found['lsn']} recovered ≥ {acknowledged} acknowledged, "
        f"{found['replayed']} replayed from the journal",
    )
    other = stage.folder / "uninterrupted"
    stage.say(f"\nThe same writer, not interrupted, for {found['lsn']} commits:")
    quiet = stage.start("python", writer, other, str(seed), str(found["lsn"]))
    pipe_of(quiet).read()
    stage.claim(quiet.wait() == 0, "it ended by itself")
    direct = json.loads(stage.run("python", reopen, other).text)
    stage.claim(
        direct["digest"] == found["digest"], "the recovered state is equal to the uninterrupted one, bit for bit"
    )
    stage.conclude(
        f"keeper  SIGKILL after {acknowledged} acknowledged commits: {found['lsn']} recovered, {found['replayed']} "
        f"replayed, digest equal to an uninterrupted run"
    )
    stage.run("emm", "checkpoint", path)
    return path


def _flipped_byte(stage: Stage, path: Path) -> None:
    copy = stage.folder / "damaged"
    stage.run_plain("cp", "-r", path, copy)
    found = emm.inspect(copy)
    region = next(region for region in found.regions if region.name == "M")
    row = region.n_rows // 2
    offset = region.offset + row * region.n_columns * 4 + 5
    stage.say(f"\nOne bit of row {row} of M, in the copy:")
    flip = stage.write_file("flip.py", FLIP)
    stage.run("python", flip, copy / found.snapshots[-1].name, str(offset))
    damaged = stage.run("emm-verify", copy, expect=(3, 4))
    clean = stage.run("emm-verify", path)
    _check(stage, damaged, clean, offset)


def _check(stage: Stage, damaged: Result, clean: Result, offset: int) -> None:
    meaning = {3: "damaged, fully repairable", 4: "damaged, data lost"}[damaged.exit_code]
    stage.claim(clean.exit_code == 0, "the undamaged memory is clean (exit code 0)")
    stage.claim(f"byte {offset}" in damaged.text, f"in the copy emm-verify names byte {offset}: {meaning}")
    stage.conclude(f"        one bit flipped at byte {offset} of a copy: emm-verify says {meaning}; original clean")
