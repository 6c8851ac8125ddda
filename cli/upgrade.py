"""`siglip-edge upgrade`: rewrites the manifest of an older model directory in this version's format."""

from __future__ import annotations

from pathlib import Path

import click

from siglip_edge.cli.paths import FOLDER
from siglip_edge.runtime.artifacts.manifest import FORMAT_VERSION, Manifest
from siglip_edge.runtime.errors import SiglipEdgeError


@click.command("upgrade")
@click.argument("model", type=FOLDER)
def command(model: Path) -> None:
    """Rewrite the manifest of MODEL, a model directory, in the newest format. Its files and its space do not change.

    The server also reads older formats. Older versions of siglip-edge cannot read the new format.
    """
    try:
        manifest = Manifest.load(model)
        manifest.save(model)
    except SiglipEdgeError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{model}: {error.strerror or error}; the manifest is as it was") from error
    click.echo(f"{model}: manifest of format {FORMAT_VERSION}; space {manifest.space_id} as before")
