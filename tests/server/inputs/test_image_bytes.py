"""Image bytes within limits: every accepted format, and hostile files."""

from __future__ import annotations

import base64
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageDraw

from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Squash, Tower, VisionTower
from siglip_edge.runtime.errors import ImageTooLarge, InvalidInput, UndecodableImage
from siglip_edge.runtime.execution.plan import Wishes, plan
from siglip_edge.runtime.execution.session import available_providers
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.images.formats import FORMATS
from siglip_edge.runtime.images.geometry import decoded_side
from siglip_edge.runtime.images.picture import Picture
from siglip_edge.runtime.images.pixels import PIXEL_VALUES, image_row
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.server.inputs import base64_images
from siglip_edge.server.inputs.image_bytes import ImageLimits
from tests.server.conftest import data_uri, png

MOST = 1_000_000
LIMITS = ImageLimits(max_bytes=1 << 20)


pillow_heif.register_heif_opener()


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_accepted_format_is_sniffed_and_decoded(kind):
    """Bare base64 of each format is seen to be an image, and its pixels are there."""
    data = encoded(kind)
    assert base64_images.looks_like_base64_image(base64.b64encode(data).decode())
    assert decode(data, max_pixels=MOST).image.size == (256, 256)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "EPS", "PCX"])
def test_other_formats_are_refused(kind):
    """No other plugin of Pillow is ever used."""
    with pytest.raises(UndecodableImage, match="JPEG, PNG"):
        decode(encoded(kind), max_pixels=MOST)


@pytest.mark.parametrize(
    "text", ["a cat", "BMW is a car maker, with many letters", "x" * 100, "GIF89a is a format, said the text", ""]
)
def test_texts_are_not_taken_for_images(text):
    """Only the base64 of a whole magic number counts."""
    assert not base64_images.looks_like_base64_image(text)


def test_pixels_are_counted_before_they_are_expanded():
    """A PNG that says 30 000 x 30 000 in a few hundred bytes is refused from its header, without the memory."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    tracemalloc.start()
    try:
        with pytest.raises(ImageTooLarge, match="30000 x 30000"):
            decode(bomb, max_pixels=MOST)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_base64_beyond_the_limit_is_refused_before_it_is_decoded():
    """The length of the base64 text is enough to refuse it."""
    with pytest.raises(ImageTooLarge):
        base64_images.from_base64("A" * 2_000_000, LIMITS)


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_files_are_refused(kind):
    """A file cut in half is an error, never a half-grey picture."""
    data = encoded(kind)
    with pytest.raises(UndecodableImage):
        decode(data[: len(data) // 2], max_pixels=MOST)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=20))
def test_damaged_files_are_decoded_or_refused(kind, damage):
    """Whatever bytes are changed, the outcome is an image or InvalidInput: nothing else escapes."""
    data = bytearray(encoded(kind))
    for place, value in damage:
        data[int(place * len(data))] = value
    try:
        image = decode(bytes(data), max_pixels=MOST, target=16).image
    except InvalidInput:
        return
    assert image.width * image.height <= MOST


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_embeds(client, mode):
    """Bilevel, grey, palette, alpha and 16-bit pictures all give an embedding."""
    picture = png(color=1, mode=mode) if mode in {"1", "L", "P", "I;16"} else png(color="red", mode=mode)
    answer = client.simulate_post("/v1/embeddings", json={"input": data_uri(picture)})
    assert answer.status_code == 200, answer.text


def test_exif_orientation_is_applied(client):
    """A rotated photograph with its orientation tag embeds as the upright one."""
    upright = Image.new("RGB", (20, 10), "red")
    upright.paste("blue", (0, 0, 5, 5))
    turned, exif = upright.rotate(90, expand=True), Image.Exif()
    exif[0x0112] = 6  # to be shown turned 90 degrees clockwise

    def embedding(image: Image.Image, **save) -> list[float]:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", **save)
        body = client.simulate_post("/v1/embeddings", json={"input": data_uri(buffer.getvalue())}).json
        return body["data"][0]["embedding"]

    assert embedding(turned, exif=exif) == embedding(upright) != embedding(turned)


def test_what_raises_on_one_picture_refuses_that_picture(client, fake, caplog):
    """Its neighbours live, and the log names no byte of it."""

    def prepare_image(picture, max_patches):
        if Picture.of(picture).image.size == (7, 7):
            raise RuntimeError("caller's bytes")
        return image_row(picture, fake.manifest.vision)

    fake.prepare_image = prepare_image
    inputs = [data_uri(png("red")), data_uri(png("red", size=(7, 7)))]
    answer = client.simulate_post("/v1/embeddings", json={"input": inputs, "on_error": "null"})
    good, bad = answer.json["data"]
    assert len(good["embedding"]) == 12
    assert bad["error"]["param"] == "input[1]"
    assert client.simulate_post("/v1/embeddings", json={"input": inputs}).status_code == 400
    assert "RuntimeError" in caplog.text
    assert "caller's" not in caplog.text


SPEC = VisionTower(
    geometry=Squash(size=64, patch_size=16), resample="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3, artifacts={}
)


def jpeg(width: int, height: int, mode: str = "RGB", **save) -> bytes:
    """A picture of disks in many colours, with edges in every direction and content in every corner."""
    rng = np.random.default_rng(0)
    picture = Image.new("RGB", (width, height))
    for x, y, *color in rng.integers(0, 256, (300, 5)):
        radius, left, top = width // 16, x * width // 256, y * height // 256
        disk = (left - radius, top - radius, left + radius, top + radius)
        ImageDraw.Draw(picture).ellipse(disk, tuple(map(int, color)))
    buffer = io.BytesIO()
    picture.convert(mode).save(buffer, "JPEG", quality=95, **save)
    return buffer.getvalue()


def rows(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """As the server decodes it, and in full."""
    scaled, exact = decode(data, max_pixels=MOST, target=decoded_side(SPEC.geometry)), decode(data, max_pixels=MOST)
    assert max(scaled.image.size) < max(exact.image.size)
    assert exact.box is None
    return pixels_of(scaled), pixels_of(exact)


def pixels_of(decoded: Picture) -> np.ndarray:
    """(3, size, size), signed, so that differences can be taken."""
    return image_row(decoded, SPEC).arrays[PIXEL_VALUES].astype(int)


def test_a_large_jpeg_is_decoded_at_a_fraction():
    """Never below the margin on either side; a smaller JPEG, or one of which no target is known, as it is."""
    assert decode(jpeg(1000, 640), max_pixels=MOST, target=64).image.size == (250, 160)
    assert decode(jpeg(1000, 639), max_pixels=MOST, target=64).image.size == (
        500,
        320,
    )  # a quarter would be 159.75 high
    for small in (decode(jpeg(1000, 319), max_pixels=MOST, target=64), decode(jpeg(1000, 640), max_pixels=MOST)):
        assert small.image.size[0] == 1000
        assert small.box is None


@pytest.mark.parametrize("width", [700, 701, 702, 703])
@pytest.mark.parametrize("height", [900, 901, 902, 903])
def test_a_fraction_that_does_not_divide_the_sides_shifts_nothing(width, height):
    """libjpeg rounds a quarter of 701 pixels up to 176: the row is that of the 175.25 that there are."""
    scaled, exact = rows(jpeg(width, height))
    assert np.abs(scaled - exact).mean() < 0.6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_jpeg_is_turned_as_its_exif_says(orientation):
    """The last column and row, which are part of a pixel, end up at any of the four edges."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    scaled, exact = rows(jpeg(701, 901, exif=exif))
    assert np.abs(scaled - exact).mean() < 0.6


@pytest.mark.parametrize(("mode", "save"), [("L", {}), ("CMYK", {}), ("RGB", {"progressive": True})])
def test_every_kind_of_jpeg_is_scaled_alike(mode, save):
    """Grey, print and progressive files lose no more than others."""
    scaled, exact = rows(jpeg(701, 901, mode, **save))
    assert np.abs(scaled - exact).mean() < 0.6


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP16])
def test_scaled_decoding_keeps_the_embedding(model_dir, photographs, precision):
    """On photographs the cosine between the scaled and the exact path is at least 0.999."""
    manifest = Manifest.load(model_dir)
    execution = plan(available_providers(), read_cpu_budget(), manifest, Wishes(precision=precision))
    model = EmbeddingModel.load(model_dir, execution, towers=[Tower.VISION])
    files = [photo.read_bytes() for photo in photographs]
    exact = embed(model, [decode(file, max_pixels=MOST) for file in files])
    scaled = embed(
        model, [decode(file, max_pixels=MOST, target=decoded_side(manifest.vision.geometry)) for file in files]
    )
    assert (exact * scaled).sum(axis=1).min() >= 0.999


def embed(model: EmbeddingModel, pictures: list[Picture]) -> np.ndarray:
    return model.run(Tower.VISION, [model.prepare_image(picture) for picture in pictures])
