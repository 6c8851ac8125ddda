"""An image is resized, cropped and cut as the reference processor of each family does it."""

import io
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessor, Siglip2ImageProcessor
from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches

from siglip_edge.runtime.artifacts.manifest import Geometry, Patches, ShortestSideCrop, Squash, VisionTower
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.images.geometry import cut, decoded_side, decoded_size, size_for
from siglip_edge.runtime.images.picture import Picture
from siglip_edge.runtime.images.pixels import image_row

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SHAPES = [(640, 480), (30, 400), (224, 224), (1, 1), (1000, 3), (333, 500), (57, 56)]
ROTATIONS = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}


def tower(geometry: Geometry, resample: str) -> VisionTower:
    return VisionTower(geometry=geometry, resample=resample, mean=MEAN, std=STD, artifacts={})


CLIP = tower(ShortestSideCrop(shortest_side=64, size=56, patch_size=8), "bicubic")
NAFLEX = tower(Patches(patch_size=16, default_patches=64, most_patches=256), "bilinear")


def noise(width: int, height: int) -> Image.Image:
    """Every pixel, row and channel differs, so that no flip, crop or swap goes unseen; no filter has to clip."""
    samples = np.random.default_rng(width * height).integers(64, 192, (height, width, 3), np.uint8)
    samples[..., 0] = np.linspace(64, 191, width, dtype=np.uint8)
    return Image.fromarray(samples)


def rotated(image: Image.Image, orientation: int) -> Image.Image:
    """The image, from a file with this EXIF orientation."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(file, "PNG", exif=exif)
    return Image.open(file)


def clip_reference(image: Image.Image) -> np.ndarray:
    """CLIPImageProcessor's values as the bytes that they came from, (3, size, size)."""
    processor = CLIPImageProcessor(
        size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}, resample=3, image_mean=MEAN, image_std=STD
    )
    values = processor(image, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    return (values * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))) * 255


def naflex_reference(image: Image.Image, most: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Siglip2ImageProcessor's patches as the bytes that they came from, and their grid."""
    processor = Siglip2ImageProcessor(patch_size=16, max_num_patches=most, resample=2, image_mean=MEAN, image_std=STD)
    made = processor(image, return_tensors="np", input_data_format="channels_last")
    patches = made["pixel_values"][0][made["pixel_attention_mask"][0] == 1]
    return (patches.reshape(len(patches), -1, 3) * STD + MEAN).reshape(len(patches), -1) * 255, made["spatial_shapes"][
        0
    ]


def clip_pixels(image: Image.Image, box=None) -> np.ndarray:
    return image_row(replace(Picture.of(image), box=box), CLIP).arrays["pixel_values"]


@pytest.mark.parametrize("size", SHAPES)
def test_the_shortest_side_and_the_centre_are_clips(size):
    """Equal to transformers within a 255th on any shape."""
    image = noise(*size)
    assert clip_pixels(image).shape == (3, 56, 56)
    assert np.abs(clip_pixels(image) - clip_reference(image)).max() <= 1.001


def test_photographs_are_cropped_as_clip_crops_them(photographs):
    """The texture and the noise of a camera."""
    for path in photographs:
        with Image.open(path) as image:
            assert np.abs(clip_pixels(image) - clip_reference(image.convert("RGB"))).max() <= 1.001


@pytest.mark.parametrize("size", [(4000, 40), (40, 4000), (1700, 100)])
def test_a_strip_is_cropped_as_clip_crops_it(size):
    """Only the part in the centre is resized, to the same pixels."""
    image = noise(*size)
    assert np.abs(clip_pixels(image) - clip_reference(image)).max() <= 1.001


def test_a_long_strip_takes_little_memory(monkeypatch):
    """Nothing larger than the crop is ever made of a strip of 200 000 x 2 pixels."""
    made, resize = [], Image.Image.resize

    def noted(self, size, *rest, **more):
        made.append(size)
        return resize(self, size, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", noted)
    clip_pixels(Image.new("RGB", (200_000, 2)))
    assert made == [(56, 56)]


@pytest.mark.parametrize("orientation", ROTATIONS)
@pytest.mark.parametrize("size", [(120, 90), (70, 200)])
def test_a_rotated_photograph_is_cropped_as_it_is_seen(orientation, size):
    image = noise(*size)
    upright = image.transpose(ROTATIONS[orientation])
    assert np.abs(clip_pixels(rotated(image, orientation)) - clip_reference(upright)).max() <= 1.001


@pytest.mark.parametrize("orientation", [1, *ROTATIONS])
@pytest.mark.parametrize("box", [(0, 0, 150, 99), (10, 5, 80, 190), (3, 3, 190, 190)])
def test_the_part_in_a_box_is_cropped_as_a_picture_of_its_own(orientation, box):
    """The box lies in the file's own directions."""
    image = noise(200, 200)
    part = image.crop(box)
    expected = clip_reference(part.transpose(ROTATIONS[orientation]) if orientation != 1 else part)
    assert np.abs(clip_pixels(rotated(image, orientation), box) - expected).max() <= 1.001


def test_a_size_of_patches_is_siglip2s():
    """On a thousand shapes, and on those that are all width or all height."""
    rng = np.random.default_rng(0)
    shapes = [*rng.integers(1, 4000, (1000, 2)).tolist(), (1, 9000), (9000, 1), (1, 1), (256, 256)]
    for number, (width, height) in enumerate(shapes):
        patch_size, most = ((16, 256), (14, 729), (16, 64), (32, 1))[number % 4]
        reference = get_image_size_for_max_num_patches(height, width, patch_size, most)
        assert (
            size_for((width, height), Patches(patch_size=patch_size, default_patches=most, most_patches=most))
            == reference[::-1]
        )


@pytest.mark.parametrize("size", SHAPES)
def test_patches_are_siglip2s(size):
    """Their order, the order inside a patch and the grid; within a 255th on any shape."""
    image = noise(*size)
    row = image_row(image, NAFLEX)
    patches, grid = naflex_reference(image)
    assert row.arrays["grid"].tolist() == grid.tolist()
    assert row.arrays["patches"].shape == patches.shape
    assert np.abs(row.arrays["patches"] - patches).max() <= 1.001


@pytest.mark.parametrize("most", [1, 7, 64, 100, 128, 256, 333, 1024])
def test_photographs_are_cut_as_siglip2_cuts_them(photographs, most):
    """At every number of patches that a request may ask for; within a 255th."""
    for path in photographs:
        with Image.open(path) as image:
            row, (patches, grid) = image_row(image, NAFLEX, most), naflex_reference(image.convert("RGB"), most)
        assert row.arrays["grid"].tolist() == grid.tolist()
        assert np.abs(row.arrays["patches"] - patches).max() <= 1.001


def test_a_large_jpeg_is_decoded_at_a_fraction_by_the_patches_that_are_asked_for():
    """Fewer patches need fewer pixels: the same file at 1/8, 1/4, 1/2 or in full, and never at less than the row has."""
    file = io.BytesIO()
    noise(1600, 1200).save(file, "JPEG")
    sides = []
    for most in (16, 64, 256, 1024):
        target = partial(decoded_size, geometry=NAFLEX.geometry, max_patches=most)
        picture = decode(file.getvalue(), target=target)
        sides.append(picture.image.width)
        assert picture.image.width >= 2.5 * size_for((1600, 1200), NAFLEX.geometry, most)[0] or sides[-1] == 1600
        exact, scaled = (image_row(one, NAFLEX, most) for one in (decode(file.getvalue()), picture))
        assert exact.shape_key == scaled.shape_key
        assert np.array_equal(exact.arrays["grid"], scaled.arrays["grid"])
    assert sides == [200, 400, 800, 1600]


@pytest.mark.parametrize("orientation", ROTATIONS)
def test_a_rotated_photograph_is_cut_as_it_is_seen(orientation):
    """A tall picture that is stored lying has a tall grid."""
    image = noise(300, 100)
    patches, grid = naflex_reference(image.transpose(ROTATIONS[orientation]))
    row = image_row(rotated(image, orientation), NAFLEX)
    assert row.arrays["grid"].tolist() == grid.tolist()
    assert np.abs(row.arrays["patches"] - patches).max() <= 1.001


def test_a_row_of_patches_costs_what_it_has():
    """Pictures of one grid can share a run, others cannot."""
    wide, as_wide, tall = (image_row(noise(*size), NAFLEX) for size in ((400, 200), (800, 400), (200, 400)))
    assert wide.cost == len(wide.arrays["patches"]) <= 64
    assert wide.shape_key == as_wide.shape_key
    assert image_row(noise(640, 10), NAFLEX).shape_key != wide.shape_key
    assert wide.arrays["grid"].tolist() == tall.arrays["grid"].tolist()[::-1]


def test_a_patch_holds_its_rows_one_after_the_other_and_channels_last():
    """Bytes 0 to 2 are its upper left pixel."""
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    patches, grid = cut(pixels, 2)
    assert grid.tolist() == [2, 3]
    assert np.array_equal(patches[0], [*pixels[0, 0], *pixels[0, 1], *pixels[1, 0], *pixels[1, 1]])
    assert np.array_equal(patches[4], pixels[2:4, 2:4].ravel())


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("geometry", [CLIP.geometry, NAFLEX.geometry, Squash(size=48, patch_size=16)])
def test_an_image_decoded_at_its_least_side_is_never_enlarged(geometry, size):
    """A JPEG may be decoded at a fraction of its size as long as its shortest side has so many pixels."""
    scale = max(1.0, decoded_side(geometry) / min(size))
    width, height = size[0] * scale, size[1] * scale
    target = size_for((width, height), geometry)
    assert target[0] <= width + 1e-9 or target[1] <= height + 1e-9
