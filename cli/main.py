"""`siglip-edge`: each subcommand's module is imported when it is asked for, so that `serve` never loads torch."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import click

COMMANDS = {
    "serve": "siglip_edge.cli.serve",
    "export": "siglip_edge.cli.export",
    "prepare": "siglip_edge.cli.prepare",
    "tune": "siglip_edge.cli.tuning.tune",
    "evaluate": "siglip_edge.cli.evaluation.evaluate",
    "doctor": "siglip_edge.cli.doctor",
    "bench": "siglip_edge.cli.bench",
    "healthcheck": "siglip_edge.cli.healthcheck",
}
"""Subcommand -> module with a click command called `command`."""


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for name in COMMANDS if name != "bench" or find_spec("siglip_edge.bench")]  # of a checkout only

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command


@click.group(cls=LazyGroup)
@click.version_option(package_name="siglip-edge")
def main() -> None:
    """Embed images and texts in one space: export SigLIP models, serve them on small machines."""
