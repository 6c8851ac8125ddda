"""HEIF and AVIF: EXIF and XMP are hidden from the decoders, which refuse a file for a damaged one.

Both formats turn a picture by properties of their own (`irot`, `imir`), which the decoders apply; their standard says
that an orientation in EXIF counts for nothing.
"""

from __future__ import annotations

import re

from siglip_edge.runtime.images.containers.boxes import boxes
from siglip_edge.runtime.images.containers.contents import Contents

_NOTE = re.compile(rb"(infe[\x02\x03]...(?:..|....)..)(?:Exif|mime)", re.DOTALL)
"""An entry of the list of items that is EXIF or XMP: version, flags, item, protection, then its kind."""
_NOBODYS_KIND = rb"\g<1>free"


def read(data: bytes) -> Contents:
    for start, end in boxes(data, b"meta"):
        meta = _NOTE.sub(_NOBODYS_KIND, data[start:end])
        data = data[:start] + meta + data[end:]
    return Contents(pixels=data)
