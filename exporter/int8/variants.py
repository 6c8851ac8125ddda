"""The whole tower in several number formats, and with attention's products in INT8 too: how right, how fast.

Recorded in the manifest, chosen among by a rule. On base-size towers (outlier channels planted) and a CPU with VNNI:

                                     vision             text
    U8S8, limited                    224 ms, 3.5e-4     49 ms, 4.4e-4
    U8U8                             502 ms, 2.1e-4    114 ms, 2.2e-4
    U8S8, S8S8                       223 ms, 2.1e-4     47 ms, 2.2e-4    saturate on other CPUs
    attention's products, U8U8       231 ms, 4.7e-4     49 ms, 5.4e-4    rounding the operands takes what it saves
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from siglip_edge.exporter.calibration import Observation, Progress
from siglip_edge.exporter.int8 import layer_quantization as recipe_of
from siglip_edge.exporter.int8.layer_quantization import Recipe, Recipes
from siglip_edge.exporter.int8.number_formats import CANONICAL, FORMATS, Format, measurable
from siglip_edge.exporter.int8.qdq import product_nodes
from siglip_edge.exporter.verification.trial import Trial
from siglip_edge.runtime.machine.cpu import read_cpu_budget

WITH_PRODUCTS = "canonical, and attention's products in U8U8"

SAME_TIME = 1.05
"""Times whose ratio is less do not differ: the least of some turns still varies by a few in a hundred."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Measured on the exporting machine."""

    name: str
    loss: float
    """1 - mean cosine."""
    ms: float
    """CPU time of a forward, one thread."""
    safe_everywhere: bool
    """Right on every CPU that the artifact may meet, not only on this one."""


def fastest(variants: Sequence[Variant], budget: float) -> Variant:
    """Of those right on every CPU and within `budget`, the fastest; of equally fast ones, the first.

    Not the most faithful: U8U8, which in small products is as fast as the canonical format on one CPU, is a third
    slower on AVX2, and three times with VNNI, in large ones. Where none is within `budget`, the most faithful.
    """
    safe = [one for one in variants if one.safe_everywhere]
    within = [one for one in safe if one.loss <= budget]
    quick = [one for one in within if one.ms <= SAME_TIME * min(other.ms for other in within)]
    return quick[0] if quick else min(safe, key=lambda one: one.loss)


def candidates(
    model: onnx.ModelProto, chosen: Mapping[str, Recipe], seen: Mapping[str, Observation]
) -> dict[str, Recipes]:
    """Name -> the `chosen` layers in every format that this machine computes right, and attention's products too."""
    products = {
        node.name: recipe_of.product(*(seen[tensor] for tensor in node.input)) for node in product_nodes(model.graph)
    }
    others = [form for form in measurable(read_cpu_budget().isa) if form is not CANONICAL]
    return {
        CANONICAL.name: chosen,
        **{form.name: _in_format(model, chosen, form) for form in others},
        WITH_PRODUCTS: {**chosen, **products},
    }


def compare(trial: Trial, recipes: Mapping[str, Recipes], progress: Progress) -> list[Variant]:
    """Loss of each, then times, in turns."""
    safe = {form.name for form in FORMATS if form.safe_everywhere} | {WITH_PRODUCTS}
    losses = {name: trial.loss(recipes[name]) for name in progress(list(recipes), "compare formats")}
    times = trial.forward_ms(recipes)
    return [Variant(name=name, loss=losses[name], ms=times[name], safe_everywhere=name in safe) for name in recipes]


def _in_format(model: onnx.ModelProto, chosen: Mapping[str, Recipe], form: Format) -> Recipes:
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    return {
        node.name: recipe_of.in_format(chosen[node.name], numpy_helper.to_array(weights[node.input[1]]), form)
        for node in model.graph.node
        if node.name in chosen
    }
