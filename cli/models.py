"""`siglip-edge models`: the encoders that people run, and which of them fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from siglip_edge.cli.model_options import settings_with
from siglip_edge.runtime.artifacts.manifest import MANIFEST
from siglip_edge.runtime.known_models import table
from siglip_edge.runtime.known_models.language_codes import LANGUAGE_CODES
from siglip_edge.runtime.known_models.table import KnownModel
from siglip_edge.server.config import parsing


def _bytes(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:  # noqa: ARG001 - click's signature
    try:
        return None if value is None else parsing.size(value)
    except parsing.UnreadableValue as error:
        raise click.BadParameter(f"{value!r} cannot be read; give {error.allowed}") from None


def _language(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001 - click's signature
    code = value.partition("-")[0].lower() if value is not None else None
    if code is not None and code not in LANGUAGE_CODES:
        raise click.BadParameter(f"{value!r} is no code of a language; give two letters of ISO 639-1, as en, de or zh")
    return code


@click.command("models")
@click.option("--images", is_flag=True, help="Only models for pictures and texts.")
@click.option("--text", is_flag=True, help="Only models for texts alone.")
@click.option("--memory", callback=_bytes, help="Only models whose server needs at most this much, as 512M or 2G.")
@click.option(
    "--language",
    callback=_language,
    help="Only models that know this language: its code of two letters, as en, de or zh. Models of `many` languages "
    "are taken to know it; their cards list the languages.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(*, images: bool, text: bool, memory: int | None, language: str | None, as_json: bool) -> None:
    """List checkpoints that can be exported, with size, memory, speed and published quality.

    Without --images and --text, both kinds. docs/models.md has the same table, its sources, and advice.
    """
    if images and text:
        raise click.UsageError("--images and --text exclude each other; leave both out for all models")
    folder = settings_with().models_dir
    found = list(table.choose(images=images, text_only=text, memory=memory, language=language))
    if as_json:
        click.echo(json.dumps([_record(model, folder) for model in found], indent=2))
        return
    if not found:
        raise click.ClickException("no known model fits; `siglip-edge models` lists all")
    click.echo(_rendered([_row(model, folder) for model in found]))
    click.echo(f"\n* in {folder}   ~ estimated   images, texts: speed beside {table.measurements().base}")
    if any(model.languages == "many" for model in found):
        click.echo("many: trained on many languages, which the checkpoint's card lists")
    click.echo(f"Make one: {table.export_command('ID', folder, has_images=any(model.image for model in found))}")


_COLUMNS = ("id", "dim", "text", "image", "languages", "licence", "memory MB", "images", "texts", "published")


def _row(model: KnownModel, folder: Path) -> tuple[str, ...]:
    measured = table.measurements().models.get(model.id)
    memory = f"{table.memory_mb(model):.0f}" if measured else f"~{table.memory_mb(model):.0f}"
    speeds = (measured.images_ratio, measured.texts_ratio) if measured else (None, None)
    return (
        f"{model.id}{'*' if _is_here(model, folder) else ''}",
        str(model.dimensions),
        str(model.tokens),
        str(model.image or "-"),
        model.languages,
        model.licence,
        memory,
        *(f"{speed:.1f}x" if speed else "-" for speed in speeds),
        table.published(model) or "-",
    )


def _rendered(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(_COLUMNS, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (_COLUMNS, *rows))
    return "\n".join(line.rstrip() for line in lines)


def _record(model: KnownModel, folder: Path) -> dict[str, Any]:
    known: dict[str, Any] = msgspec.to_builtins(model)
    measured = table.measurements().models.get(model.id)
    return known | {
        "memory_mb": table.memory_mb(model),
        "measured": msgspec.to_builtins(measured),
        "present": _is_here(model, folder),
        "export": table.export_command(model.id, folder),
    }


def _is_here(model: KnownModel, folder: Path) -> bool:
    return (folder / model.id.rpartition("/")[2] / MANIFEST).is_file()
