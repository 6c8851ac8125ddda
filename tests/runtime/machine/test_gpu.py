"""What the CUDA driver says about a GPU; no machine of the tests has one, so a driver of Python answers."""

from __future__ import annotations

from siglip_edge.runtime.machine.gpu import Gpu, read_gpu


class Driver:
    """The four calls of libcuda with one GPU. As there, 0 is success and every result is written through a pointer."""

    def cuInit(self, flags):  # noqa: N802 - the driver's names
        return 0

    def cuDeviceGet(self, device, ordinal):  # noqa: N802
        device._obj.value = ordinal
        return 0 if ordinal == 0 else 101

    def cuDeviceGetName(self, name, size, device):  # noqa: N802
        name.value = b"NVIDIA GeForce RTX 3060"
        return 0

    def cuDeviceTotalMem_v2(self, memory, device):  # noqa: N802
        memory._obj.value = 12 << 30
        return 0


def test_name_and_memory_come_from_the_driver():
    assert read_gpu(0, Driver()) == Gpu("NVIDIA GeForce RTX 3060", 12 << 30)


def test_a_number_without_a_gpu_is_none():
    """CUDA_ERROR_INVALID_DEVICE is 101."""
    assert read_gpu(1, Driver()) is None


def test_a_machine_without_a_driver_has_none(monkeypatch):
    monkeypatch.setattr("siglip_edge.runtime.machine.gpu._DRIVER", "libno-such-driver.so")
    assert read_gpu(0) is None
