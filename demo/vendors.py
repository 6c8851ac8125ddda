"""Which packages the pictures and names come from: pinned versions, the licence each must carry, its part."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Part(Enum):
    """What a vendor's pictures may be used for."""

    SPLIT = "split"  # trained on; one picture in ten is held out
    TRAIN_ONLY = "train-only"  # flags alone: holding them out would make the score easier
    UNSEEN = "unseen"  # never trained on: naming these drawings is the honest test


@dataclass(frozen=True)
class Vendor:
    """One npm package of drawings. `licence` is the SPDX id that its own metadata must state."""

    name: str
    package: str
    version: str
    licence: str
    author: str
    part: Part = Part.SPLIT

    @property
    def spec(self) -> str:
        return f"{self.package}@{self.version}"


NAMES = Vendor("emojibase", "emojibase-data", "17.0.0", "MIT", "Miles Johnson (CLDR names: Unicode, Inc.)")

VENDORS = (
    Vendor("noto", "@iconify-json/noto", "1.2.9", "Apache-2.0", "Google Inc."),
    Vendor("noto-v1", "@iconify-json/noto-v1", "1.2.5", "Apache-2.0", "Google Inc."),
    Vendor("noto-font", "@fontsource/noto-emoji", "5.3.2", "OFL-1.1", "Google Inc."),
    Vendor("twemoji", "@iconify-json/twemoji", "1.2.5", "CC-BY-4.0", "Twitter, Inc. and other contributors"),
    Vendor("emojione", "@iconify-json/emojione", "1.2.3", "CC-BY-4.0", "EmojiOne"),
    Vendor("emojione-monotone", "@iconify-json/emojione-monotone", "1.2.1", "CC-BY-4.0", "EmojiOne"),
    Vendor("fluent-emoji", "@iconify-json/fluent-emoji", "1.2.7", "MIT", "Microsoft Corporation"),
    Vendor("fluent-emoji-flat", "@iconify-json/fluent-emoji-flat", "1.2.6", "MIT", "Microsoft Corporation"),
    Vendor(
        "fluent-emoji-high-contrast",
        "@iconify-json/fluent-emoji-high-contrast",
        "1.2.6",
        "MIT",
        "Microsoft Corporation",
    ),
    Vendor("fxemoji", "@iconify-json/fxemoji", "1.2.2", "Apache-2.0", "Mozilla"),
    Vendor("streamline-emojis", "@iconify-json/streamline-emojis", "1.2.4", "CC-BY-4.0", "Streamline"),
    Vendor("flag", "@iconify-json/flag", "1.2.12", "MIT", "Panayiotis Lipiridis", Part.TRAIN_ONLY),
    Vendor("flagpack", "@iconify-json/flagpack", "1.2.8", "MIT", "Yummygum", Part.TRAIN_ONLY),
    Vendor("openmoji", "@iconify-json/openmoji", "1.2.29", "CC-BY-SA-4.0", "OpenMoji", Part.UNSEEN),
)
