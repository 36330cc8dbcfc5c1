"""The demo for an author of another store: a short program, shown and run.

Purpose: write, recall, supersede, unlearn, merge and digest, each with the figure that shows it. Invariant: the
figures are printed by the shown program itself; this module only reads them back to check what is claimed.
"""

from __future__ import annotations

from emm_tools.demo_stage import Stage

PROGRAM = """\
import sys

import numpy as np

import emm

folder, rng = sys.argv[1], np.random.default_rng(int(sys.argv[2]))
shape = dict(dim=768, rank=64, key_dim=384, expand_at=0)
keys = rng.standard_normal((40, 384), np.float32) / 20  # 40 keys of norm about 1
values = rng.standard_normal((40, 768), np.float32)
corrected = rng.standard_normal((1, 768), np.float32)


def cosine(a, b):
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def difference(a, b):  # relative, in the Frobenius norm
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


memory = emm.create(f"{folder}/memory", **shape)
memory.write(keys[1:], values[1:])
without = memory.matrix.copy()
memory.write(keys[:1], values[:1])
whole = memory.matrix.copy()
print("recall: cosine =", cosine(memory.recall(keys), values))

memory.unlearn(keys[:1], values[:1])
print("unlearn: relative difference =", difference(memory.matrix, without))

memory.write(keys[:1], corrected)
now = memory.recall(keys[:1])
print("supersede: cosine to old =", cosine(now, values[:1]))
print("supersede: cosine to new =", cosine(now, corrected))

left, right = (emm.create(f"{folder}/{name}", **shape) for name in ("left", "right"))
left.write(keys[:9], values[:9])
right.write(keys[9:], values[9:])
both = emm.merge([left, right], f"{folder}/both")
print("merge: relative difference =", difference(both.matrix, whole))
print("digest =", memory.digest)
"""


def author_part(stage: Stage, seed: int) -> None:
    """Show and run the program in the demo's folder, check its figures."""
    stage.title("For an author of another store: the memory as a library")
    path = stage.write_file("author.py", PROGRAM)
    folder = stage.folder / "author"
    folder.mkdir()
    result = stage.run("python", path, folder, str(seed))
    figures = dict(line.split(" = ") for line in result.text.splitlines())
    recall = float(figures["recall: cosine"])
    unlearned, merged = (float(figures[f"{what}: relative difference"]) for what in ("unlearn", "merge"))
    old, new = (float(figures[f"supersede: cosine to {which}"]) for which in ("old", "new"))
    stage.claim(recall > 0.7, f"40 pairs in a matrix of 64 columns are recalled with cosine {recall:.3f}")
    stage.claim(
        unlearned < 1e-4,
        f"unlearned as if the pair had never been written, to {unlearned:.0e} of M (Frobenius norm)",
    )
    stage.claim(
        new > 0.7 and abs(old) < 0.2, f"superseded: cosine {new:.3f} to the new value, {old:.3f} to the old one"
    )
    stage.claim(merged < 1e-4, f"two memories merged are the memory of one pass, to {merged:.0e}")
    stage.conclude(
        f"author  recall {recall:.3f}; superseded: {new:.3f} new, {old:.3f} old; "
        f"unlearn within {unlearned:.0e}, merge within {merged:.0e}"
    )
