"""Embeddings of the public corpora in a folder that the user has, as keys to measure with.

Purpose: synthetic keys show what they were made to show; real text decides. Invariants: a corpus that is not there is
left out; the embedder is the engine's own, fitted on all the texts; nothing is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emm_tools.exits import InputProblem

KEY_DIM = 384
_CRANFIELD = re.compile(r"<text>(.*?)</text>", re.DOTALL)
_MED = re.compile(r"^\.W\n(.*?)(?=^\.I |\Z)", re.DOTALL | re.MULTILINE)


def texts_below(folder: Path) -> Iterator[str]:
    """The entries of `lab-notebook/entries.jsonl` and the abstracts of `cranfield` and `med`."""
    notebook = folder / "lab-notebook" / "entries.jsonl"
    if notebook.is_file():
        with notebook.open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                yield f"{entry['title']}\n{entry['text']}"
    for file, pattern in ((folder / "cranfield" / "cran.all.1400.xml", _CRANFIELD), (folder / "med" / "MED.ALL", _MED)):
        if file.is_file():
            yield from (found.strip() for found in pattern.findall(file.read_text(encoding="utf-8")))


def embeddings_below(folder: Path) -> npt.NDArray[np.float32]:
    """(n, 384) unit rows, one for each distinct text that the fitted model knows anything of."""
    from emm_engine.embeddings.lsa import LsaProvider

    texts = [text for text in dict.fromkeys(texts_below(folder)) if text.strip()]
    if not texts:
        raise InputProblem(f"{folder} holds none of the corpora lab-notebook, cranfield and med.")
    rows = LsaProvider().fit(texts, KEY_DIM).embed(texts)
    return np.ascontiguousarray(rows[np.linalg.norm(rows, axis=1) > 0])
