"""What a caller sent -> what it is: a text, an image's bytes, or both. The one place where a string is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import InvalidInput, UnsupportedInput
from server import images
from server.images import ImageLimits
from server.schemas import Input, InputObject, Modality

_IDS_REFUSED = (
    "token-id arrays are refused: other models' ids would give vectors without meaning. Send strings; "
    "in LangChain set OpenAIEmbeddings(check_embedding_ctx_length=False). "
    "The operator can allow this model's own ids with ACCEPT_TOKEN_IDS=true"
)


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
    """A text and an image that make one vector together."""

    text: Text
    image: ImageFile
    param: str


AnyInput = Text | TokenIds | ImageFile | Joint


@dataclass(frozen=True, kw_only=True)
class InputReader:
    """Judges and bounds inputs; decodes nothing but base64."""

    limits: ImageLimits
    max_inputs: int
    max_text_chars: int
    accept_token_ids: bool = False
    image_root: Path | None = None
    fetch: Callable[[str], bytes] | None = None
    """Image URL -> bytes, when the operator allows it."""

    def read_all(
        self, given: Input | Sequence[Input | int], param: str, modality: Modality | None = None
    ) -> list[AnyInput | InvalidInput]:
        """One input or a list of them, in order; a bad one is its error, for the caller to raise or report.

        Raises InvalidInput for an empty list, too many inputs, or token ids.
        """
        if isinstance(given, list) and given and all(isinstance(item, int) for item in given):
            given = [given]  # one text as its token ids
        items = given if isinstance(given, list) else [given]
        if not items:
            raise InvalidInput("the list of inputs is empty", param=param, code="empty_input")
        if len(items) > self.max_inputs:
            message = f"{len(items)} inputs; at most {self.max_inputs} a request are accepted"
            raise InvalidInput(message, param=param, code="too_many_inputs")
        names = [f"{param}[{index}]" for index in range(len(items))] if isinstance(given, list) else [param]
        return [self._read_or_error(item, name, modality) for item, name in zip(items, names, strict=True)]

    def read(self, given: Input | int, param: str, modality: Modality | None = None) -> AnyInput:
        """One input. Raises InvalidInput naming `param`."""
        result = self._read_or_error(given, param, modality)
        if isinstance(result, InvalidInput):
            raise result
        return result

    def text(self, text: str, param: str) -> Text:
        """An explicit text. Raises InvalidInput when empty or too long."""
        if not text:
            raise InvalidInput("the text is empty", param=param, code="empty_input")
        if len(text) > self.max_text_chars:
            message = f"the text has {len(text)} characters; at most {self.max_text_chars} are accepted"
            raise InvalidInput(message, param=param, code="text_too_long")
        return Text(text, param)

    def image(self, source: str, param: str) -> ImageFile:
        """An explicit image: data URI, base64, URL or, below IMAGE_ROOT, a path."""
        if not source:
            raise InvalidInput("the image is empty", param=param, code="empty_input")
        try:
            return ImageFile(self._image_bytes(source), param)
        except InvalidInput as error:
            error.param = param
            raise

    def _image_bytes(self, source: str) -> bytes:
        if source[:5].lower() == "data:":
            return images.from_data_uri(source, self.limits)
        if _is_url(source):
            return self._fetched(source)
        if images.looks_like_base64_image(source):
            return images.from_base64(source, self.limits)
        return self._file(source.removeprefix("file://"))

    def _read_or_error(self, given: Input | int, param: str, modality: Modality | None) -> AnyInput | InvalidInput:
        try:
            return self._judge(given, param, modality)
        except InvalidInput as error:
            return error

    def _judge(self, given: Input | int, param: str, modality: Modality | None) -> AnyInput:
        if isinstance(given, InputObject):
            return self._explicit(given, param)
        if isinstance(given, list | int):
            return self._token_ids(given, param)
        if modality == "text" or (modality is None and not _claims_to_be_image(given)):
            return self.text(given, param)
        return self.image(given, param)

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
        return images.check_bytes(self.fetch(url), self.limits)

    def _file(self, source: str) -> bytes:
        if self.image_root is None:
            raise UnsupportedInput("not an image: send a data URI or base64 (paths need the operator's IMAGE_ROOT)")
        root = self.image_root.resolve()
        path = (root / source).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise UnsupportedInput("no such image file below the operator's IMAGE_ROOT", code="image_not_found")
        with path.open("rb") as file:
            return images.check_bytes(file.read(self.limits.max_bytes + 1), self.limits)


def _claims_to_be_image(text: str) -> bool:
    return text[:11].lower() == "data:image/" or _is_url(text) or images.looks_like_base64_image(text)


def _is_url(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://")) and not any(map(str.isspace, text))
