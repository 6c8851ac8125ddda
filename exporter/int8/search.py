"""The fastest INT8 graph that is still right: what each linear layer costs and gains, and which stay in float.

First every layer gets the recipe with the least error in its own output (`recipes`); then each is put into INT8 alone
and the whole tower is run, which gives its cost in fidelity and its gain in time; then, if all of them together lose
more than the budget, those that cost most for what they gain go back to float, as few as will do. Last, what is left
is compared whole in other number formats, and with attention's products in INT8 too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from siglip_edge.exporter.calibration import Observation, Progress
from siglip_edge.exporter.int8 import layer_quantization as recipe_of
from siglip_edge.exporter.int8 import variants
from siglip_edge.exporter.int8.layer_quantization import Recipe
from siglip_edge.exporter.int8.qdq import linear_nodes, quantize
from siglip_edge.exporter.int8.variants import Variant
from siglip_edge.exporter.search_ledger import Ledger
from siglip_edge.exporter.verification.trial import Trial

Floats = NDArray[np.float32]

BUDGET = 0.002
"""Loss (1 - mean cosine) that INT8 may cost a tower: of two neighbours in ten thousand, hardly any change places."""

MOST_IN_FLOAT = 0.25
"""Share of the linear layers that may be left in float: with more, it is not an INT8 artifact any longer."""

_ALONE = 2
"""One layer's loss is measured on every second row: it only has to say which cost more, and takes most of the time."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One linear layer, measured. Times are the least of a few runs, one thread, on the exporting machine."""

    name: str
    loss: float
    """1 - mean cosine of the tower with this layer alone in INT8."""
    fp32_ms: float
    int8_ms: float

    @property
    def cost(self) -> float:
        """Loss for every millisecond gained."""
        return self.loss / max(self.fp32_ms - self.int8_ms, 1e-6)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A quantized graph (large float weights still beside it), and what it was chosen over."""

    model: onnx.ModelProto
    details: dict[str, Any]


def search(
    model: onnx.ModelProto, trial: Trial, seen: Mapping[str, Observation], ledger: Ledger, progress: Progress
) -> Found:
    """Quantize `trial.model`. `model`: the same with its weights; `seen`: every linear node's input activation."""
    plain = _recipes(model, seen, recipe_of.plain, progress)
    best = _recipes(model, seen, recipe_of.best, progress)
    losses = {"min-max": trial.loss(plain), "searched": trial.loss(best)}
    recipes = min((best, plain), key=lambda them: losses["searched" if them is best else "min-max"])
    layers = _measured(trial, recipes, ledger, progress)
    in_float = kept_in_float(layers, lambda names: trial.loss(_without(recipes, names)))
    candidates = variants.candidates(model, _without(recipes, in_float), seen)
    compared = variants.compare(trial, candidates, progress)
    chosen = variants.fastest(compared, BUDGET)
    losses["chosen"] = chosen.loss
    return Found(
        model=quantize(trial.model, candidates[chosen.name]),
        details={
            "reason": _reason(chosen, compared, kept=len(layers) - len(in_float), of=len(layers), rows=len(trial.rows)),
            "format": f"QDQ, weights per channel; {chosen.name}",
            "formats": [asdict(one) | {"loss": round(one.loss, 7), "ms": round(one.ms, 3)} for one in compared],
            "loss": {name: round(loss, 7) for name, loss in losses.items()},
            "layers": [_shown(layer, recipes[layer.name], in_float) for layer in layers],
        },
    )


def min_max(model: onnx.ModelProto, trial: Trial, seen: Mapping[str, Observation], progress: Progress) -> Found:
    """Every linear layer in INT8 with what most quantizers do: to compare with."""
    plain = _recipes(model, seen, recipe_of.plain, progress)
    return Found(model=quantize(trial.model, plain), details={"reason": "min-max ranges alone, as asked; no search"})


def kept_in_float(layers: Sequence[Layer], loss_without: Callable[[Collection[str]], float]) -> list[str]:
    """Names of the fewest layers, the costliest first, without which the rest stays within BUDGET.

    `loss_without(names)`: loss with all other layers in INT8. Where MOST_IN_FLOAT of them are not enough, those.
    """
    costliest = [layer.name for layer in sorted(layers, key=lambda layer: layer.cost, reverse=True)]
    if loss_without([]) <= BUDGET:
        return []
    return fewest_apart(costliest, MOST_IN_FLOAT, lambda names: loss_without(names) <= BUDGET)


def fewest_apart(costliest: Sequence[str], most_share: float, enough: Callable[[Collection[str]], bool]) -> list[str]:
    """The fewest of `costliest`, from its start, that are `enough`; where `most_share` of them are not, those."""
    fewest, most = 1, max(1, int(most_share * len(costliest)))
    while fewest < most:
        middle = (fewest + most) // 2
        if enough(costliest[:middle]):
            most = middle
        else:
            fewest = middle + 1
    return list(costliest[:most])


def _recipes(
    model: onnx.ModelProto,
    seen: Mapping[str, Observation],
    make: Callable[[Observation, Floats], Recipe],
    progress: Progress,
) -> dict[str, Recipe]:
    """Every linear node's, by name."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    return {
        node.name: make(seen[node.input[0]], numpy_helper.to_array(weights[node.input[1]]))
        for node in progress(linear_nodes(model.graph), "choose ranges")
    }


def _measured(trial: Trial, recipes: Mapping[str, Recipe], ledger: Ledger, progress: Progress) -> list[Layer]:
    fp32, int8 = trial.milliseconds({}), trial.milliseconds(recipes)
    alone = trial.on_every(_ALONE)
    return [
        Layer(
            name=name,
            loss=ledger.measured(f"{trial.name}{name}", partial(alone.loss, {name: recipes[name]})),
            fp32_ms=fp32[name],
            int8_ms=int8[name],
        )
        for name in progress(list(recipes), "measure sensitivity")
    ]


def _without(recipes: Mapping[str, Recipe], names: Collection[str]) -> dict[str, Recipe]:
    return {name: recipe for name, recipe in recipes.items() if name not in names}


def _reason(chosen: Variant, compared: Sequence[Variant], *, kept: int, of: int, rows: int) -> str:
    verdict = "within" if chosen.loss <= BUDGET else "above"
    others = ", ".join(f"{one.name} {one.ms:.1f} ms" for one in compared if one is not chosen)
    return (
        f"{kept} of {of} linear layers in INT8: loss {chosen.loss:.1e} on {rows} calibration rows, {verdict} the "
        f"budget of {BUDGET}. Of what is right on every CPU, {chosen.name}: {chosen.ms:.1f} ms a forward ({others})"
    )


def _shown(layer: Layer, recipe: Recipe, in_float: Collection[str]) -> dict[str, Any]:
    return {
        "name": layer.name,
        "precision": "fp32" if layer.name in in_float else "int8",
        "range": recipe.method,
        "smoothed": recipe.smoothing is not None,
        "output_error": round(recipe.error, 7),
        "loss": round(layer.loss, 7),
        "fp32_ms": round(layer.fp32_ms, 3),
        "int8_ms": round(layer.int8_ms, 3),
    }
