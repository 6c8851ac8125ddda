"""`siglip-edge export`: turns a checkpoint into a model directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import click

from siglip_edge.cli.paths import FILE, FOLDER, GivenPath
from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.errors import SiglipEdgeError


@click.command("export")
@click.argument("source", type=GivenPath())
@click.option(
    "-o",
    "--output",
    type=GivenPath(file_okay=False, path_type=Path),
    required=True,
    help="Folder to put the model directory in.",
)
@click.option("--name", help="The model directory's name.  [default: the last part of SOURCE]")
@click.option("--precision", default="int8,fp16", show_default=True, help="Comma-separated: int8, int4, fp16, fp32.")
@click.option(
    "--calibration-images",
    type=FOLDER,
    help="Folder of pictures that resemble the pictures to be served.  [default: calibration/ beside a local SOURCE]",
)
@click.option(
    "--calibration-texts",
    type=FILE,
    help="UTF-8 file, one text per line.  [default: calibration/texts.txt beside a local SOURCE, else a shipped set]",
)
@click.option(
    "--ranges",
    type=click.Choice(["searched", "min-max"]),
    default="searched",
    show_default=True,
    help="How INT8 ranges are chosen. min-max: without the search, for comparison.",
)
@click.option(
    "--zero-shot-template",
    help="Sentence around a label in /v1/classify; {} stands for the label.  [default: the family's own]",
)
@click.option("--from-onnx", is_flag=True, help="Read onnx/model.onnx of a text encoder, not its weights; no PyTorch.")
@click.option("--report/--no-report", default=True, help="Measure the result and write report.html and report.json.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model directory, once the new one is whole.")
def command(  # noqa: PLR0917 - click passes by name
    source: str,
    output: Path,
    name: str | None,
    precision: str,
    calibration_images: Path | None,
    calibration_texts: Path | None,
    ranges: str,
    zero_shot_template: str | None,
    from_onnx: bool,
    report: bool,
    overwrite: bool,
) -> None:
    """Turn SOURCE, a checkpoint (hub id or local directory), into verified ONNX towers."""
    if zero_shot_template is not None and "{}" not in zero_shot_template:
        message = f"{zero_shot_template!r} has no {{}}, which stands for the label"
        raise click.BadParameter(message, param_hint="--zero-shot-template")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # else each of its attempts is a paragraph
    if not sys.stderr.isatty():  # read by huggingface_hub when it is imported
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from siglip_edge.exporter.export import Order, export
    except ImportError as error:
        raise click.ClickException(f"{error.name} is not installed; pip install 'siglip-edge[export]'") from error
    order = Order(
        source=source,
        output=output,
        name=name,
        precisions=_precisions(precision),
        calibration_images=calibration_images,
        calibration_texts=calibration_texts,
        ranges=ranges,
        zero_shot_template=zero_shot_template,
        from_onnx=from_onnx,
        report=report,
        overwrite=overwrite,
    )
    try:
        directory = export(order, _progress)
    except SiglipEdgeError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:  # for example a full disk
        raise click.ClickException(f"{output}: {error.strerror or error}; nothing was written") from error
    except KeyboardInterrupt:
        click.echo("Interrupted; nothing was written.", err=True)
        sys.exit(130)
    click.echo(_summary(directory))


def _precisions(text: str) -> list[Precision]:
    known = ", ".join(Precision)
    try:
        return [Precision(word.strip()) for word in text.split(",")]
    except ValueError as error:
        message = f"{text!r} is not known; give a comma-separated list of {known}"
        raise click.BadParameter(message, param_hint="--precision") from error


def _progress(items: Iterable[Any], what: str) -> Iterable[Any]:
    """A progress bar on a terminal; elsewhere, as in a log file, one line per step."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(items, desc=what, leave=True, file=sys.stderr)
    click.echo(what, err=True)
    return items


def _summary(directory: Path) -> str:
    from siglip_edge.runtime.artifacts.manifest import Manifest

    manifest = Manifest.load(directory)
    lines = [f"{directory}: {manifest.dimensions} dimensions, space {manifest.space_id}"]
    for tower, precision in product(manifest.tower_names, manifest.precisions()):
        artifact = manifest.artifact(tower, precision)
        size, cosine = sum(record.size for record in artifact.files) / 1e6, artifact.fidelity
        lines.append(
            f"  {tower:6} {precision:4} {size:7.1f} MB  "
            f"cosine to FP32: mean {cosine.mean_cosine:.5f}, worst {cosine.min_cosine:.5f} of {cosine.rows} rows; "
            f"nearest row the same: {cosine.retrieval_agreement:.0%}"
        )
    return "\n".join(lines)
