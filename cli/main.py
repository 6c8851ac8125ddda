"""`siglip-edge`: each subcommand's module is imported when it is asked for, so that `serve` never loads torch."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import click

COMMANDS = {
    "serve": "cli.serve",
    "export": "cli.export",
    "prepare": "cli.prepare",
    "tune": "cli.tune",
    "evaluate": "cli.evaluate",
    "doctor": "cli.doctor",
    "bench": "cli.bench",
}
"""Subcommand -> module with a click command called `command`."""


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for name, module in COMMANDS.items() if find_spec(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command


@click.group(cls=LazyGroup)
@click.version_option(package_name="siglip-edge")
def main() -> None:
    """Embed images and texts in one space: export SigLIP models, serve them on small machines."""
