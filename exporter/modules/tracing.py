"""A torch module -> an FP32 graph with stable names, traced by Optimum."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimum.exporters.onnx import OnnxConfig, export
from optimum.utils import DummyInputGenerator
from torch import Tensor
from transformers import PreTrainedModel

from siglip_edge.exporter.graphs.blockwise_attention import write_out_attention

OUTPUT = "pooled"
"""The only output of every graph, float32 (n, dimensions)."""

OPSET = 20
"""The first with Gelu(approximate="tanh") as one operator; the newest that torch's TorchScript exporter writes."""

Axes = Mapping[int, str]
BATCH: Axes = {0: "batch"}


def trace_module(module: PreTrainedModel, inputs: Mapping[str, tuple[Tensor, Axes]], path: Path) -> None:
    """Write `module`, whose `forward` takes `inputs` in order and returns (n, d) float32, as a graph with OUTPUT.

    `inputs`: name -> an example and the names of its dynamic axes. The batch of an example has two rows, because one
    row would be traced as a constant. Over 2 GB Optimum adds `<path>_data`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on constant branches, and its own deprecation
        export(module.eval(), _config(inputs, module.config), path, opset=OPSET, disable_dynamic_axes_fix=True)
    write_out_attention(path)


def _config(described: Mapping[str, tuple[Tensor, Axes]], config: Any) -> OnnxConfig:
    """Optimum's description of a module."""

    class Examples(DummyInputGenerator):  # type: ignore[misc]
        SUPPORTED_INPUT_NAMES = tuple(described)

        def generate(
            self, input_name: str, framework: str = "pt", int_dtype: str = "", float_dtype: str = ""
        ) -> Tensor:
            del framework, int_dtype, float_dtype
            return described[input_name][0]

    class ModuleConfig(OnnxConfig):  # type: ignore[misc]
        NORMALIZED_CONFIG_CLASS = staticmethod(lambda _: None)
        inputs = {name: dict(axes) for name, (_, axes) in described.items()}  # noqa: RUF012 - Optimum reads a property
        outputs = {OUTPUT: {0: "batch"}}  # noqa: RUF012

        def generate_dummy_inputs(self, framework: str = "pt", **_: Any) -> dict[str, Tensor]:
            return {name: Examples().generate(name, framework) for name in described}

    return ModuleConfig(config)
