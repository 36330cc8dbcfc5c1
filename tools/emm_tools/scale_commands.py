"""`emm scale verify | merge | learn`: what many workers can do on memories.

Purpose: thin commands over `emm_engine.scale`. Invariants: results are those of one process (`emm-verify`, `emm merge`,
`emm write`), within what each says; progress is on stderr, only on a terminal.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

import emm
from emm.verify import Severity, bytes_below, parse_level
from emm_engine.scale.learning import Like, learn_through
from emm_engine.scale.merging import Source, merge_through
from emm_engine.scale.verifying import Verifying
from emm_engine.scale.workers import Workers
from emm_tools.exits import OneSentenceGroup, counted, examples, printable
from emm_tools.pairs_input import from_files
from emm_tools.verify_command import LEVELS
from emm_tools.verify_progress import ProgressBar
from emm_tools.verify_text import summary_lines, target_lines
from emm_tools.workers_option import workers_or_two


@click.group(
    cls=OneSentenceGroup,
    epilog=examples(
        "emm scale verify labs/ --workers 4",
        "emm scale merge labs/run-* --into labs/project --workers tls://scheduler:8786",
        "emm ingest labs/archive notes/ --workers 4",
    ),
)
def scale() -> None:
    """Check, merge and learn with many processes or machines.

    Workers need the same releases of emm-format, NumPy, SciPy and scikit-learn, and see the paths that are named.
    A Dask scheduler runs whatever it is sent: connect only to one you trust, over TLS where others reach the network.
    """


@scale.command(
    "verify",
    epilog=examples(
        "emm scale verify labs/ --workers 4",
        "emm scale verify labs/ --level numeric --workers tcp://scheduler:8786 --json",
    ),
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--level", type=click.Choice(LEVELS), default="blocks", show_default=True, help="How deep.")
@click.option("--strict", is_flag=True, help="Exit 7 for an unsealed tail or incomplete coverage.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a target, and a last one with the totals.")
@click.option("-q", "--quiet", is_flag=True, help="Only targets with findings that are more than a notice.")
@workers_or_two
def verify(paths: tuple[str, ...], level: str, strict: bool, as_json: bool, quiet: bool, workers: Workers) -> int:
    """Check memories, files and trees as emm-verify does, with its totals and exit codes."""
    begun, start = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()), time.monotonic()
    bar = ProgressBar(lambda: bytes_below(paths))
    check = Verifying(workers, paths, parse_level(level), strict=strict)
    for target in check.targets():
        bar(target.url, target.coverage.bytes_read)
        if not quiet or any(each.severity is not Severity.NOTICE for each in target.findings):
            bar.clear()
            click.echo(json.dumps(target.to_dict(), sort_keys=True) if as_json else "\n".join(target_lines(target)))
    bar.end()
    if as_json:
        click.echo(json.dumps(check.totals.to_dict(), sort_keys=True))
    elif not quiet:
        click.echo("\n".join(summary_lines(check.totals, None, begun, time.monotonic() - start)))
    return check.totals.exit_code


@scale.command("merge", epilog=examples("emm scale merge labs/run-* --into labs/project --workers 4"))
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--into", required=True, type=click.Path(path_type=Path), help="The new memory; must not exist.")
@workers_or_two
def merge(sources: tuple[Path, ...], into: Path, workers: Workers) -> None:
    """Make one memory of all the pairs of all SOURCES, eight at a time and their results again.

    Up to eight it is what emm merge makes; beyond, within the same bound (about 1e-5). Any number of workers makes the
    same bits.
    """
    with merge_through(workers, [Source.at(source) for source in sources], into) as memory:
        click.echo(f"merged {counted(len(sources), 'memory', 'memories')} into {_described(into, memory)}")


@scale.command(
    "learn",
    epilog=examples(
        "emm scale learn labs/chemistry --keys keys.npy --values values.npy --rank 256 --workers 4",
    ),
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--keys", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="(n, key_dim)"
)
@click.option("--values", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="(n, dim)")
@click.option("--rank", required=True, type=click.IntRange(16), help="Columns of M, a multiple of 16; never expands.")
@click.option("--ridge", type=float, default=2.0**-6, show_default=True, help="λ, the prior's weight.")
@workers_or_two
def learn(path: Path, keys: Path, values: Path, rank: int, ridge: float, workers: Workers) -> None:
    """Make a memory of the pairs in two .npy files, each worker learning a part of them.

    Within about 1e-5 of what one process learns; the same to the bit for any number of workers. It keeps no journal of
    the pairs.
    """
    pairs = from_files(keys, values)
    assert pairs.values is not None
    like = Like(pairs.values.shape[1], rank, pairs.keys.shape[1], ridge)
    with learn_through(workers, like, pairs.keys, pairs.values, path) as memory:
        click.echo(f"learnt {counted(len(pairs.keys), 'pair')}: {_described(path, memory)}")


def _described(path: Path, memory: emm.Memory) -> str:
    return f"{printable(str(path))}: rank {memory.rank}, saturation {memory.saturation:.3f}, digest {memory.digest}"
