"""The `emm` command: its groups of subcommands, loaded when they are asked for.

Purpose: one table of names, so that `emm --help` is complete and `emm write` does not import scikit-learn.
Invariant: every name of `COMMANDS` is a `OneSentence` command with examples in its help.
"""

from __future__ import annotations

from importlib import import_module

import click

from emm_tools.exits import MissingExtra, OneSentenceGroup, examples
from emm_tools.version import version

COMMANDS = {
    "create": ("memory_commands", "create"),
    "write": ("memory_commands", "write"),
    "recall": ("memory_commands", "recall"),
    "unlearn": ("memory_commands", "unlearn"),
    "forget": ("forget_command", "forget"),
    "expand": ("upkeep_commands", "expand"),
    "merge": ("upkeep_commands", "merge"),
    "upgrade": ("upgrade_command", "upgrade"),
    "checkpoint": ("upkeep_commands", "checkpoint"),
    "prune": ("upkeep_commands", "prune"),
    "verify": ("verify_command", "verify_command"),
    "inspect": ("inspect_command", "inspect_command"),
    "ingest": ("ingest_command", "ingest"),
    "ask": ("engine_commands", "ask"),
    **{name: ("travel_commands", name.replace("import", "import_")) for name in ("move", "export", "import")},
    "check": ("rebuild_commands", "check"),
    "rebuild": ("rebuild_commands", "rebuild"),
    "dream": ("dream_commands", "dream"),
    "dreams": ("dream_commands", "dreams"),
    "scale": ("scale_commands", "scale"),
    **{name: ("scope_commands", name) for name in ("tree", "rollup", "close", "reopen", "domain", "settings")},
    "embed": ("embed_commands", "embed"),
    "reembed": ("embed_commands", "reembed"),
    "vectors": ("vectors_command", "vectors"),
    "bench": ("bench_commands", "bench"),
    "demo": ("demo", "demo"),
}


class LazyGroup(OneSentenceGroup):
    """Imports a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(limit=200) if command is not None else ""))
            except MissingExtra as error:
                rows.append((name, error.format_message()))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        try:
            found = getattr(import_module(f"emm_tools.{module}"), attribute)
        except ImportError as error:
            raise MissingExtra("demo", error) from error
        assert isinstance(found, click.Command)
        return found


@click.group(
    cls=LazyGroup,
    epilog=examples(
        "emm create labs/chemistry --dim 768 --rank 64 --key-dim 384",
        "emm write labs/chemistry --keys keys.npy --values values.npy",
        "emm recall labs/chemistry --keys queries.npy -o recalled.npy",
        "emm ingest labs/archive notes/ --scope chemistry/catalysis/2024",
        'emm ask labs/archive "why was the catalyst changed?"',
        "emm demo",
    ),
)
@click.version_option(version(), prog_name="emm")
def cli() -> None:
    """Matrix memory that survives: associative recall from one matrix of fixed size.

    `emm COMMAND --help` shows examples. Exit codes are in docs/exit-codes.md.
    """
