"""`docs/models.md` on standard output: `python -m siglip_edge.runtime.known_models.page > docs/models.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from siglip_edge.runtime.known_models import table
from siglip_edge.runtime.known_models.table import Advice, KnownModel

_INTRODUCTION = """\
# Models

Written by `python -m siglip_edge.runtime.known_models.page > docs/models.md` from `runtime/known_models/models.toml`;
`tests/test_documents.py` compares this page with it. `siglip-edge models` prints the table and filters it: `--images`,
`--text`, `--memory 1G`, `--language de`, `--json`. [serving-several-models.md](serving-several-models.md) is about more
than one at once.

## Which one for my NAS?

| use | memory of the machine | languages | model | reason |
|---|---|---|---|---|
"""

_COMMANDS = """
Make the model directory on any machine with 16 GB of memory and copy it, or let the small machine fetch it:

```sh
siglip-edge export google/siglip2-base-patch32-256 -o quantized_models --calibration-images ~/Pictures/a-hundred
siglip-edge pull somebody/siglip2-base-patch32-256     # a model directory that somebody has put on a hub
siglip-edge serve siglip2-base-patch32-256
```

"""

_TABLE = """\
## All models

`image` is the side of the square in pixels, `text` the longest text in tokens, `languages` en, zh or many:
trained on many languages, which the checkpoint's card lists; `--language` takes such a model to know every one of them.
`files` and `memory` are megabytes of *our* files in INT8: size on disk, and memory of a server process at rest
with both towers. `images` and `texts` are rows per second without a server, as a ratio to {base} in the same run.
An estimate is marked ~: a megabyte per million parameters outside the table of token embeddings, which stays on disk,
and {at_rest} MB for the process. An empty cell was not measured. Speed and memory depend on the shape alone:
{weights}.

| model | family | licence | dim | text | image | languages | files | memory | images | texts | published quality |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return "".join([
        _INTRODUCTION,
        *map(_advice, table.advice()),
        _COMMANDS,
        _TABLE.format(base=table.measurements().base, at_rest=table.AT_REST_MB, weights=_weights()),
        *(_line(model) for model in table.known_models() if model.refused is None),
        _figures(),
        "\n## Not exported\n\n",
        *(f"- `{model.id}`: {model.refused}.\n" for model in table.known_models() if model.refused),
        "\n## Sources of the published figures\n\n",
        *_sources(),
    ])  # fmt: skip


def _weights() -> str:
    real = [f"`{name}`" for name, found in table.measurements().models.items() if found.weights == "real"]
    return f"the measured checkpoints have random weights{', except ' if real else ''}{', '.join(real)}"


def _advice(entry: Advice) -> str:
    return f"| {entry.use} | {entry.memory} | {entry.languages} | `{entry.model}` | {entry.reason} |\n"


def _line(model: KnownModel) -> str:
    cells = (
        f"`{model.id}`", model.family, model.licence, str(model.dimensions), str(model.tokens), str(model.image or ""),
        model.languages, *_measured(model), table.published(model),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def _measured(model: KnownModel) -> Iterator[str]:
    """Cells for files, memory, images and texts."""
    found = table.measurements().models.get(model.id)
    if found is None:
        yield from ("", f"~{model.estimated_mb}", "", "")
        return
    yield from (f"{found.files_mb:.0f}", f"{found.memory_mb:.0f}")
    yield from (f"{ratio:.2f}" if ratio else "" for ratio in (found.images_ratio, found.texts_ratio))


def _figures() -> str:
    found = table.measurements()
    if not found.models:
        return f"\nNothing was measured yet: `{found.command}` measures.\n"
    base = found.models[found.base]
    speeds = f"{base.images_per_s:.1f} images/s and {base.texts_per_s:.1f} texts/s"
    lines = f"\nMeasured by `{found.command}` on {found.machine}, where {found.base} made {speeds}.\n"
    if found.load > found.cores:
        lines += (
            f"Meanwhile others kept {found.load:.0f} processes busy on {found.cores:.0f} cores: an idle machine is\n"
            "several times as fast. The shapes took turns, so that the ratios hold roughly.\n"
        )
    return lines


def _sources() -> Iterator[str]:
    for quality in table.qualities().values():
        yield f"- **{quality.name}**: {quality.about}. [{quality.source}]({quality.url}).\n"


if __name__ == "__main__":
    sys.stdout.write(page())
