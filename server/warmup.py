"""Run the served towers once, so that the first caller does not pay for first touches of memory."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from runtime.manifest import Tower
from runtime.model import Row
from server.preparation import Model


def warm_up(model: Model, *, steps: int, rows: int) -> None:
    """`steps` runs a tower of `rows` rows each."""
    size = model.manifest.image.size
    inputs: dict[Tower, Callable[[], Row]] = {
        Tower.VISION: lambda: model.prepare_image(Image.new("RGB", (size, size))),
        Tower.TEXT: lambda: model.prepare_text("a warm-up").ids,
    }
    for tower in model.towers:
        row = inputs[tower]()
        for _ in range(steps):
            model.run(tower, [row] * rows)
