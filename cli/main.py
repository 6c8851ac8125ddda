"""`siglip-edge`: imports a subcommand's module only when the subcommand runs, so that `serve` never loads torch."""

from __future__ import annotations

import errno
import importlib
import io
import sys
from importlib.util import find_spec
from typing import Any, NamedTuple

import click


class Entry(NamedTuple):
    """A subcommand."""

    module: str
    """Name of the module that defines the click command `command`."""
    summary: str
    """The subcommand's line in `siglip-edge --help`, which imports no subcommand."""


COMMANDS = {
    "export": Entry("siglip_edge.cli.export", "Turn a checkpoint into a model directory."),
    "pull": Entry("siglip_edge.cli.pulling.pull", "Fetch a model directory that is ready, from a hub or a URL."),
    "models": Entry("siglip_edge.cli.models", "List checkpoints by size, memory, speed and quality."),
    "serve": Entry("siglip_edge.cli.serve", "Serve a model directory over HTTP."),
    "evaluate": Entry("siglip_edge.cli.evaluation.evaluate", "Compare the accuracy, speed and memory of models."),
    "tune": Entry("siglip_edge.cli.tuning.tune", "Find the fastest settings for a model on this machine."),
    "doctor": Entry("siglip_edge.cli.doctor", "Check that a model gives correct embeddings on this machine."),
    "upgrade": Entry("siglip_edge.cli.upgrade", "Rewrite an older model directory's manifest in the newest format."),
    "prepare": Entry("siglip_edge.cli.prepare", "Pack a model for this machine, so that servers start faster."),
    "bench": Entry("siglip_edge.cli.bench", "Measure a model's server beside other servers."),
    "healthcheck": Entry("siglip_edge.cli.healthcheck", "Exit with status 0 when the server on this machine is ready."),
}

EXTRAS = {"onnxruntime": "cpu", "fastapi": "bench", "httptools": "bench", "uvicorn": "bench"} | dict.fromkeys(
    ("matplotlib", "onnx", "optimum", "safetensors", "sentencepiece", "torch", "tqdm", "transformers"), "export"
)
"""Library that a command may need -> the extra in pyproject.toml that installs it."""


class LazyGroup(click.Group):
    """A group of commands that are imported when they run."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line. What the terminal's encoding lacks, such as bytes of a file name, is shown escaped."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for name in COMMANDS if name != "bench" or _is_checkout()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        if cmd_name == "bench" and not _is_checkout():
            raise click.ClickException("bench needs a checkout of the project: run `make bench` there")
        command: click.Command = importlib.import_module(COMMANDS[cmd_name].module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A missing library, or a file that cannot be read or written, is one sentence."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            library = (error.name or "").partition(".")[0]
            if library not in EXTRAS:
                raise
            message = f"{library} is not installed; pip install 'siglip-edge[{EXTRAS[library]}]'"
            raise click.ClickException(message) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of the output went away, which click ends quietly
                raise
            raise click.ClickException(_sentence(error)) from error


def _sentence(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _is_checkout() -> bool:
    return find_spec("siglip_edge.bench") is not None


@click.group(cls=LazyGroup)
@click.version_option(package_name="siglip-edge")
def main() -> None:
    """Embed images and texts: export SigLIP, NaFlex, CLIP and text models, serve them on small machines."""
