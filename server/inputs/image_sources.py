"""A string that a caller sent as an image -> the bytes of its file: by the forms that `image_strings` tells apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from siglip_edge.runtime.errors import UnsupportedInput
from siglip_edge.runtime.images.formats import SNIFFED_BYTES
from siglip_edge.server.inputs import base64_images, image_strings
from siglip_edge.server.inputs.image_bytes import ImageLimits, is_image_magic
from siglip_edge.server.inputs.image_root import ImageRoot
from siglip_edge.server.inputs.image_strings import Kind


@dataclass(frozen=True, kw_only=True)
class ImageSources:
    limits: ImageLimits
    root: Path | None = None
    """IMAGE_ROOT. None: no file of the server is read."""
    fetch: Callable[[str], bytes] | None = None
    """Image URL -> bytes. None: the operator has not allowed image URLs."""

    def is_meant(self, text: str) -> bool:
        """Whether a plain string is meant as an image: by its form, or because it is the path of one below the root."""
        return image_strings.kind_of(text) is not Kind.TEXT or self._is_path_of_image(text)

    def read(self, given: str, as_text: str = "") -> bytes:
        """The bytes of the image; none for a string of blanks. Raises InvalidInput.

        `as_text`: a sentence that says how the string is sent as a text, where one is possible.
        """
        source = image_strings.cleaned(given)
        if not source:
            return b""
        match image_strings.kind_of(source):
            case Kind.DATA_URI:
                return base64_images.from_data_uri(source, self.limits)
            case Kind.URL:
                return self._fetched(source, as_text)
            case Kind.BASE64:
                return base64_images.from_base64(image_strings.without_lost_scheme(source), self.limits)
            case Kind.UNREADABLE:
                raise _unsupported("an image in a form that is not read: send a data URI or base64", as_text)
            case Kind.PATH | Kind.TEXT:
                return self._file(source, as_text)

    @property
    def _folder(self) -> ImageRoot | None:
        return None if self.root is None else ImageRoot(self.root)

    def _is_path_of_image(self, text: str) -> bool:
        source = image_strings.cleaned(text)
        if self._folder is None or not image_strings.may_be_path(source):
            return False
        return self._folder.contains(source) or is_image_magic(self._folder.read(source, SNIFFED_BYTES) or b"")

    def _fetched(self, url: str, as_text: str) -> bytes:
        if self.fetch is None:
            raise _unsupported(
                "image URLs are not fetched here; send the image as a data URI. "
                "The operator can allow fetching with ALLOW_IMAGE_URLS=true",
                as_text,
                code="image_url_refused",
            )
        return self.fetch(url)

    def _file(self, path: str, as_text: str) -> bytes:
        if self._folder is None or not image_strings.is_name_or_path(path):
            forms = "a data URI or base64" if self.fetch is None else "a data URI, base64 or a URL"
            message = f"not an image but a text or a file name: send {forms} (paths need IMAGE_ROOT)"
            raise _unsupported(message, as_text)
        if (data := self._folder.read(path, self.limits.max_bytes + 1)) is None:
            message = "no such image file below the operator's IMAGE_ROOT"
            raise _unsupported(message, as_text, code="image_not_found")
        return data


def _unsupported(message: str, as_text: str, **facts: str) -> UnsupportedInput:
    return UnsupportedInput(f"{message}. {as_text}" if as_text else message, **facts)
