"""The NVIDIA GPU that a plan runs on, as the CUDA driver describes it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

_DRIVER = "libcuda.so.1"
"""The library that CUDA itself asks. It counts devices as the CUDA provider does, CUDA_VISIBLE_DEVICES included."""

_NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    name: str
    memory: int
    """Bytes."""


def read_gpu(ordinal: int, driver: Any = None) -> Gpu | None:
    """The GPU with that number. None: there is no driver, or it knows no such GPU. Tests pass a driver of their own."""
    try:
        driver = driver or ctypes.CDLL(_DRIVER)
    except OSError:
        return None
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), ordinal)
        or driver.cuDeviceGetName(name, _NAME_BYTES, device)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    )
    return None if failed else Gpu(name.value.decode(errors="replace"), memory.value)
