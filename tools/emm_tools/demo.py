"""`emm demo`: the main job on real input, for a lab, an author of another store and an archive keeper.

Purpose: one command that shows what EMM does by doing it. Invariants: writes only below its own folder, which it
replaces only when an earlier demo made it; all output is computed from the input; exit 0 means every claim held.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from pathlib import Path

import click
import numpy as np

import emm
from emm_engine import documents_below
from emm_tools.demo_author import author_part
from emm_tools.demo_keeper import keeper_part
from emm_tools.demo_lab import lab_part
from emm_tools.demo_stage import Stage, shown_path
from emm_tools.exits import InputProblem, OneSentence, examples

MARK = ".emm-demo"
INSPECT_LINES_MAX = 12


def fresh_folder(path: Path) -> Path:
    """An empty folder with our mark; an earlier demo's is replaced, anything else refused."""
    if path.exists():
        if not (path / MARK).is_file():
            raise InputProblem(f"{path} exists and was not made by a demo; choose another folder with --into.")
        shutil.rmtree(path)
    path.mkdir(parents=True)
    (path / MARK).touch()
    return path


def choose_kernel() -> None:
    """Compute something, so that a missing compiled kernel is said here once (`Stage.environment` keeps it at that)."""
    with tempfile.TemporaryDirectory() as folder, emm.create(f"{folder}/m", dim=1, rank=16, key_dim=16) as memory:
        memory.recall(np.zeros((1, 16), np.float32))


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm demo",
        "emm demo --docs notes/",
        'emm demo --docs notes/ --question "why was the catalyst changed?"',
        "make demo DOCS=notes/",
    ),
)
@click.option(
    "--docs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of text and Markdown [default: this machine's changelogs, or Python's documentation].",
)
@click.option("--question", "questions", multiple=True, help="Ask this instead of the built-in questions.")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    default="demo-archive",
    show_default=True,
    help="Where to write; an earlier demo there is replaced.",
)
def demo(docs: Path | None, questions: tuple[str, ...], into: Path) -> None:
    """Ingest real text, ask, learn, supersede, merge, kill a writer, flip a byte; show every command.

    Takes about a minute. The folder it writes stays, to look around in, until the next run replaces it.
    """
    if docs is not None:
        if docs.resolve().is_relative_to(into.resolve()):
            raise InputProblem(f"{docs} lies in {into}, which the demo replaces; choose another folder with --into.")
        if next(documents_below(docs), None) is None:
            raise InputProblem(f"{docs} holds no text or Markdown file.")
    os.environ.pop("EMM_CATALOG", None)  # a server is not below our folder
    stage = Stage(fresh_folder(into))
    stage.say(f"Everything is written below {stage.folder}, which each run of this demo replaces.")
    choose_kernel()
    archive, memory = lab_part(stage, docs, questions)
    seed = zlib.crc32((archive / "catalog.sqlite").read_bytes())
    author_part(stage, seed)
    keeper_part(stage, seed)
    stage.title("A picture of the lab's memory, and the archive's memories")
    picture = stage.folder / "memory.png"
    stage.run("emm-inspect", memory, "--picture", picture, lines_max=INSPECT_LINES_MAX)
    stage.run("emm-verify", archive)
    stage.say("(emm-verify checks memories: the archive's catalog, vectors and embedders are not among them)")
    stage.title(f"Summary ({stage.elapsed_s():.0f} s)")
    for line in stage.summary:
        stage.say(line)
    stage.say(f"picture {shown_path(picture)}")
    stage.say(f'folder  {stage.folder} (emm tree {archive}; emm ask {archive} "…")')
