"""What a session is opened with."""

import json

import pytest

from runtime.manifest import Precision
from runtime.providers import CPU, CUDA, OPENVINO, ExecutionPlan
from runtime.session import provider_options


def options(provider: str, **given: str) -> dict[str, str]:
    return provider_options(
        ExecutionPlan(
            provider=provider,
            provider_options=given,
            precision=Precision.INT8,
            intra_op_threads=3,
            rows_per_run=1,
            reason="test",
        )
    )


def test_openvino_on_the_cpu_gets_the_planned_threads():
    """It starts its own, as many as the host has cores, unless it is told; unpinned, in float32."""
    given = options(OPENVINO, device_type="CPU")
    assert (given["device_type"], given["num_of_threads"]) == ("CPU", "3")
    assert json.loads(given["load_config"]) == {"CPU": {"ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32"}}


@pytest.mark.parametrize(
    ("provider", "given"), [(OPENVINO, {"device_type": "GPU"}), (CUDA, {"device_id": "1"}), (CPU, {})]
)
def test_elsewhere_the_plans_own_options_are_all(provider, given):
    assert options(provider, **given) == given
