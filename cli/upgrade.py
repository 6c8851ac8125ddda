"""`siglip-edge upgrade`: rewrites the manifest of an older model directory in this version's format."""

from __future__ import annotations

from pathlib import Path

import click
from msgspec.structs import replace

from siglip_edge.cli.paths import FOLDER
from siglip_edge.runtime.artifacts.manifest import FORMAT_VERSION, ColorProfiles, Manifest
from siglip_edge.runtime.artifacts.space_id import space_in_srgb
from siglip_edge.runtime.errors import SiglipEdgeError


@click.command("upgrade")
@click.argument("model", type=FOLDER)
@click.option(
    "--to-srgb", is_flag=True, help="Convert pictures with a colour profile to sRGB from now on: a new space."
)
def command(model: Path, *, to_srgb: bool) -> None:
    """Rewrite the manifest of MODEL, a model directory, in the newest format. Its files do not change.

    Its space does not change either, except with --to-srgb: vectors of pictures with a colour profile are others then,
    so that an index of such pictures must be built again. The server also reads older formats. Older versions of
    siglip-edge cannot read the new format.
    """
    try:
        old = Manifest.load(model)
        new = in_srgb(old) if to_srgb else old
        new.save(model)
    except SiglipEdgeError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{model}: {error.strerror or error}; the manifest is as it was") from error
    space = f"{new.space_id} as before" if new.space_id == old.space_id else f"{new.space_id}, before {old.space_id}"
    click.echo(f"{model}: manifest of format {FORMAT_VERSION}; space {space}")


def in_srgb(manifest: Manifest) -> Manifest:
    """The same model with the rule and the space of a new export. Raises ArtifactMissing without a vision tower."""
    if manifest.vision.color_profiles is ColorProfiles.TO_SRGB:
        return manifest
    vision = replace(manifest.vision, color_profiles=ColorProfiles.TO_SRGB)
    towers = replace(manifest.towers, vision=vision)
    return replace(manifest, towers=towers, space_id=space_in_srgb(manifest.space_id))
