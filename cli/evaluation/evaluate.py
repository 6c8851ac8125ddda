"""`siglip-edge evaluate`: compares models side by side on a user's own pictures or texts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from siglip_edge.cli.evaluation import report
from siglip_edge.cli.evaluation.compare import Comparer
from siglip_edge.cli.evaluation.datasets import load_dataset
from siglip_edge.cli.evaluation.drawing import draw
from siglip_edge.cli.evaluation.measure import Subject
from siglip_edge.cli.evaluation.results import Comparison
from siglip_edge.cli.evaluation.summary import render
from siglip_edge.cli.model_options import directory_of, in_precision, settings_with
from siglip_edge.cli.paths import PLOT, GivenPath, OutputFile
from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.runtime.errors import ModelError
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.server.config.settings import Settings

STANDARD_OUTPUT = Path("-")


@click.command("evaluate")
@click.argument("models", nargs=-1, required=True, type=GivenPath())
@click.option(
    "--data",
    required=True,
    type=GivenPath(path_type=Path, exists=True),
    help="Pictures: a folder with a sub-folder per class or with labels.csv, or a table with file and label or with "
    "file and caption. Texts: a table with sentence1, sentence2, score or with query, document, or a BEIR folder.",
)
@click.option(
    "--precision",
    help="all, auto, or a comma-separated list of precisions.  [default: all of one model, auto of several]",
)
@click.option("--device", help="Device to run on: auto, cpu, cuda, openvino [DEVICE].")
@click.option("--template", help="Sentence around a class name, as in 'a photo of a {}'.  [default: each model's own]")
@click.option("--report", "report_file", type=OutputFile(".html"), help="Write the comparison as a page: FILE.html.")
@click.option("--json", "json_file", type=OutputFile(), help="Write every figure to FILE; - prints it and no table.")
@click.option("--plot", type=PLOT, help="Draw the comparison: FILE.svg or FILE.png.")
@click.option(
    "--rounds", type=click.IntRange(min=0), default=5, show_default=True, help="Turns per model; 0 measures no speed."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.01, max=600),
    default=1.0,
    show_default=True,
    help="Length of a turn per tower.",
)
def command(  # noqa: PLR0917 - click passes by name
    models: Sequence[str],
    data: Path,
    precision: str | None,
    device: str | None,
    template: str | None,
    report_file: Path | None,
    json_file: Path | None,
    plot: Path | None,
    rounds: int,
    seconds: float,
) -> None:
    """Compare MODELS, model directories or their names in MODELS_DIR, on the same pictures or texts.

    Each model runs in a process of its own. The exit status is 1 when a model failed; the others are compared.
    """
    if template is not None and "{}" not in template:
        raise click.BadParameter(f"{template!r} has no {{}}, which stands for the class name", param_hint="--template")
    if plot and not find_spec("matplotlib"):  # checked now instead of after the measurement
        raise click.ClickException("matplotlib is not installed; pip install 'siglip-edge[export]'")
    settings = settings_with(DEVICE=device)
    subjects = list(subjects_of(settings, models, precision or ("all" if len(models) == 1 else "auto")))
    comparison = Comparer(subjects, settings, load_dataset(data), template).compare(
        str(data), rounds=rounds, seconds=seconds
    )
    _write(comparison, report_file, json_file, plot)
    sys.exit(1 if any(model.error for model in comparison.models) else 0)


def subjects_of(settings: Settings, models: Sequence[str], wanted: str) -> Iterator[Subject]:
    """Every model in every wanted precision, each with a label that no other has. Raises click.BadParameter."""
    found = [
        (*described, precision)
        for model in models
        for described in [_described(directory_of(settings, model))]
        for precision in _precisions(described[0], wanted)
    ]
    found = list(dict.fromkeys(found))
    names = Counter(name for _, name, _ in found)
    directories = Counter(name for _, name in dict.fromkeys((directory, name) for directory, name, _ in found))
    for directory, name, precision in found:
        where = f" {directory}" if directories[name] > 1 else ""
        which = f" {precision}" if names[name] > directories[name] else ""
        yield Subject(label=f"{name}{which}{where}", directory=directory, precision=precision)


def _described(directory: Path) -> tuple[Path, str]:
    """-> the directory and the model's name, or the directory's name where it has no manifest."""
    try:
        return directory, Manifest.load(directory).name
    except ModelError:
        return directory, directory.name


def _precisions(directory: Path, wanted: str) -> list[str]:
    if wanted == "all":
        try:
            return list(Manifest.load(directory).precisions())
        except ModelError:
            return ["auto"]  # whose plan tells what is wrong
    precisions = [one.strip() for one in wanted.split(",")]
    for one in precisions:
        in_precision(Wishes(), one)  # raises click.BadParameter
    return precisions


def _write(comparison: Comparison, report_file: Path | None, json_file: Path | None, plot: Path | None) -> None:
    if json_file == STANDARD_OUTPUT:
        click.echo(report.as_json(comparison), nl=False)
    else:
        click.echo(render(comparison))
    click.echo(f"{comparison.data}: {comparison.size}", err=True)
    if json_file and json_file != STANDARD_OUTPUT:
        json_file.write_text(report.as_json(comparison), encoding="utf-8")
    if report_file:
        report_file.write_text(report.render(comparison), encoding="utf-8")
        if not find_spec("matplotlib"):
            click.echo(f"{report_file}: without drawings, because matplotlib is not installed", err=True)
    if plot:
        draw(comparison).savefig(plot)
