"""Before a model counts as ready: both towers run, and answer as they must."""

from __future__ import annotations

import numpy as np
from PIL import Image

from runtime.errors import SelfTestFailed
from runtime.manifest import Tower
from runtime.model import Row
from server.embedding import Model

_TEXT = "a self-test"
_TOLERANCE = 1e-3
"""Of a vector's length: far above float32 rounding, far below a collapsed or overflowing graph."""


def check(model: Model) -> None:
    """Embed a text and an image. Raises SelfTestFailed when a vector is not finite, not unit, or of another size."""
    for tower, row in _rows(model).items():
        vector = np.asarray(model.run(tower, [row]))[0]
        dimensions = model.manifest.dimensions
        if vector.shape != (dimensions,) or not abs(float(np.linalg.norm(vector)) - 1.0) < _TOLERANCE:
            raise SelfTestFailed(
                f"{model.manifest.name}: the {tower} tower ({model.plan.precision}, {model.plan.provider}) does not "
                f"give unit vectors of {dimensions} dimensions on this machine; try another PRECISION or DEVICE"
            )


def warm_up(model: Model, *, steps: int, rows: int) -> None:
    """Run both towers, so that the first caller does not pay for first touches of memory."""
    for tower, row in _rows(model).items():
        for _ in range(steps):
            model.run(tower, [row] * rows)


def _rows(model: Model) -> dict[Tower, Row]:
    size = model.manifest.image.size
    gradient = Image.linear_gradient("L").resize((size, size)).convert("RGB")
    return {Tower.VISION: model.prepare_image(gradient), Tower.TEXT: model.prepare_text(_TEXT).ids}
