"""The fastest INT8 graph that is still right: what each linear layer costs and gains, and which stay in float.

First every layer gets the recipe with the least error in its own output (`recipes`); then each is put into INT8 alone
and the whole tower is run, which gives its cost in fidelity and its gain in time; then, if all of them together lose
more than the budget, those that cost most for what they gain go back to float, as few as will do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import onnx
from onnx import numpy_helper

from exporter import recipes as recipe_of
from exporter.calibration import Observation, Progress
from exporter.ledger import Ledger
from exporter.quantize import linear_nodes, quantize
from exporter.recipes import Recipe
from exporter.trial import Trial

Recipes = Mapping[str, Recipe]

BUDGET = 0.002
"""Loss (1 - mean cosine) that INT8 may cost a tower: of two neighbours in ten thousand, hardly any change places."""

MOST_IN_FLOAT = 0.25
"""Share of the linear layers that may be left in float: with more, it is not an INT8 artifact any longer."""


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
    plain, best = _recipes(model, seen, progress)
    losses = {"min-max": trial.loss(plain), "searched": trial.loss(best)}
    recipes = min((best, plain), key=lambda them: losses["searched" if them is best else "min-max"])
    layers = _measured(trial, recipes, ledger, progress)
    in_float = kept_in_float(layers, lambda names: trial.loss(_without(recipes, names)))
    chosen = _without(recipes, in_float)
    losses["chosen"] = trial.loss(chosen) if in_float else min(losses.values())
    return Found(
        model=quantize(trial.model, chosen), details=_details(losses, layers, recipes, in_float, len(trial.rows))
    )


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
    model: onnx.ModelProto, seen: Mapping[str, Observation], progress: Progress
) -> tuple[dict[str, Recipe], dict[str, Recipe]]:
    """Every linear node's recipe: min-max without smoothing, and the best found."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    plain, best = {}, {}
    for node in progress(linear_nodes(model.graph), "choose ranges"):
        activation, weight = node.input[0], numpy_helper.to_array(weights[node.input[1]])
        plain[node.name] = recipe_of.plain(seen[activation], weight)
        best[node.name] = recipe_of.best(seen[activation], weight)
    return plain, best


def _measured(trial: Trial, recipes: Recipes, ledger: Ledger, progress: Progress) -> list[Layer]:
    fp32, int8 = trial.milliseconds({}), trial.milliseconds(recipes)
    return [
        Layer(
            name=name,
            loss=ledger.measured(f"{trial.name}{name}", partial(trial.loss, {name: recipes[name]})),
            fp32_ms=fp32[name],
            int8_ms=int8[name],
        )
        for name in progress(list(recipes), "measure sensitivity")
    ]


def _without(recipes: Recipes, names: Collection[str]) -> dict[str, Recipe]:
    return {name: recipe for name, recipe in recipes.items() if name not in names}


def _details(
    losses: Mapping[str, float], layers: Sequence[Layer], recipes: Recipes, in_float: Collection[str], rows: int
) -> dict[str, Any]:
    """For the manifest: what was chosen, over what, and why."""
    kept = f"{len(layers) - len(in_float)} of {len(layers)} linear layers in INT8"
    verdict = "within" if losses["chosen"] <= BUDGET else "above"
    return {
        "reason": f"{kept}: loss {losses['chosen']:.1e} on {rows} calibration rows, {verdict} the budget of {BUDGET}",
        "format": "QDQ; uint8 activations, int8 weights per channel, neighbours of one sign sum to 128 at most",
        "loss": {name: round(loss, 7) for name, loss in losses.items()},
        "layers": [
            {
                "name": layer.name,
                "precision": "fp32" if layer.name in in_float else "int8",
                "range": recipes[layer.name].method,
                "smoothed": recipes[layer.name].smoothing is not None,
                "output_error": round(recipes[layer.name].error, 7),
                "loss": round(layer.loss, 7),
                "fp32_ms": round(layer.fp32_ms, 3),
                "int8_ms": round(layer.int8_ms, 3),
            }
            for layer in layers
        ],
    }
