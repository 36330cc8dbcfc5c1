"""`emm bench engine`: how good the engine's recall is on public collections, beside what its parts would be alone.

Purpose: one command measures, stores and prints scores; a stored run is printed again by `--from`, so a page and its
numbers cannot drift apart. Invariants: everything is measured in this run, with every embedder that is installed; one
that is not is named; targets that are missed are printed like the others.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from emm.testing.kernel_bench import about
from emm_tools.bench_engine_text import NAMES, NOTEBOOK, text_of
from emm_tools.bench_pages import replace_block
from emm_tools.bench_patterns import RANK, Embed, Floats, measure_patterns, widened
from emm_tools.bench_questions import collection
from emm_tools.bench_rankings import measure_rankings
from emm_tools.bench_scores import RESAMPLES, SEED
from emm_tools.exits import InputProblem, MissingExtra, examples

BLOCK = "emm bench engine"
LSA, MINILM = "lsa", "minilm"

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def measure(data: Path, only: Sequence[str], place: Path) -> dict[str, Any]:
    """The report of a run; archives are made below `place`, and taken from there again."""
    embedders, left_out = _embedders()
    report: dict[str, Any] = {
        "machine": about(),
        "seed": SEED,
        "resamples": RESAMPLES,
        "left_out": left_out,
        "collections": {},
    }
    for name in only:
        if name == NOTEBOOK:
            report[NOTEBOOK] = measure_patterns(data, embedders)
        else:
            corpora = collection(name, data)
            report["collections"][name] = {
                embedder: measure_rankings(name, corpora, embedder, place / f"{name}-{embedder}")
                for embedder in embedders
            }
        click.echo(f"measured: {NAMES[name]}", err=True)
    return report


def _embedders() -> tuple[dict[str, Embed], list[str]]:
    """Those that are here, as makers of keys, and why others are not."""
    from emm_engine.errors import EmbedderUnavailable

    try:
        return {LSA: _lsa_keys, MINILM: minilm_keys()}, []
    except EmbedderUnavailable as error:
        return {LSA: _lsa_keys}, [str(error)]


def minilm_keys() -> Embed:
    """Maker of MiniLM's keys, which embeds a text once; `EmbedderUnavailable` where it is not installed."""
    from emm_engine.embeddings.minilm import MiniLmEncoder

    encoder = MiniLmEncoder()
    encoder.encode(["is it here?"])
    known: dict[str, Floats] = {}

    def keys(texts: Sequence[str]) -> Floats:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, encoder.encode(new), strict=True))
        return widened(np.stack([known[text] for text in texts]))

    return lambda older, newer: (keys(older), keys(newer))


def _lsa_keys(older: Sequence[str], newer: Sequence[str]) -> tuple[Floats, Floats]:
    from emm_engine.embeddings.lsa import LsaProvider

    embedder = LsaProvider().fit(older, RANK)
    return widened(embedder.embed(older)), widened(embedder.embed(newer))


def load(path: Path) -> dict[str, Any]:
    """A stored run; refused when it does not print."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        text_of(found)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputProblem(f"{path} is not a run that --json has stored: {error}") from error
    return dict(found)


def _chosen(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(NAMES):
        raise click.UsageError(f"--only takes {', '.join(NAMES)}, parted by commas, not {text!r}.")
    return [name for name in NAMES if name in names]


@contextmanager
def _place(path: Path | None) -> Iterator[Path]:
    """Where archives are made: a folder to keep, or one that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="emm-engine-") as folder:
        place = path if path is not None else Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        yield place


@click.command(
    epilog=examples(
        "emm bench engine --data corpora/",
        "emm bench engine --data corpora/ --only cranfield,med",
        "emm bench engine --from docs/benchmarks/engine.json --write docs/benchmarks/engine.md",
    )
)
@click.option("--data", type=_FOLDER, envvar="EMM_DATA", help="Folder with the collections; EMM_DATA names it too.")
@click.option("--only", default=",".join(NAMES), show_default=True, help="Some of the collections.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path),
              help="Keep the archives here, and take them from here again.")  # fmt: skip
@click.option("--json", "store", type=_FILE, help="Store the run here.")
@click.option("--from", "stored", type=_FILE, help="Measure nothing: print a run that --json has stored.")
@click.option("--write", "page", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Put the text into this page.")  # fmt: skip
def engine(
    data: Path | None, only: str, keep: Path | None, store: Path | None, stored: Path | None, page: Path | None
) -> None:
    """How well the engine ranks, and what its matrices predict, on public collections.

    Cranfield, MED and LoCoMo are asked through archives: all recalls, each alone, and merged by reciprocal rank
    fusion. The notebook's later tags are predicted by matrices, by nearest neighbours and by the commonest. Every
    difference is called distinguishable or not by a paired bootstrap.
    """
    try:
        import sklearn  # noqa: F401

        import emm_engine  # noqa: F401
    except ImportError as error:
        raise MissingExtra("engine", error) from error
    if stored is not None:
        report = load(stored)
    elif data is None:
        raise click.UsageError("give --data FOLDER, or --from.")
    else:
        with _place(keep) as place:
            report = measure(data, _chosen(only), place)
        if store is not None:
            store.parent.mkdir(parents=True, exist_ok=True)
            store.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = text_of(report)
    click.echo(text)
    if page is not None:
        replace_block(page, BLOCK, text)
