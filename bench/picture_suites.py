"""Public suites of test pictures, sent file by file to a running server.

    python -m siglip_edge.bench.picture_suites http://127.0.0.1:8000 MODEL FOLDER [FOLDER ...]

Prints how many files got which status, every answer of 500 or more, every picture that Pillow opens and the
server refuses, and every vector whose cosine to an independent decode is below 0.995. The independent decode is
libvips's where `pyvips` is installed and reads the file (orientation, profile to sRGB, white below transparency), else
Pillow's with the same steps in full size. CONTRIBUTING.md has the commands that fetch the suites.
"""

from __future__ import annotations

import argparse
import base64
import io
import resource
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pillow_heif
from PIL import Image, ImageCms, ImageOps

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.open_model import open_model

ALIKE = 0.995
_PICTURES = frozenset({
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp"),
    *(".tif", ".tiff", ".avif", ".avifs", ".heic", ".heics", ".heif", ".hif"),
})  # fmt: skip
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
_TIMEOUT_S = 120
_MOST_PIXELS, _MOST_MEMORY = 64_000_000, 8 << 30


@dataclass
class Findings:
    statuses: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Of refusals."""
    failures: list[str] = field(default_factory=list)
    """Answers of 500 or more."""
    refused: list[str] = field(default_factory=list)
    """Pictures that Pillow opens."""
    cosines: list[float] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    unread: int = 0
    """Pictures that the server embeds and that no independent decoder reads."""


def files(folders: list[Path]) -> Iterator[Path]:
    """Every picture, by its suffix; also broken ones."""
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _PICTURES and path.is_file())


def try_file(client: httpx.Client, model: EmbeddingModel, path: Path, findings: Findings) -> None:
    data = path.read_bytes()
    answer = client.post("/v1/embeddings", json={"input": [{"image": base64.b64encode(data).decode()}]})
    findings.statuses[answer.status_code] += 1
    if answer.status_code >= 500:
        findings.failures.append(f"{path}: {answer.status_code} {answer.text[:200]}")
    elif answer.status_code == 200:
        compare(model, path, data, np.array(answer.json()["data"][0]["embedding"], np.float32), findings)
    else:
        message = answer.json()["error"]["message"]
        findings.reasons[message[:100]] += 1
        if (how := opens_in_pillow(data)) is not None:
            findings.refused.append(f"{path} ({how}): {message}")


def compare(model: EmbeddingModel, path: Path, data: bytes, vector: np.ndarray, findings: Findings) -> None:
    how, image = by_libvips(data)
    if image is None:
        how, image = "Pillow", by_pillow(data)
    if image is None:
        findings.unread += 1
        return
    row = model.prepare_image(image)
    cosine = float(model.run(Tower.VISION, [row])[0] @ vector)
    findings.cosines.append(cosine)
    if cosine < ALIKE:
        findings.different.append(f"{cosine:.4f} {path} ({how}, {image.width} x {image.height})")


def opens_in_pillow(data: bytes) -> str | None:
    """Mode and size, or None. One format after another, as a script with Pillow would do it."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            image.load()
            return f"{image.format} {image.mode} {image.width} x {image.height}"
    except Exception:  # noqa: BLE001 - of hostile files
        return None


def by_pillow(data: bytes) -> Image.Image | None:
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        profile = image.info.get("icc_profile")
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            upright = Image.fromarray((np.asarray(upright) / 257).round().astype(np.uint8))
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        return _in_srgb(upright, profile)
    except Exception:  # noqa: BLE001 - of hostile files
        return None


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode not in {"L", "RGB", "CMYK"}:
        image = image.convert("RGB")
    if profile:
        try:
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB") or image
        except (ImageCms.PyCMSError, OSError):
            pass
    return image.convert("RGB")


def by_libvips(data: bytes) -> tuple[str, Image.Image | None]:
    try:
        import pyvips
    except ImportError:
        return "", None
    try:
        return "libvips", _vips_picture(
            pyvips.Image.new_from_buffer(data, "", access="sequential", fail_on="truncated")
        )
    except pyvips.Error:
        return "", None


def _vips_picture(image: Any) -> Image.Image:
    image = image.copy_memory().autorot()
    if image.get_typeof("icc-profile-data"):
        image = image.icc_transform("srgb", embedded=True, intent="perceptual")
    image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=[255, 255, 255])
    samples = image.cast("uchar").numpy().reshape(image.height, image.width, image.bands)
    return Image.fromarray(samples if image.bands == 3 else samples[..., 0]).convert("RGB")


def report(findings: Findings) -> Iterator[str]:
    total = sum(findings.statuses.values())
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(findings.statuses.items()))
    yield f"{total} files: {statuses}; {len(findings.failures)} x 5xx"
    yield from findings.failures
    yield "refusals by their sentence:"
    yield from (f"  {count:4} {reason}" for reason, count in findings.reasons.most_common())
    yield f"{len(findings.refused)} that Pillow opens are refused"
    yield from (f"  {line}" for line in findings.refused)
    alike = sum(cosine >= ALIKE for cosine in findings.cosines)
    yield f"{len(findings.cosines)} compared with an independent decode: {alike} at {ALIKE} or more"
    yield f"{findings.unread} that no independent decoder reads"
    yield from (f"  {line}" for line in sorted(findings.different))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server")
    parser.add_argument("model", type=Path, help="the directory that the server serves")
    parser.add_argument("folders", type=Path, nargs="+")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS // 2  # Pillow raises at twice its limit
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))  # the suites have bombs
    model = open_model(args.model, Wishes(device="cpu"), towers=[Tower.VISION])
    findings = Findings()
    with httpx.Client(base_url=args.server, timeout=_TIMEOUT_S) as client:
        for path in files(args.folders):
            try_file(client, model, path, findings)
    print(*report(findings), sep="\n")


if __name__ == "__main__":
    main()
