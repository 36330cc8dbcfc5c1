"""Every command explains itself.

Red when: a command is added without examples, an example names another command, or `--help` fails or needs a package
that is not installed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from emm_tools.cli import COMMANDS, cli
from emm_tools.conformance_command import conformance_command
from emm_tools.inspect_command import inspect_command
from emm_tools.verify_command import verify_command


def walk(found: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, found
    if isinstance(found, click.Group):
        context = click.Context(found)
        for name in found.list_commands(context):
            below = found.get_command(context, name)
            assert below is not None
            yield from walk(below, (*path, name))


PROGRAMS = {
    "emm": cli,
    "emm-verify": verify_command,
    "emm-inspect": inspect_command,
    "emm-conformance": conformance_command,
}
EVERY = [each for program, found in PROGRAMS.items() for each in walk(found, (program,))]


@pytest.mark.parametrize(("path", "found"), EVERY, ids=[" ".join(path) for path, _ in EVERY])
def test_help_has_a_purpose_and_examples(path: tuple[str, ...], found: click.Command) -> None:
    program, *below = path
    ended = CliRunner().invoke(PROGRAMS[program], [*below, "--help"], prog_name=program)
    assert ended.exit_code == 0 and ended.stderr == ""
    assert found.help and found.help.strip()[0].isupper()
    _, examples = ended.stdout.split("Examples:\n")
    lines = [line.strip() for line in examples.strip().splitlines()]
    assert lines
    program_name = f"emm-{path[1]}" if path[1:2] in (("verify",), ("inspect",)) else " ".join(path)
    assert any(program_name in line for line in lines), lines
    for line in lines:
        shlex.split(line)


def test_the_table_of_commands_is_complete() -> None:
    issue = "create write recall unlearn forget expand merge checkpoint prune ingest ask bench demo"
    assert set(issue.split(" ")) <= set(COMMANDS)


def test_version(run) -> None:
    for program in ("emm", "emm-verify", "emm-inspect"):
        ended = run(program, "--version")
        assert ended.code == 0 and ended.out.startswith(f"{program}, version ")
