"""Decides whether a plain string is a text or meant as an image. Pure: no file and no host is asked.

A text that is taken for an image is refused with a sentence that says how to send it. An image that is taken for a text
gets the vector of its name or of its base64, and nobody notices. So the rules see an image where they are in doubt.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from urllib.parse import unquote

from siglip_edge.server.inputs.base64_images import looks_like_base64_image
from siglip_edge.server.inputs.json_strings import inputs_in

_EDGES = " \t\r\n\v\f\0\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u3000\ufeff\u200b\u200c\u200d\u200e\u200f\u2060"
"""Blanks, line ends, byte order marks and invisible characters that editors and shells leave around a string."""

_PYTHON_BYTES = re.compile(r"""b(['"])[\w+/=-]+\1""", re.ASCII)
"""`str(base64.b64encode(data))` of Python, by accident."""

_QUOTES = {('"', '"'), ("'", "'"), ("<", ">")}

_HEADER_CHARS = 256
"""Longest header of a data URI."""
_MEDIA_TYPE = re.compile(r"(?:image|application|audio|video|text|font|model|binary|x-\w+)/", re.IGNORECASE | re.ASCII)
_LOST_SCHEME = re.compile(r"(?:[\w.+-]{1,64}/[\w.+-]{1,64};)?base64[,:]\s{0,9}", re.IGNORECASE | re.ASCII)
"""A data URI without its `data:`."""
_DATA_URI_INSIDE = re.compile(r"data:[^,\s]{0,256};base64,", re.IGNORECASE)
_BASE64 = re.compile(r"[\w+/=%-]*", re.ASCII)
_WORDS_CHARS = 4096
"""Longest text before the data URI that it leads to."""

_URL = re.compile(
    r"https?://|(?:ftps?|sftp|s3a?|gs|abfss?|smb|cifs|nfs|ipfs|hdfs|dbfs|oss|content)://\S|blob:https?:", re.IGNORECASE
)

_PATH_CHARS, _NAME_BYTES = 4096, 255
"""Longest path, and longest name in a path, that common file systems take."""
_SUFFIX = re.compile(
    r"[^\s./\\]\.(?:jpe?g|jpe|jfif|a?png|webp|gif|bmp|dib|tiff?|avifs?|hei[cf]s?|hif|mpo|svgz?|ico|psd|jp2|j2k|jxl|tga|pcx|"
    r"p[pgbn]m|qoi|cr[23]|nef|arw|dng|orf|rw2|raf|pef|srw)(?P<query>[?#][^\s?#]\S*)?$",
    re.IGNORECASE,
)
"""The end of an image file's name; other programs' formats too. A web address may go on with its query."""
_ADDRESS = re.compile(r"""[^\s<>"'()\[\]{}]+""")
_SCHEME = re.compile(r"[a-z][\w+.-]*://", re.IGNORECASE)
_ABSOLUTE = re.compile(
    r"file:[/\\]"
    r"|/(?:home|root|mnt|media|data|srv|tmp|var|opt|usr|etc|run|nfs|shares?|storage|sdcard|workspace|volumes?\d*|volumeusb\d*|photos?|pictures|users"
    r"|private)/\S+$"
    r"|~[\w.-]*/\S+$"
    r"|[a-z]:[/\\][^\s/\\]\S*$"
    r"|\\\\[\w.$-]+\\[\w.$-]+\S*$",
    re.IGNORECASE,
)
"""A `file:` URI, or a path from the top of a file system. `/r/aww` is none: its first folder is not a usual one."""

_RAW = re.compile(
    "[\x89\ufffd\u2030]PNG\r?\n|\xff\xd8\xff|\ufffd{3,4}.{0,2}(?:JFIF|Exif)|GIF8[79]a.{0,4}\0|RIFF.{4}WEBPVP8"
    r"|b['\"]\\x(?:89PNG|ff\\xd8)"
    r"|(?:0x)?(?:ffd8ff|89504e470d0a1a0a|474946383[79]61)[\da-f]{24}"
    r"|(?:<\?xml[^>]*>\s*)?(?:<!--.{0,500}?-->\s*|<!doctype[^>]*>\s*)*<svg[\s>].*</svg>$",
    re.IGNORECASE | re.DOTALL,
)
"""The bytes of an image file as characters, as Python prints them or in hexadecimal digits; the source of an SVG."""


_IMAGE_KEYS = {"image", "image_url", "image_base64"}


class Kind(Enum):
    TEXT = auto()
    DATA_URI = auto()
    BASE64 = auto()
    URL = auto()
    PATH = auto()
    UNREADABLE = auto()
    """Meant as an image, in a form that is not read."""


def cleaned(source: str) -> str:
    """The string without blanks around it, quotation marks around it, and Python's `b''`."""
    source = source.strip(_EDGES)
    if source[:1] == "b" and _PYTHON_BYTES.fullmatch(source):
        return source[2:-1]
    if (source[:1], source[-1:]) in _QUOTES and len(source) > 1 and source[0] not in source[1:-1]:
        return source[1:-1].strip(_EDGES)
    return source


def kind_of(text: str) -> Kind:
    """Judge a string as a caller sent it."""
    source = cleaned(text)
    if is_data_uri(source):
        return Kind.DATA_URI
    if _URL.match(source):
        return Kind.URL
    if looks_like_base64_image(without_lost_scheme(source)):
        return Kind.BASE64
    if _RAW.match(source) or _is_mostly_a_data_uri(source) or _is_input_object(source):
        return Kind.UNREADABLE
    return Kind.PATH if _is_path(source) else Kind.TEXT


def is_data_uri(source: str) -> bool:
    """`data:` with a media type or with base64. "data: 5 apples, 3 pears" is a text."""
    if source[:5].lower() != "data:":
        return False
    header, comma, _ = source[5:_HEADER_CHARS].partition(",")
    media_type, *parameters = (part.strip() for part in header.split(";"))
    if media_type[:6].lower() == "image/":
        return True
    is_base64 = "base64" in {word.lower() for word in (media_type, *parameters)}
    return bool(comma) and (is_base64 or not header or _MEDIA_TYPE.match(media_type) is not None)


def is_picture(text: str) -> bool:
    """Whether the string holds an image itself, as a data URI or as base64: to a model of texts it is no text."""
    source = cleaned(text)
    if not is_data_uri(source):
        return looks_like_base64_image(without_lost_scheme(source))
    header, _, payload = source.partition(",")
    return header[5:11].lower() == "image/" or looks_like_base64_image(payload[:_HEADER_CHARS])


def without_lost_scheme(source: str) -> str:
    """The base64 behind `image/png;base64,` or `base64,`; other strings as they are."""
    lost = _LOST_SCHEME.match(source)
    return source[lost.end() :] if lost else source


def is_name_or_path(source: str) -> bool:
    """Whether a file could be called so: one line, not too long."""
    return len(source) <= _PATH_CHARS and len(source.splitlines()) == 1


def may_be_path(source: str) -> bool:
    """Whether a file could have this path: a line with a separator."""
    return is_name_or_path(source) and ("/" in source or "\\" in source)


def _is_path(source: str) -> bool:
    if not is_name_or_path(source):
        return False
    return _ABSOLUTE.match(source) is not None or any(map(_ends_as_image, {source, unquote(source)}))


def _ends_as_image(source: str) -> bool:
    """A sentence may end so too: with a link inside it, or with a longer name than file systems take."""
    suffix = _SUFFIX.search(source)
    if suffix is None or (suffix["query"] and not _ADDRESS.fullmatch(source)):
        return False
    if "://" in source and not _SCHEME.match(source):
        return False
    name = re.split(r"[/\\]", source)[-1]
    return len(name.encode(errors="replace")) <= _NAME_BYTES


def _is_mostly_a_data_uri(source: str) -> bool:
    header = _DATA_URI_INSIDE.search(source, 0, _WORDS_CHARS)
    payload = _BASE64.match(source, header.end()) if header else None
    return payload is not None and 2 * len(payload[0]) > len(source)


def _is_input_object(source: str) -> bool:
    """Whether one of the inputs in a string of JSON has an image."""
    return any(isinstance(item, dict) and item.keys() & _IMAGE_KEYS for item in inputs_in(source))
