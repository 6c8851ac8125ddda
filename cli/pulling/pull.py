"""`siglip-edge pull`: fetches a model directory that is ready."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from siglip_edge.cli.model_options import settings_with
from siglip_edge.cli.paths import GivenPath
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision
from siglip_edge.runtime.errors import SiglipEdgeError


@click.command("pull")
@click.argument("source", metavar="SOURCE")
@click.option(
    "-o",
    "--output",
    type=GivenPath(file_okay=False, path_type=Path),
    help="Folder to put the model directory in.  [default: MODELS_DIR]",
)
@click.option("--name", help="The model directory's name.  [default: the last part of SOURCE]")
@click.option("--revision", help="Branch, tag or commit of a hub's repository.  [default: main]")
@click.option("--precision", help="Comma-separated: only these of int8, int4, fp16, fp32.  [default: all]")
@click.option("--overwrite", is_flag=True, help="Replace an existing model directory, once the new one is whole.")
def command(  # noqa: PLR0917 - click passes by name
    source: str, output: Path | None, name: str | None, revision: str | None, precision: str | None, overwrite: bool
) -> None:
    """Fetch SOURCE, a model directory in a hub's repository (OWNER/NAME) or at a URL, file by file.

    Every file is compared with its SHA-256 in manifest.json. A pull that was stopped continues where it was; the model
    directory appears when it is whole. HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and other variables of huggingface_hub
    count. `siglip-edge export` makes a model directory from a checkpoint.
    """
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # else each of its attempts is a paragraph
    if not sys.stderr.isatty():  # read by huggingface_hub when it is imported
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from siglip_edge.cli.pulling.download import Order, pull
    from siglip_edge.cli.pulling.sources import name_of, source_of

    folder, chosen = output or settings_with().models_dir, _precisions(precision)
    target = folder / _directory_name(name or name_of(source), source)
    try:
        order = Order(source=source_of(source, revision), target=target, precisions=chosen, overwrite=overwrite)
        manifest = pull(order, lambda line: click.echo(line, err=True))
    except SiglipEdgeError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Interrupted; the same command continues where it stopped.", err=True)
        sys.exit(130)
    click.echo(_summary(target, manifest))


def _precisions(text: str | None) -> list[Precision]:
    try:
        return [Precision(word.strip()) for word in text.split(",")] if text is not None else []
    except ValueError:
        known = ", ".join(Precision)
        message = f"{text!r} is not known; give a comma-separated list of {known}"
        raise click.BadParameter(message, param_hint="--precision") from None


def _directory_name(name: str, source: str) -> str:
    if not name and source:
        raise click.UsageError(f"{source} has no last part that names a directory; pass --name")
    if Path(name).name != name or name.startswith("."):
        raise click.BadParameter(f"{name!r} is not a name for a directory", param_hint="--name")
    return name


def _summary(directory: Path, manifest: Manifest) -> str:
    size = sum(record.size for record in manifest.files()) / 1e6
    what = f"{manifest.dimensions} dimensions, {', '.join(manifest.precisions())}, {size:.1f} MB"
    return f"{directory}: {what}, space {manifest.space_id}; serve it: siglip-edge serve {_served_name(directory)}"


def _served_name(directory: Path) -> str:
    """The name in MODELS_DIR where that leads to the directory, else the path."""
    settings = replace(settings_with(), model=Path(directory.name), models=(), model_is_set=True)
    (found,) = settings.named_models.values()
    return directory.name if found == directory else str(directory)
