"""As much of a tower in INT8 as stays right: cost and gain of each linear layer, and which layers stay in float.

First every layer gets the recipe with the least error in its own output (`layer_quantization`). Then each layer is put
into INT8 alone and the whole tower is run: that is the layer's cost in fidelity. Its gain is the number of its
multiplications. If all layers together lose more than the budget, the layers that cost most for their gain go back to
float, as few as will do. No time is measured, so that a busy machine finds the same graph.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from siglip_edge.exporter.calibration import Observation, Progress
from siglip_edge.exporter.int8 import attention
from siglip_edge.exporter.int8 import layer_quantization as recipe_of
from siglip_edge.exporter.int8.layer_quantization import Recipe
from siglip_edge.exporter.int8.qdq import linear_nodes, quantize
from siglip_edge.exporter.search_ledger import Ledger
from siglip_edge.exporter.verification.trial import Trial

Floats = NDArray[np.float32]

BUDGET = 0.002
"""Loss (1 - mean cosine) that INT8 may cost a tower: of two neighbours in ten thousand, hardly any change places."""

MOST_IN_FLOAT = 0.25
"""Share of the linear layers that may be left in float: with more, it is not an INT8 artifact any longer."""

FORMAT = "QDQ; activations uint8, weights int8 per output channel, neighbouring weights limited"
"""The canonical number format; docs/decisions/int8-number-format.md says why it is fixed."""

ATTENTION_FORMAT = "; attention's products uint8 by int8"
"""Added to FORMAT where they are; docs/decisions/attention-in-int8.md."""

_ALONE = 2
"""One layer's loss is measured on every second row: it only has to say which cost more, and takes most of the time."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One linear layer, measured."""

    name: str
    loss: float
    """1 - mean cosine of the tower with this layer alone in INT8."""
    multiplications: int
    """Per row of the tower: weights times the positions they are applied to."""

    @property
    def cost(self) -> float:
        """Loss per multiplication."""
        return self.loss / self.multiplications


@dataclass(frozen=True, kw_only=True)
class Found:
    """A quantized graph (large float weights still beside it), and its alternatives."""

    model: onnx.ModelProto
    details: dict[str, Any]


def search(
    model: onnx.ModelProto, trial: Trial, seen: Mapping[str, Observation], ledger: Ledger, progress: Progress
) -> Found:
    """Quantize `trial.model`. `model`: the same with its weights; `seen`: every linear node's input activation."""
    plain = _recipes(model, seen, recipe_of.plain, progress)
    best = _recipes(model, seen, recipe_of.best, progress)
    cancelling = _cancelling(model, seen, best, progress)
    losses = {"min-max": trial.loss(plain), "searched": trial.loss(best), "cancelling": trial.loss(cancelling)}
    recipes = min(zip(losses.values(), (plain, best, cancelling), strict=True), key=lambda one: one[0])[1]
    layers = _measured(trial, recipes, _positions(model, seen), ledger, progress)
    in_float = kept_in_float(layers, lambda names: trial.loss(_without(recipes, names)))
    chosen = _without(recipes, in_float)
    losses["chosen"] = trial.loss(chosen) if in_float else min(losses.values())
    trial, of_attention = _with_attention(model, trial, seen, chosen, losses)
    return Found(
        model=trial.variant(chosen),
        details={
            "reason": _reason(losses["chosen"], kept=len(chosen), of=len(layers), rows=len(trial.rows)),
            "format": f"{FORMAT}{of_attention}",
            "loss": {name: round(loss, 7) for name, loss in losses.items()},
            "layers": [_shown(layer, recipes[layer.name], in_float) for layer in layers],
        },
    )


def _with_attention(
    model: onnx.ModelProto,
    trial: Trial,
    seen: Mapping[str, Observation],
    chosen: Mapping[str, Recipe],
    losses: dict[str, float],
) -> tuple[Trial, str]:
    """`trial` with attention's products in INT8, too, and words for the format; unchanged where rows are too short to
    gain by it or the loss passes BUDGET. Adds the loss that was not chosen to `losses`.
    """
    layers = attention.attention_layers(model.graph)
    if not attention.is_long(layers, seen):
        return trial, ""
    spans = attention.spans(layers, seen)
    whole = replace(trial, quantize=lambda bare, recipes: attention.quantize_attention(quantize(bare, recipes), spans))
    loss = whole.loss(chosen)
    if loss > BUDGET:
        losses["attention in int8"] = loss
        return trial, ""
    losses |= {"attention in float": losses["chosen"], "chosen": loss}
    return whole, ATTENTION_FORMAT


def min_max(model: onnx.ModelProto, trial: Trial, seen: Mapping[str, Observation], progress: Progress) -> Found:
    """Every linear layer in INT8 by minimum and maximum, as most quantizers do: to compare with."""
    plain = _recipes(model, seen, recipe_of.plain, progress)
    return Found(model=quantize(trial.model, plain), details={"reason": "min-max ranges alone, as asked; no search"})


def kept_in_float(layers: Sequence[Layer], loss_without: Callable[[Collection[str]], float]) -> list[str]:
    """Names of the fewest layers, the costliest first, without which the rest stays within BUDGET.

    `loss_without(names)`: loss with all other layers in INT8. At most MOST_IN_FLOAT of them.
    """
    costliest = [layer.name for layer in sorted(layers, key=lambda layer: layer.cost, reverse=True)]
    if loss_without([]) <= BUDGET:
        return []
    return fewest_apart(costliest, MOST_IN_FLOAT, lambda names: loss_without(names) <= BUDGET)


def fewest_apart(costliest: Sequence[str], most_share: float, enough: Callable[[Collection[str]], bool]) -> list[str]:
    """The fewest of `costliest`, from its start, that are `enough`; at most `most_share` of them."""
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


def _cancelling(
    model: onnx.ModelProto, seen: Mapping[str, Observation], recipes: Mapping[str, Recipe], progress: Progress
) -> dict[str, Recipe]:
    """Each recipe with errors that cancel."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    return {
        node.name: recipe_of.cancelling(
            recipes[node.name], seen[node.input[0]], numpy_helper.to_array(weights[node.input[1]])
        )
        for node in progress(linear_nodes(model.graph), "round weights")
    }


def _positions(model: onnx.ModelProto, seen: Mapping[str, Observation]) -> dict[str, int]:
    """Linear node -> the positions of one row that its weights are applied to."""
    return {node.name: seen[node.input[0]].length for node in linear_nodes(model.graph)}


def _measured(
    trial: Trial, recipes: Mapping[str, Recipe], positions: Mapping[str, int], ledger: Ledger, progress: Progress
) -> list[Layer]:
    alone = trial.on_every(_ALONE)
    return [
        Layer(
            name=name,
            loss=ledger.measured(f"{trial.name}{name}", partial(alone.loss, {name: recipes[name]})),
            multiplications=recipes[name].weight.size * positions[name],
        )
        for name in progress(list(recipes), "measure sensitivity")
    ]


def _without(recipes: Mapping[str, Recipe], names: Collection[str]) -> dict[str, Recipe]:
    return {name: recipe for name, recipe in recipes.items() if name not in names}


def _reason(loss: float, *, kept: int, of: int, rows: int) -> str:
    verdict = "within" if loss <= BUDGET else "above"
    return (
        f"{kept} of {of} linear layers in INT8: loss {loss:.1e} on {rows} calibration rows, {verdict} the budget of "
        f"{BUDGET}"
    )


def _shown(layer: Layer, recipe: Recipe, in_float: Collection[str]) -> dict[str, Any]:
    return {
        "name": layer.name,
        "precision": "fp32" if layer.name in in_float else "int8",
        "range": recipe.method,
        "smoothed": recipe.smoothing is not None,
        "output_error": round(recipe.error, 7),
        "loss": round(layer.loss, 7),
        "multiplications": layer.multiplications,
    }
