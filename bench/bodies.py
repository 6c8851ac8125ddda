"""Bodies of requests, mostly prepared before a measurement. Each request number gives a different input."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

Body = Callable[[int], bytes]
"""Request number -> the JSON body."""

_NUMBER_BYTES = 9  # a multiple of 3, because base64 encodes groups of 3 bytes apart


def body_of(kind: str, photos: Path | None) -> Body:
    """`kind`: texts, images, mixed (a text and an image in turn), or same (always one text)."""
    if kind == "texts":
        return text_body
    if kind == "same":
        return lambda number: text_body(0)  # noqa: ARG005
    image_body = image_bodies(photos)
    return image_body if kind == "images" else lambda number: (image_body if number % 2 else text_body)(number)


def text_body(number: int) -> bytes:
    return b'{"input": "photograph number %d of a cat on a chair", "encoding_format": "base64"}' % number


@cache
def image_bodies(photos: Path | None) -> Body:
    """Request n -> a photograph, followed by n: JPEG decoders ignore bytes after the end of the image."""
    encoded = [base64.b64encode(_whole_groups(data)) for data in jpegs(photos)]

    def body(number: int) -> bytes:
        unique = base64.b64encode(number.to_bytes(_NUMBER_BYTES))
        image = encoded[number % len(encoded)] + unique
        return b'{"input": "data:image/jpeg;base64,' + image + b'", "modality": "image", "encoding_format": "base64"}'

    return body


@cache
def jpegs(photos: Path | None) -> tuple[bytes, ...]:
    """-> the files *.jpg of a folder. None: eight made-up pictures of 640 x 480 pixels."""
    if photos is None:
        return tuple(_made_up(seed) for seed in range(8))
    return tuple(path.read_bytes() for path in sorted(photos.glob("*.jpg")))


def _whole_groups(data: bytes) -> bytes:
    return data + bytes(-len(data) % 3)


def _made_up(seed: int) -> bytes:
    """-> a JPEG of blurred patches with noise, with about as many bytes as a photograph of its size."""
    from PIL import Image, ImageChops

    rng = random.Random(seed)
    patches = Image.frombytes("RGB", (16, 12), rng.randbytes(16 * 12 * 3)).resize((640, 480), Image.Resampling.BICUBIC)
    grain = Image.effect_noise((640, 480), 24).convert("RGB")
    file = io.BytesIO()
    ImageChops.add(patches, grain, offset=-128).save(file, "JPEG", quality=90)
    return file.getvalue()
