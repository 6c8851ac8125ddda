"""Inputs as callers send them -> texts, image files, or both. Only this module decides whether a string is an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from siglip_edge.runtime.errors import InvalidInput, UnsupportedInput
from siglip_edge.server.inputs import image_bytes
from siglip_edge.server.inputs.image_bytes import ImageLimits
from siglip_edge.server.inputs.schemas import Input, InputObject, Modality, Upload

P = ParamSpec("P")

_IDS_REFUSED = (
    "token-id arrays are refused: other models' ids would give vectors without meaning. Send strings; "
    "in LangChain set OpenAIEmbeddings(check_embedding_ctx_length=False). "
    "The operator can allow this model's own ids with ACCEPT_TOKEN_IDS=true"
)


_ECHOED_CHARS = 64
"""An image that an answer repeats is cut after this many characters."""


@dataclass(frozen=True)
class Text:
    text: str
    param: str


@dataclass(frozen=True)
class TokenIds:
    """A text as ids of the model's own vocabulary, without padding."""

    ids: tuple[int, ...]
    param: str


@dataclass(frozen=True)
class ImageFile:
    data: bytes
    param: str


@dataclass(frozen=True)
class Joint:
    """A text and an image that together get one embedding."""

    text: Text
    image: ImageFile
    param: str


AnyInput = Text | TokenIds | ImageFile | Joint


@dataclass(frozen=True, kw_only=True)
class InputReader:
    """Classifies inputs and checks their limits. It decodes base64, but no image."""

    limits: ImageLimits
    max_inputs: int
    max_text_chars: int
    accept_token_ids: bool = False
    image_root: Path | None = None
    fetch: Callable[[str], bytes] | None = None
    """Image URL -> bytes. None: the operator has not allowed image URLs."""

    def read_all(
        self, given: Input | Sequence[Input | int], param: str, modality: Modality | None = None
    ) -> list[AnyInput | InvalidInput]:
        """One input, or a list of inputs, in order. The error of a bad input takes its place, to be raised or reported.

        Raises InvalidInput for an empty list and for too many inputs.
        """
        if isinstance(given, str | InputObject):
            return [self.attempt(self.judge, given, param, modality)]
        self.check_count(len(given), param)
        ids = [item for item in given if isinstance(item, int)]
        if len(ids) == len(given):  # one text as its token ids
            return [self.attempt(self._token_ids, ids, param)]
        return [self.attempt(self.judge, item, f"{param}[{index}]", modality) for index, item in enumerate(given)]

    def read_form(self, files: Sequence[Upload], inputs: Sequence[str]) -> list[AnyInput | InvalidInput]:
        """Uploaded images, then inputs as strings."""
        self.check_count(len(files) + len(inputs), "file")
        read = [self.attempt(self.file, upload.data, f"file[{index}]") for index, upload in enumerate(files)]
        return read + [self.attempt(self.judge, item, f"input[{index}]") for index, item in enumerate(inputs)]

    def check_count(self, count: int, param: str) -> None:
        """Raise InvalidInput without inputs, or with more inputs than a request may have."""
        if not count:
            raise InvalidInput("nothing to embed: the list is empty", param=param, code="empty_input")
        if count > self.max_inputs:
            message = f"{count} inputs; at most {self.max_inputs} per request are accepted"
            raise InvalidInput(message, param=param, code="too_many_inputs")

    @staticmethod
    def attempt(read: Callable[P, AnyInput], *args: P.args, **kwargs: P.kwargs) -> AnyInput | InvalidInput:
        """-> the result of `read`, or the InvalidInput that it raises."""
        try:
            return read(*args, **kwargs)
        except InvalidInput as error:
            return error

    def judge(self, given: Input | int, param: str, modality: Modality | None = None) -> AnyInput:
        """Classify one input. A plain string is an image if it looks like one, unless `modality` decides.

        Raises InvalidInput.
        """
        if isinstance(given, InputObject):
            return self._explicit(given, param)
        if isinstance(given, list | int):
            return self._token_ids(given, param)
        if modality == "text" or (modality is None and not _claims_to_be_image(given)):
            return self.text(given, param)
        return self.image(given, param)

    def text(self, text: str, param: str) -> Text:
        """A known text. Raises InvalidInput when it is empty or too long."""
        if not text:
            raise InvalidInput("the text is empty", param=param, code="empty_input")
        if len(text) > self.max_text_chars:
            message = f"the text has {len(text)} characters; at most {self.max_text_chars} are accepted"
            raise InvalidInput(message, param=param, code="text_too_long")
        return Text(text, param)

    def image(self, source: str, param: str) -> ImageFile:
        """A known image: a data URI, base64, a URL, or a path below IMAGE_ROOT. Raises InvalidInput."""
        with _naming(param):
            return self._within_limits(self._image_bytes(source) if source else b"", param)

    def file(self, data: bytes, param: str) -> ImageFile:
        """An uploaded image. Raises InvalidInput."""
        with _naming(param):
            return self._within_limits(data, param)

    def _within_limits(self, data: bytes, param: str) -> ImageFile:
        if not data:
            raise InvalidInput("the image is empty", code="empty_input")
        return ImageFile(image_bytes.check_bytes(data, self.limits), param)

    def _image_bytes(self, source: str) -> bytes:
        if source[:5].lower() == "data:":
            return image_bytes.from_data_uri(source, self.limits)
        if _is_url(source):
            return self._fetched(source)
        if image_bytes.looks_like_base64_image(source):
            return image_bytes.from_base64(source, self.limits)
        return self._file(source.removeprefix("file://"))

    def _explicit(self, given: InputObject, param: str) -> AnyInput:
        text = self.text(given.text, f"{param}.text") if given.text is not None else None
        image = self.image(given.image, f"{param}.image") if given.image is not None else None
        if text and image:
            return Joint(text, image, param)
        if not (one := text or image):
            raise InvalidInput('an input object has "text", "image" or both', param=param)
        return one

    def _token_ids(self, given: list[int] | int, param: str) -> TokenIds:
        if not self.accept_token_ids or isinstance(given, int):
            raise UnsupportedInput(_IDS_REFUSED, param=param, code="token_ids_refused")
        if not given:
            raise InvalidInput("the list of token ids is empty", param=param, code="empty_input")
        return TokenIds(tuple(given), param)

    def _fetched(self, url: str) -> bytes:
        if self.fetch is None:
            raise UnsupportedInput(
                "image URLs are not fetched here; send the image as a data URI. "
                'The operator can allow fetching with ALLOW_IMAGE_URLS=true; a URL as text is {"text": "…"}',
                code="image_url_refused",
            )
        return self.fetch(url)

    def _file(self, source: str) -> bytes:
        if self.image_root is None:
            raise UnsupportedInput("not an image: send a data URI or base64 (paths need the operator's IMAGE_ROOT)")
        root = self.image_root.resolve()
        try:
            path = (root / source).resolve()
            if path.is_relative_to(root) and path.is_file():
                with path.open("rb") as file:
                    return file.read(
                        self.limits.max_bytes + 1
                    )  # one byte beyond the limit is enough to refuse the file
        except (OSError, ValueError):  # unreadable, or a name that no file can have
            pass
        raise UnsupportedInput("no such image file below the operator's IMAGE_ROOT", code="image_not_found")


@contextmanager
def _naming(param: str) -> Iterator[None]:
    """Every InvalidInput that is raised inside the block names the field `param`."""
    try:
        yield
    except InvalidInput as error:
        error.param = param
        raise


def _claims_to_be_image(text: str) -> bool:
    return text[:11].lower() == "data:image/" or _is_url(text) or image_bytes.looks_like_base64_image(text)


def _is_url(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://")) and not any(map(str.isspace, text))


def echo(given: str | InputObject) -> str | InputObject:
    """An input as an answer repeats it: a text in full, an image shortened."""
    if isinstance(given, InputObject):
        return InputObject(given.text, given.image and echo_image(given.image))
    return echo_string(given)


def echo_string(given: str) -> str:
    return echo_image(given) if _claims_to_be_image(given) else given


def echo_image(source: str) -> str:
    return source if len(source) <= _ECHOED_CHARS else source[:_ECHOED_CHARS] + "…"
