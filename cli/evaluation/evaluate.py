"""`siglip-edge evaluate`: compares model directories on a user's own pictures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import click

from siglip_edge.cli.evaluation.datasets import Dataset, load_dataset
from siglip_edge.cli.evaluation.measure import Measured, measure, table
from siglip_edge.cli.model_options import directory_of, plan_with, settings_with
from siglip_edge.cli.paths import PLOT, GivenPath
from siglip_edge.cli.progress import progress
from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.runtime.errors import SiglipEdgeError
from siglip_edge.server.config.settings import Settings


@click.command("evaluate")
@click.argument("models", nargs=-1, required=True, type=GivenPath())
@click.option(
    "--data",
    required=True,
    type=GivenPath(path_type=Path, exists=True),
    help="Folder with a sub-folder per class or with labels.csv (file, label); or a CSV or TSV with file and caption.",
)
@click.option(
    "--precision", default="all", show_default=True, help="all, auto, or a comma-separated list of precisions."
)
@click.option("--device", help="Device to run on: auto, cpu, cuda, openvino [DEVICE].")
@click.option("--template", help="Sentence around a class name, as in 'a photo of a {}'.  [default: the model's own]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--plot", type=PLOT, help="Also draw the result: FILE.svg or FILE.png.")
def command(  # noqa: PLR0917 - click passes by name
    models: Sequence[str],
    data: Path,
    precision: str,
    device: str | None,
    template: str | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Compare the accuracy, latency and memory of MODELS, model directories, on labelled or captioned pictures."""
    if template is not None and "{}" not in template:
        raise click.BadParameter(f"{template!r} has no {{}}, which stands for the class name", param_hint="--template")
    if plot and not find_spec("matplotlib"):  # checked now instead of after the measurement
        raise click.ClickException("matplotlib is not installed; pip install 'siglip-edge[export]'")
    settings = settings_with(DEVICE=device)
    try:
        planned = [
            (directory, one)
            for directory in (directory_of(settings, model) for model in models)
            for one in _precisions(settings, directory, precision)
        ]
        dataset = load_dataset(data)
        measured = [_in_own_process(directory, settings, one, dataset, template) for directory, one in planned]
    except SiglipEdgeError as error:
        raise click.ClickException(str(error)) from error
    shown = f"{len(dataset.images)} pictures, {len(dataset.texts)} {'labels' if dataset.labelled else 'captions'}"
    click.echo(json.dumps([dataclasses.asdict(one) for one in measured], indent=2) if as_json else table(measured))
    click.echo(f"{data}: {shown}", err=True)
    if plot:
        draw(measured, plot)


def _in_own_process(
    directory: Path, settings: Settings, precision: str, dataset: Dataset, template: str | None
) -> Measured:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, directory, settings, precision, dataset, template, progress).result()


def _precisions(settings: Settings, directory: Path, wanted: str) -> list[str]:
    """The wanted precisions, each with a plan here. Raises ModelError, ProviderUnavailable or click.BadParameter."""
    if wanted == "all":
        return list(Manifest.load(directory).precisions())
    precisions = [one.strip() for one in wanted.split(",")]
    for one in precisions:
        plan_with(settings, directory, precision=one)
    return precisions


def draw(measured: Sequence[Measured], path: Path) -> None:
    """Write a bar chart of every score and of the time per row, models side by side, to `path`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    right, fast = figure.subplots(1, 2, width_ratios=[2, 1])
    for at, one in enumerate(measured):
        width, label = 0.8 / len(measured), f"{one.model} {one.precision}"
        shift = at * width
        right.bar(
            [x + shift for x in range(len(one.scores))], [100 * v for v in one.scores.values()], width, label=label
        )
        fast.bar([shift, 1 + shift], [one.image_ms, one.text_ms], width)
    right.set_xticks(range(len(measured[0].scores)), list(measured[0].scores), rotation=20, ha="left")
    right.set_ylabel("% of rows")
    right.legend()
    fast.set_xticks([0, 1], ["image", "text"])
    fast.set_ylabel("milliseconds per row")
    figure.savefig(path)
