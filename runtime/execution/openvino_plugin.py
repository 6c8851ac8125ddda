"""OpenVINO as a plugin of the stock onnxruntime: the package onnxruntime-ep-openvino.

The plugin is registered once per process and then offers devices: CPUs and GPUs of Intel, on other machines none. A
session must name the device, because the spelling `providers=[...]` of the older onnxruntime-openvino wheel leaves the
graph to the CPU provider in silence (docs/decisions/openvino-as-a-plugin.md).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import onnxruntime

from siglip_edge.runtime.errors import ProviderUnavailable
from siglip_edge.runtime.execution.plan import OPENVINO

logger = logging.getLogger("siglip_edge")

_PACKAGE = "onnxruntime_ep_openvino"


@cache
def devices() -> Mapping[str, Any]:
    """OpenVINO's name of a device (CPU, GPU, GPU.1) -> onnxruntime's handle; empty without the plugin."""
    if find_spec(_PACKAGE) is None or OPENVINO in onnxruntime.get_available_providers():
        return {}
    try:
        onnxruntime.register_execution_provider_library(OPENVINO, import_module(_PACKAGE).get_library_path())
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no other base class
        logger.warning("the OpenVINO plugin cannot be used: %s", error)
        return {}
    found = [device for device in onnxruntime.get_ep_devices() if device.ep_name == OPENVINO]
    return {device.ep_metadata["ov_device"]: device for device in found}


def device(wanted: str) -> Any:
    """The handle of the device `wanted`; of several GPUs, GPU is the first. Raises ProviderUnavailable."""
    for name, found in sorted(devices().items()):
        if name == wanted or name.startswith(f"{wanted}."):
            return found
    raise ProviderUnavailable(f"OpenVINO offers no device {wanted} on this machine, only {', '.join(devices())}")
