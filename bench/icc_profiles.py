"""ICC profiles made from numbers, and the colours that they mean."""

import struct
from collections.abc import Mapping

import numpy as np

SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491))
"""XYZ of red, green and blue under D50."""

WHITE = (0.9642, 1.0, 0.8249)
_GRID = 5


def rgb_profile(colorants: tuple[tuple[float, float, float], ...], gamma: float | None = None) -> bytes:
    """`gamma` None: the curve of sRGB."""
    primaries = {name: _xyz(value) for name, value in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma))
    return _profile(b"mntr", b"RGB ", b"XYZ ", primaries | curves)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile() -> bytes:
    """Of a press with dull inks, as a table of L*a*b*."""
    steps = np.linspace(0, 1, _GRID)
    inks = np.stack(np.meshgrid(steps, steps, steps, steps, indexing="ij"), -1).reshape(-1, 4)
    light = (1 - inks[:, :3] @ np.array([[0.8, 0.3, 0.1], [0.1, 0.8, 0.3], [0.0, 0.1, 0.85]])).clip(0.03, 1)
    light *= 1 - 0.93 * inks[:, 3:]
    table = _encoded(_lab(light**2.2 @ np.array(SRGB)))
    identity = struct.pack(">2H", 0, 65535)
    matrix = struct.pack(">9i", *(65536 if at % 4 == 0 else 0 for at in range(9)))
    lut = b"mft2" + bytes(4) + bytes((4, 3, _GRID, 0)) + matrix + struct.pack(">2H", 2, 2) + identity * 4
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut + table.astype(">u2").tobytes() + identity * 3})


def to_srgb(rgb: np.ndarray, colorants: tuple[tuple[float, float, float], ...], gamma: float | None) -> np.ndarray:
    """(..., 3) uint8 of a profile -> sRGB as float, by the definitions alone: to linear light, XYZ, and back."""
    encoded = rgb / 255.0
    linear = (
        encoded**gamma if gamma else np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    )
    light = (linear @ np.array(colorants) @ np.linalg.inv(np.array(SRGB))).clip(0, 1)
    return np.asarray(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


def _lab(xyz: np.ndarray) -> np.ndarray:
    scaled = xyz / np.array(WHITE)
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)


def _encoded(lab: np.ndarray) -> np.ndarray:
    """As `mft2` of version 2 has it: 100 is 0xFF00, and a, b begin at -128."""
    return np.asarray(np.rint((lab * [652.8, 256, 256] + [0, 32768, 32768]).clip(0, 65535)))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    named = {b"desc": _text(b"desc"), b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(WHITE), **tags}
    table, body, start = struct.pack(">I", len(named)), b"", 128 + 4 + 12 * len(named)
    for name, content in named.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    return (head + struct.pack(">3i", 63190, 65536, 54061)).ljust(128, b"\0") + table + body


def _text(name: bytes) -> bytes:
    return b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name + bytes(1 + 4 + 4 + 2 + 1 + 67)


def _xyz(value: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * one) for one in value))


def _curve(gamma: float | None) -> bytes:
    if gamma:
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * gamma)) + bytes(2)
    s = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + bytes(4) + struct.pack(">HH5i", 3, 0, *(round(65536 * one) for one in s))
