"""Random checkpoints with outlier channels, as trained models have them."""

import pytest
import torch

from siglip_edge.bench.checkpoint import OUTLIER_CHANNELS, SIZES, plant_outliers, random_model


def reach(outliers: float) -> dict[str, torch.Tensor]:
    """-> largest magnitude per channel of the inputs of the first layer's linear layers, on noise."""
    model = random_model(SIZES["tiny"], 1_000, seed=0).eval()
    if outliers > 1:
        plant_outliers(model, outliers)
    seen: dict[str, torch.Tensor] = {}
    layer = model.vision_model.encoder.layers[0]
    for name, module in {"qkv": layer.self_attn.q_proj, "up": layer.mlp.fc1, "down": layer.mlp.fc2}.items():
        module.register_forward_pre_hook(
            lambda _, args, name=name: seen.update({name: args[0].abs().flatten(0, 1).amax(dim=0)})
        )
    with torch.no_grad():
        model.get_image_features(pixel_values=torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    return seen


@pytest.mark.parametrize("linear", ["qkv", "up", "down"])
def test_outliers_are_a_few_channels_tens_of_times_the_rest(linear):
    """In the residual stream and in the MLP; without the option there are none."""
    planted, plain = reach(50.0)[linear].sort().values, reach(1.0)[linear]
    assert planted[-OUTLIER_CHANNELS] > 8 * planted.median()
    assert plain.max() < 8 * plain.median()
