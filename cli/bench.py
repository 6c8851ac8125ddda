"""`siglip-edge bench`: measures a model's server on this machine against targets and against other servers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import click

from siglip_edge.bench.order import QUICK, Effort, Order

_INTERPRETER = click.Path(path_type=Path, exists=True, dir_okay=False)
_OUTPUT = click.Path(path_type=Path, dir_okay=False)


@click.command("bench")
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--photos",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of JPEG photographs (*.jpg) to send.  [default: made-up pictures]",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Checkpoint that MODEL was exported from: PyTorch behind FastAPI serves it beside ours, on the same load.",
)
@click.option(
    "--pytorch",
    type=_INTERPRETER,
    default=sys.executable,
    help="Python that has torch, transformers, fastapi and uvicorn.  [default: this one]",
)
@click.option("--infinity", type=_INTERPRETER, help="Python that has infinity-emb: it serves --against too.")
@click.option("--json", "json_file", type=_OUTPUT, help="Write every figure to FILE.")
@click.option("--plot", type=_OUTPUT, help="Draw it: FILE.svg or FILE.png.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option("--quick", is_flag=True, help="Everything once, to see that it runs; the figures mean nothing.")
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
    """Load MODEL's server and measure it, everything in one run: rates, latencies, CPU, memory, start.

    Almost an hour for a model of base size with both other servers, on an otherwise idle machine. The settings of this
    environment count; no answer comes from the server's cache, because no input is sent twice. Linux only.
    """
    from siglip_edge.bench import report, run
    from siglip_edge.bench.servers import ServerFailed

    if infinity and not against:
        raise click.UsageError("--infinity serves the checkpoint of --against; give that too")
    if photos and not any(photos.glob("*.jpg")):
        raise click.BadParameter(f"{photos}: no *.jpg here", param_hint="--photos")
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
    if plot and not find_spec("matplotlib"):  # found out now, not after all that
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
    """Progress goes to stderr, with the seconds since the start."""
    started = time.monotonic()
    return lambda text: click.echo(f"{time.monotonic() - started:4.0f} s  {text}", err=True)
