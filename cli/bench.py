"""`siglip-edge bench`: measures a model's server on this machine beside other servers, and compares it with targets."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import click

from siglip_edge.bench.order import QUICK, Effort, Order
from siglip_edge.cli.paths import FILE, FOLDER, PLOT, OutputFile


@click.command("bench")
@click.argument("model", type=FOLDER)
@click.option(
    "--photos",
    type=FOLDER,
    help="Folder of JPEG photographs (*.jpg) to send.  [default: generated pictures]",
)
@click.option(
    "--against",
    type=FOLDER,
    help="Checkpoint that MODEL was exported from. PyTorch behind FastAPI serves it under the same load.",
)
@click.option(
    "--pytorch",
    type=FILE,
    default=sys.executable,
    help="Python that has torch, transformers, fastapi and uvicorn.  [default: this Python]",
)
@click.option("--infinity", type=FILE, help="Python that has infinity-emb, which also serves --against.")
@click.option("--json", "json_file", type=OutputFile(), help="Write every figure to FILE.")
@click.option("--plot", type=PLOT, help="Draw the result: FILE.svg or FILE.png.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option("--quick", is_flag=True, help="Run every step once as a check; the figures mean nothing.")
def command(  # noqa: PLR0917 - click passes by name
    model: Path,
    photos: Path | None,
    against: Path | None,
    pytorch: Path,
    infinity: Path | None,
    json_file: Path | None,
    plot: Path | None,
    markdown: bool,
    quick: bool,
) -> None:
    """Measure MODEL's server under load: rates, latencies, CPU time, memory and start.

    A model of base size with both other servers takes almost an hour. No other program should run meanwhile. The
    environment variables of `serve` apply. No answer comes from the embedding cache, because no input is sent twice.
    Linux only.
    """
    from siglip_edge.bench import report, run
    from siglip_edge.bench.servers import ServerFailed

    if infinity and not against:
        raise click.UsageError("--infinity serves the checkpoint of --against; give --against too")
    if photos and not any(photos.glob("*.jpg")):
        raise click.BadParameter(f"{photos}: no *.jpg here; give a folder with JPEG files", param_hint="--photos")
    order = Order(
        model=model.resolve(),
        photos=photos,
        checkpoint=against,
        pytorch=pytorch,
        infinity=infinity,
        effort=QUICK if quick else Effort(),
    )
    if against and pytorch == Path(sys.executable) and not find_spec("fastapi"):
        raise click.ClickException("fastapi is not installed; pip install 'siglip-edge[bench,export]'")
    if plot and not find_spec("matplotlib"):  # checked now instead of after an hour
        raise click.ClickException("matplotlib is not installed; pip install 'siglip-edge[export]'")
    try:
        results = run.measure(order, _saying())
    except ServerFailed as error:
        raise click.ClickException(str(error)) from error
    if json_file:
        json_file.write_text(report.as_json(results), encoding="utf-8")
    if plot:
        from siglip_edge.bench.plot import draw

        draw(results, plot)
    click.echo(report.as_markdown(results) if markdown else report.as_text(results))


def _saying() -> Callable[[str], None]:
    """A function that prints a message and the seconds since the start to standard error."""
    started = time.monotonic()
    return lambda text: click.echo(f"{time.monotonic() - started:4.0f} s  {text}", err=True)
