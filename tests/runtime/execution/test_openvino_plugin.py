"""OpenVINO's plugin: registered once, its devices named in the session, and no fall-back in silence.

The plugin itself is replaced, because it has devices on Intel hardware only; the sessions and the errors are real.
docs/decisions/openvino-as-a-plugin.md says where the plugin has run.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import onnxruntime
import pytest

from siglip_edge.runtime.artifacts.manifest import Precision, Tower
from siglip_edge.runtime.errors import ProviderUnavailable
from siglip_edge.runtime.execution import openvino_plugin
from siglip_edge.runtime.execution.plan import CPU, OPENVINO, ExecutionPlan, Wishes
from siglip_edge.runtime.execution.session import GraphSession, available_providers
from siglip_edge.runtime.open_model import plan_model
from tests.tiny_model import write_model


def offered(name, ep_name=OPENVINO):
    return SimpleNamespace(ep_name=ep_name, ep_metadata={"ov_device": name})


@pytest.fixture
def fresh():
    """The registration that this process remembers is forgotten before and after the test."""
    openvino_plugin.devices.cache_clear()
    yield
    openvino_plugin.devices.cache_clear()


@pytest.fixture
def plugin(fresh, monkeypatch):
    """Install a plugin whose registration makes onnxruntime offer `devices`. -> the registrations so far."""

    def install(*devices, error=None):
        registrations = []

        def register(name, path):
            if error:
                raise error
            registrations.append((name, path))
            monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: [offered("none", CPU), *devices])
            named = dict.fromkeys(["AzureExecutionProvider", CPU, *(device.ep_name for device in devices)])
            monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(named))

        package = ModuleType("onnxruntime_ep_openvino")
        package.__spec__ = ModuleSpec(package.__name__, loader=None)
        vars(package)["get_library_path"] = lambda: "/somewhere/plugin.so"
        monkeypatch.setitem(sys.modules, package.__name__, package)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])
        monkeypatch.setattr(onnxruntime, "register_execution_provider_library", register)
        return registrations

    return install


def planned(device_type="CPU"):
    return ExecutionPlan(
        provider=OPENVINO,
        provider_options={"device_type": device_type},
        precision=Precision.INT8,
        intra_op_threads=1,
        reason="test",
    )


def test_its_devices_make_openvino_available(plugin):
    """Registered once per process; the meta device AUTO is no provider that can be planned."""
    registrations = plugin(offered("CPU"), offered("GPU"), offered("CPU", f"{OPENVINO}.AUTO"))
    for _ in range(2):
        assert available_providers() == ("AzureExecutionProvider", CPU, OPENVINO)
    assert list(openvino_plugin.devices()) == ["CPU", "GPU"]
    assert registrations == [(OPENVINO, "/somewhere/plugin.so")]


def test_on_hardware_without_devices_the_cpu_provider_is_all(plugin, tmp_path):
    """As on an AMD CPU: `auto` plans the CPU, and OpenVINO asked for by name is one sentence."""
    registrations = plugin()
    directory = write_model(tmp_path / "tiny")
    assert {plan.provider for plan in plan_model(directory, Wishes()).plans} == {CPU}
    assert registrations
    with pytest.raises(ProviderUnavailable, match=r"install siglip-edge\[openvino\], on a machine with an Intel"):
        plan_model(directory, Wishes(device="openvino"))


def test_a_plugin_that_cannot_be_registered_is_told(plugin, caplog):
    """A library that is missing, or an onnxruntime that is too old: one WARNING, and the CPU serves."""
    plugin(error=RuntimeError("libtbb.so.12: cannot open shared object file"))
    assert OPENVINO not in available_providers()
    assert available_providers()
    (record,) = caplog.records
    assert record.getMessage() == "the OpenVINO plugin cannot be used: libtbb.so.12: cannot open shared object file"


def test_the_older_wheel_needs_no_plugin(plugin, monkeypatch):
    """Where onnxruntime knows OpenVINO by itself, sessions keep the older spelling."""
    registrations = plugin(offered("CPU"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [OPENVINO, CPU])
    assert openvino_plugin.devices() == {}
    assert available_providers() == (OPENVINO, CPU)
    assert registrations == []


@pytest.mark.parametrize(("wanted", "name"), [("CPU", "CPU"), ("GPU", "GPU.0"), ("GPU.1", "GPU.1")])
def test_a_device_is_found_by_openvinos_name(plugin, wanted, name):
    """The first of two GPUs, unless the second is named."""
    plugin(offered("GPU.1"), offered("GPU.0"), offered("CPU"))
    assert openvino_plugin.device(wanted).ep_metadata["ov_device"] == name


def test_a_device_that_is_not_offered_stops_the_plan(plugin, tmp_path):
    """DEVICE=openvino:GPU on a machine without one, before anything is loaded."""
    plugin(offered("CPU"))
    graph = write_model(tmp_path / "tiny") / "text_int8.onnx"
    with pytest.raises(ProviderUnavailable, match="OpenVINO offers no device GPU on this machine, only CPU"):
        GraphSession(graph, planned("GPU"))


def test_another_provider_in_its_place_is_an_error(plugin, tmp_path, monkeypatch):
    """The session is opened on the named device; where onnxruntime uses another, the plan is refused."""
    (device,) = (one for one in onnxruntime.get_ep_devices() if one.ep_name == CPU)
    plugin(offered("CPU"))
    available_providers()
    monkeypatch.setattr(openvino_plugin, "device", lambda wanted: device)
    graph = write_model(tmp_path / "tiny") / f"{Tower.TEXT}_int8.onnx"
    with pytest.raises(ProviderUnavailable, match=f"onnxruntime uses {CPU} in place of {OPENVINO}"):
        GraphSession(graph, planned())
