"""An embedded colour profile decides what the samples mean, where the model's contract says so."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pillow_heif
import pytest
from msgspec.structs import replace
from PIL import Image, ImageCms

from siglip_edge.bench import icc_profiles as icc
from siglip_edge.runtime.artifacts.manifest import ColorProfiles, Manifest, Precision, Squash, Tower, VisionTower
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.images import profiles
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.images.geometry import decoded_side
from siglip_edge.runtime.images.picture import Picture
from siglip_edge.runtime.images.pixels import image_row
from siglip_edge.runtime.open_model import open_model
from tests.server.conftest import ROOT

pillow_heif.register_heif_opener()

IGNORING = VisionTower(
    geometry=Squash(size=64, patch_size=16), resample="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3, artifacts={}
)
CONVERTING = replace(IGNORING, color_profiles=ColorProfiles.TO_SRGB)
P3 = icc.rgb_profile(icc.DISPLAY_P3)
RGB_PROFILES = [(icc.DISPLAY_P3, None), (icc.ADOBE_RGB, 2.2), (icc.PROPHOTO, 1.8)]


def colors() -> Image.Image:
    """4096 colours, a pixel each, in the size of the towers, so that no filter mixes them."""
    steps = np.arange(0, 256, 17)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(64, 64, 3).astype(np.uint8))


def pixels(picture: Picture, spec: VisionTower = CONVERTING) -> np.ndarray:
    """(size, size, 3)."""
    return image_row(picture, spec).arrays["pixel_values"].transpose(1, 2, 0).astype(int)


def in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """As LittleCMS converts the whole picture."""
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB")
    assert converted is not None
    return converted


def with_profile(image: Image.Image, profile: bytes) -> Picture:
    return Picture(image=image, profile=profile)


@pytest.mark.parametrize(("colorants", "gamma"), RGB_PROFILES)
def test_colors_are_those_of_the_definitions(colorants, gamma):
    """Linear light, XYZ, linear light, the curve of sRGB: within one and a half of 255."""
    converted = pixels(with_profile(colors(), icc.rgb_profile(colorants, gamma)))
    expected = icc.to_srgb(np.asarray(colors()), colorants, gamma)
    assert np.abs(converted - expected).max() <= 1.5
    assert np.abs(converted - np.asarray(colors())).max() > 30


def test_a_profile_of_srgb_changes_no_bit():
    """Whoever wrote it: ours, and that of LittleCMS."""
    theirs = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (icc.rgb_profile(icc.SRGB), theirs):
        assert profiles.to_srgb(profile, "RGB") is None
        assert np.array_equal(pixels(with_profile(colors(), profile)), np.asarray(colors()))


def test_a_contract_that_ignores_profiles_ignores_them():
    """So that models exported before keep their vectors."""
    assert np.array_equal(pixels(with_profile(colors(), P3), IGNORING), np.asarray(colors()))


@pytest.mark.parametrize(
    "profile", [b"", b"nothing", P3[:200], b"\0" * 4096, icc.cmyk_profile(), icc.grey_profile(2.2)]
)
def test_a_profile_that_cannot_be_used_is_ignored(profile):
    """Cut short, zeros, or of another kind of picture: pixels decide."""
    assert np.array_equal(pixels(with_profile(colors(), profile)), np.asarray(colors()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_every_format_that_has_profiles_gives_its_profile(kind):
    """Also one that is longer than a segment of JPEG."""
    for profile in (P3, P3 + bytes(200_000)):
        file = io.BytesIO()
        colors().save(file, kind, icc_profile=profile)
        assert decode(file.getvalue()).profile == profile


def test_print_is_converted_by_its_profile():
    """As LittleCMS does it for the whole picture; the naive conversion is far off."""
    ink = colors().convert("CMYK")
    expected = in_srgb(ink, icc.cmyk_profile())
    converted = pixels(with_profile(ink, icc.cmyk_profile()))
    assert np.array_equal(converted, np.asarray(expected))
    assert np.abs(converted - pixels(with_profile(ink, icc.cmyk_profile()), IGNORING)).mean() > 20


def test_grey_is_converted_by_a_profile_of_grey_or_of_rgb():
    """A grey picture in an RGB space has equal samples of red, green and blue."""
    grey = Image.linear_gradient("L").resize((64, 64))
    light = np.asarray(grey) / 255.0
    for profile, gamma in ((icc.grey_profile(1.8), 1.8), (icc.rgb_profile(icc.PROPHOTO, 1.8), 1.8)):
        expected = icc.to_srgb(np.stack([255 * light] * 3, -1), icc.SRGB, gamma)
        assert np.abs(pixels(with_profile(grey, profile)) - expected).max() <= 3


def test_transparent_is_white_under_every_profile():
    clear = Image.new("RGBA", (9, 5), (200, 10, 10, 0))
    assert (pixels(with_profile(clear, icc.rgb_profile(icc.PROPHOTO, 1.8))) == 255).all()


def test_threads_share_transforms_and_get_the_same_bits():
    """And only the last few transforms are kept."""
    made = [icc.rgb_profile(icc.ADOBE_RGB, gamma) for gamma in np.linspace(1.2, 2.6, 12)]
    pictures = [with_profile(colors(), profile) for profile in made]
    expected = [pixels(picture) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        for seen, wanted in zip(pool.map(pixels, pictures * 10), expected * 10, strict=True):
            assert np.array_equal(seen, wanted)
    assert len(profiles._kept._transforms) == profiles._KEPT


@pytest.mark.parametrize(
    ("profile", "mode"),
    [(P3, "RGB"), (icc.rgb_profile(icc.ADOBE_RGB, 2.2), "RGB"), (icc.cmyk_profile(), "CMYK")],
    ids=["Display P3", "Adobe", "CMYK"],
)
def test_photographs_embed_as_a_careful_decode_of_them(photographs, profile, mode):
    """Cosine of at least 0.999 to the picture that is decoded in full and converted before anything else."""
    directory = ROOT / "quantized_models/emoji-siglip"
    model = open_model(directory, Wishes(device="cpu", precision=Precision.FP16), towers=[Tower.VISION])
    vision = Manifest.load(directory).vision
    served, careful = [], []
    for path in photographs:
        file = io.BytesIO()
        with Image.open(path) as photograph:
            photograph.convert(mode).save(file, "JPEG", quality=92, icc_profile=profile)
        data = file.getvalue()
        served.append(decode(data, target=decoded_side(vision.geometry), profiles=vision.color_profiles))
        careful.append(in_srgb(Image.open(file), profile))
    cosines = np.sum(model.embed_images(served) * model.embed_images(careful), axis=1)
    assert cosines.min() >= 0.999
