"""Pixels equal the reference processor's, whatever the picture's shape, mode or orientation."""

import numpy as np
import pytest
from PIL import Image
from transformers import SiglipImageProcessor

from siglip_edge.runtime.artifacts.manifest import Squash, VisionTower
from siglip_edge.runtime.errors import UnsupportedInput
from siglip_edge.runtime.images.pixels import image_row

SPEC = VisionTower(
    geometry=Squash(size=256, patch_size=16),
    resample="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    artifacts={},
)


def pixels(image: Image.Image) -> np.ndarray:
    """The bytes of its row."""
    return image_row(image, SPEC).arrays["pixel_values"]


@pytest.fixture(scope="module")
def processor():
    return SiglipImageProcessor(
        size={"height": 256, "width": 256}, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )


def gradient(width: int, height: int) -> Image.Image:
    """A picture in which every pixel, row and channel differs, so that no flip, crop or swap goes unseen."""
    rng = np.random.default_rng(width * height)
    samples = rng.integers(0, 256, (height, width, 3), np.uint8)
    samples[..., 0] = np.linspace(0, 255, width, dtype=np.uint8)
    return Image.fromarray(samples)


def reference(processor, rgb: Image.Image) -> np.ndarray:
    """The reference's normalised values as the bytes they came from."""
    values = processor(rgb, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    return (values * 0.5 + 0.5) * 255


@pytest.mark.parametrize("size", [(640, 480), (30, 400), (256, 256), (1, 1), (2000, 3)])
def test_pixels_equal_the_reference_processor(processor, size):
    """Squashed, never cropped: equal to transformers within a 255th on any shape."""
    image = gradient(*size)
    assert np.abs(pixels(image) - reference(processor, image)).max() <= 1.0


def test_photographs_equal_the_reference_processor(processor, photographs):
    """The texture and the noise of a camera, in pictures that are not square."""
    for path in photographs:
        with Image.open(path) as image:
            assert image.width != image.height
            assert np.abs(pixels(image) - reference(processor, image.convert("RGB"))).max() <= 1.0


@pytest.mark.parametrize(("orientation", "upright"), [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_270)])
def test_exif_orientation_is_applied(orientation, upright, tmp_path):
    """A rotated phone picture embeds as it is seen."""
    image = gradient(60, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "phone.png", exif=exif)
    with Image.open(tmp_path / "phone.png") as rotated:
        assert np.array_equal(pixels(rotated), pixels(image.transpose(upright)))


def test_alpha_is_laid_over_white():
    """Transparent is white, not whatever colour hides beneath."""
    clear = Image.new("RGBA", (9, 5), (200, 10, 10, 0))
    assert (pixels(clear) == 255).all()
    half = pixels(Image.new("RGBA", (9, 5), (0, 0, 0, 128)))
    assert abs(int(half[0, 0, 0]) - 127) <= 1


def test_a_transparent_palette_is_laid_over_white():
    """GIF and 8-bit PNG carry transparency as one palette index."""
    image = Image.new("P", (8, 4), 3)
    image.info["transparency"] = 3
    assert (pixels(image) == 255).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LA", "HSV"])
def test_every_mode_becomes_rgb(mode):
    """Grey, palette, print and video modes all give three channels."""
    image = gradient(33, 21).convert(mode)
    assert pixels(image).shape == (3, 256, 256)


def test_sixteen_bits_are_scaled_not_clipped():
    """A mid-grey 16-bit scan is mid-grey, not white."""
    scan = Image.fromarray(np.full((7, 5), 0x8080, np.uint16))
    assert (pixels(scan) == 0x80).all()


def test_floating_point_samples_are_refused():
    """No brightness is defined for them, and a guess would be a wrong vector."""
    with pytest.raises(UnsupportedInput, match="floating-point"):
        pixels(Image.fromarray(np.ones((4, 4), np.float32)))


def test_a_row_costs_as_many_patches_as_its_square_has():
    """All rows have one shape, so any of them can share a run."""
    wide, tall = image_row(gradient(60, 40), SPEC), image_row(gradient(4, 40), SPEC)
    assert (wide.cost, wide.shape_key) == (256, tall.shape_key)
    assert wide.arrays["pixel_values"].dtype == np.uint8
