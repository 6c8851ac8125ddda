"""`siglip-edge evaluate`: compares models side by side on a user's own pictures or texts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click

from siglip_edge.cli.evaluation import report
from siglip_edge.cli.evaluation.compare import Comparer
from siglip_edge.cli.evaluation.datasets import load_dataset
from siglip_edge.cli.evaluation.drawing import draw
from siglip_edge.cli.evaluation.measure import Subject
from siglip_edge.cli.evaluation.results import Comparison
from siglip_edge.cli.evaluation.summary import render
from siglip_edge.cli.model_options import in_precision, listed_model, settings_with
from siglip_edge.cli.paths import PLOT, GivenPath, OutputFile
from siglip_edge.runtime.artifacts.manifest import Manifest, Patches
from siglip_edge.runtime.errors import ModelError
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.server.config.listed_models import ListedModel
from siglip_edge.server.config.missing_model import absence
from siglip_edge.server.config.settings import Settings

STANDARD_OUTPUT = Path("-")


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> list[int]:
    """`64,128` -> [64, 128]. Raises click.BadParameter."""
    try:
        return [int(number) for number in value.split(",")] if value else []
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of numbers, as 64,128,256 is", context, parameter) from None


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
@click.option(
    "--max-patches",
    callback=_numbers,
    help="Most patches per picture of NaFlex models; several to compare, as in 64,128,256 [MAX_PATCHES].",
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
    max_patches: Sequence[int],
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
    precision = precision or ("all" if len(models) == 1 and not max_patches else "auto")
    subjects = list(subjects_of(settings, models, precision, max_patches))
    comparison = Comparer(subjects, settings, load_dataset(data), template).compare(
        str(data), rounds=rounds, seconds=seconds
    )
    _write(comparison, report_file, json_file, plot)
    sys.exit(1 if any(model.error for model in comparison.models) else 0)


def subjects_of(
    settings: Settings, models: Sequence[str], precision: str, max_patches: Sequence[int] = ()
) -> Iterator[Subject]:
    """Every model in every wanted precision and number of patches, each with a label that no other has.

    `max_patches`: of NaFlex models. Raises click.BadParameter.
    """
    numbers: Sequence[int | None] = max_patches or [settings.max_patches]
    described = [_described(listed_model(settings, model)) for model in models]
    if max_patches and not any(one.is_naflex for one in described):
        raise click.BadParameter("none of the models is a NaFlex model", param_hint="--max-patches")
    found = [
        (one, which, number)
        for one in dict.fromkeys(described)
        for which in _precisions(one.directory, precision)
        for number in (numbers if one.is_naflex else [None])
    ]
    directories = Counter(one.name for one in dict.fromkeys(described))
    variants = Counter((one.directory, which) for one, which, _ in found)
    precisions = Counter(directory for directory, _ in variants)
    for one, which, number in dict.fromkeys(found):
        parts = [
            one.name,
            which if precisions[one.directory] > 1 else "",
            f"{number} patches" if variants[one.directory, which] > 1 else "",
            str(one.directory) if directories[one.name] > 1 else "",
        ]
        yield Subject(
            label=" ".join(filter(None, parts)),
            directory=one.directory,
            precision=which,
            max_patches=number,
            missing=one.missing,
        )


class _Described(NamedTuple):
    directory: Path
    name: str
    is_naflex: bool
    missing: str | None = None
    """Why there is no model, with the command that makes one."""


def _described(model: ListedModel) -> _Described:
    """A directory without a manifest has its own name."""
    directory = model.directory
    try:
        manifest = Manifest.load(directory)
    except ModelError:
        return _Described(directory, directory.name, is_naflex=False, missing=absence(model))
    vision = manifest.towers.vision
    return _Described(directory, manifest.name, is_naflex=vision is not None and isinstance(vision.geometry, Patches))


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
