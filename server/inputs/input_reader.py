"""Inputs as callers send them -> texts, image files, or several of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ParamSpec

from siglip_edge.runtime.errors import InvalidInput, UnsupportedInput
from siglip_edge.server.http.forms import Upload
from siglip_edge.server.inputs import image_bytes
from siglip_edge.server.inputs.image_sources import ImageSources
from siglip_edge.server.inputs.image_strings import is_picture
from siglip_edge.server.inputs.input_objects import Source, count_of, sources_of, sources_of_messages
from siglip_edge.server.inputs.json_strings import inputs_in
from siglip_edge.server.inputs.schemas import InputObject, Modality

P = ParamSpec("P")

_IDS_REFUSED = (
    "token-id arrays are refused: other models' ids would give vectors without meaning. Send strings; "
    "in LangChain set OpenAIEmbeddings(check_embedding_ctx_length=False). "
    "The operator can allow this model's own ids with ACCEPT_TOKEN_IDS=true"
)


AS_TEXT = 'As a text it is {"text": "…"}, or any string with "modality": "text"'
AS_TEXT_BY_MODALITY = 'As a text it is any string with "modality": "text"'
"""On routes that take no input objects."""


@dataclass(frozen=True)
class Text:
    text: str
    param: str
    prompt: str | None = None
    """Text of the prompt before it; None: the model's default prompt."""


@dataclass(frozen=True)
class TokenIds:
    """A text as ids of the model's own vocabulary, without padding."""

    ids: tuple[int, ...]
    param: str


@dataclass(frozen=True)
class ImageFile:
    data: bytes
    param: str
    max_patches: int | None = None
    """Most patches of this image. None: the model has no choice."""


@dataclass(frozen=True)
class Joint:
    """Texts and images that together get one embedding."""

    parts: tuple[Text | ImageFile, ...]
    param: str


AnyInput = Text | TokenIds | ImageFile | Joint


@dataclass(frozen=True, kw_only=True)
class InputReader:
    """Classifies inputs and checks their limits. It decodes base64, but no image."""

    images: ImageSources
    max_inputs: int
    max_text_chars: int
    accept_token_ids: bool = False
    no_images: str | None = None
    """Says that the model embeds texts only. None: it embeds images."""
    as_text: str = AS_TEXT
    """Says how a string that looks like an image is sent as a text, on the route that reads."""

    def read_all(self, given: Any, param: str, modality: Modality | None = None) -> list[AnyInput | InvalidInput]:
        """One input, or a list of inputs, in order. The error of a bad input takes its place, to be raised or reported.

        `given`: as the JSON has it. Raises InvalidInput for an empty list and for too many inputs.
        """
        if not isinstance(given, list):
            self.check_count(count_of(given), param)
            return [self.attempt(self.judge, given, param, modality)]
        if is_token_ids(given):  # one text
            return [self.attempt(self._token_ids, given, param)]
        return self.read_each(given, param, modality)

    def read_each(self, given: Any, param: str, modality: Modality | None = None) -> list[AnyInput | InvalidInput]:
        """A list of inputs, as `read_all` reads it. Raises InvalidInput for anything but a list too."""
        if not isinstance(given, list):
            raise InvalidInput("a list of inputs is expected", param=param, code="invalid_value")
        self.check_count(sum(map(count_of, given)), param)
        return [self.attempt(self.judge, item, f"{param}[{index}]", modality) for index, item in enumerate(given)]

    def read_messages(self, messages: Any, param: str, modality: Modality | None = None) -> AnyInput | InvalidInput:
        """The message of a user, in place of an input. The error of a bad message is returned."""
        return self.attempt(lambda: self._joined(sources_of_messages(messages, param), param, modality))

    def read_form(
        self, files: Sequence[Upload], inputs: Sequence[Any], modality: Modality | None = None
    ) -> list[AnyInput | InvalidInput]:
        """Uploaded images, then inputs as strings, as JSON or as files."""
        inputs = [item for given in inputs for item in _items(given)]
        if not files and not inputs:
            message = "nothing to embed: the form has no file and no input"
            raise InvalidInput(message, param="file", code="empty_input")
        self.check_count(len(files) + sum(map(count_of, inputs)), "file")
        read = [self.attempt(self.file, upload.data, f"file[{index}]") for index, upload in enumerate(files)]
        return read + [self.attempt(self.judge, item, f"input[{index}]", modality) for index, item in enumerate(inputs)]

    def check_count(self, count: int, param: str) -> None:
        """Raise InvalidInput without inputs, or with more inputs than a request may have."""
        if not count:
            raise InvalidInput(f"{param}: the list is empty", param=param, code="empty_input")
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

    def judge(self, given: Any, param: str, modality: Modality | None = None) -> AnyInput:
        """Classify one input. A plain string is an image if it looks like one, unless `modality` decides.

        For a model of texts it is a text: a link, a path. A data URI or base64 of an image stays an error.

        Raises InvalidInput.
        """
        if isinstance(given, str):
            return self._part(Source(given, param, modality))
        if isinstance(given, dict | InputObject):
            return self._joined(sources_of(given, param), param, modality)
        if isinstance(given, Upload):
            return self.file(given.data, param)
        return self._token_ids(given, param)

    def kind_of_strings(self, modality: Modality | None) -> Modality | None:
        """What every plain string that has been read is, as an answer repeats it; None: each is of its own kind."""
        return modality if self.no_images is None else "text"

    def text(self, text: str, param: str) -> Text:
        """A known text. Raises InvalidInput when it is empty or too long."""
        if not text:
            raise InvalidInput("the text is empty", param=param, code="empty_input")
        if _has_half_characters(text):
            message = "the text has half of a character (a lone surrogate); was it cut inside an emoji?"
            raise InvalidInput(message, param=param, code="invalid_text")
        if len(text) > self.max_text_chars:
            message = f"the text has {len(text)} characters; at most {self.max_text_chars} are accepted"
            raise InvalidInput(message, param=param, code="text_too_long")
        return Text(text, param)

    def image(self, source: str, param: str) -> ImageFile:
        """A known image: a data URI, base64, a URL, or a path below IMAGE_ROOT. Raises InvalidInput."""
        return self._image(source, param, as_text="")

    def image_of(self, given: Any, param: str) -> ImageFile:
        """A known image in any form of an input. Raises InvalidInput, for a text too."""
        if not isinstance(given, str | dict | InputObject):
            raise InvalidInput("an image is a string or an object", param=param, code="invalid_value")
        read = replace(self, as_text="").judge(given, param, "image")
        if not isinstance(read, ImageFile):
            raise InvalidInput("one image is expected, and nothing beside it", param=param, code="invalid_value")
        return read

    def file(self, data: bytes, param: str) -> ImageFile:
        """An uploaded image. Raises InvalidInput."""
        with _naming(param):
            return self._within_limits(data, param)

    def _image(self, source: str, param: str, as_text: str) -> ImageFile:
        if self.no_images is not None:
            raise UnsupportedInput(self.no_images, param=param, code="modality_not_served")
        with _naming(param):
            return self._within_limits(self.images.read(source, as_text), param)

    def _is_image(self, text: str) -> bool:
        return self.images.is_meant(text) if self.no_images is None else is_picture(text)

    def _within_limits(self, data: bytes, param: str) -> ImageFile:
        if not data:
            raise InvalidInput("the image is empty", code="empty_input")
        return ImageFile(image_bytes.check_bytes(data, self.images.limits), param)

    def _joined(self, sources: Sequence[Source], param: str, modality: Modality | None) -> AnyInput:
        self.check_count(len(sources), param)
        parts = tuple(self._part(source._replace(kind=source.kind or modality)) for source in sources)
        return parts[0] if len(parts) == 1 else Joint(parts, param)

    def _part(self, source: Source) -> Text | ImageFile:
        kind = source.kind or ("image" if self._is_image(source.value) else "text")
        if kind == "text":
            return self.text(source.value, source.param)
        return self._image(source.value, source.param, self.as_text)

    def _token_ids(self, given: Any, param: str) -> TokenIds:
        if not isinstance(given, list) or not all(type(item) is int for item in given):
            number = "a bare number is no input: " if type(given) in {int, float} else ""
            message = f"{number}an input is a string, an object, or a list of token ids"
            raise InvalidInput(message, param=param, code="invalid_value")
        if not self.accept_token_ids:
            raise UnsupportedInput(_IDS_REFUSED, param=param, code="token_ids_refused")
        if not given:
            raise InvalidInput("the list of token ids is empty", param=param, code="empty_input")
        return TokenIds(tuple(given), param)


def is_token_ids(given: Any) -> bool:
    """Whether a list is one text as its token ids, not a list of inputs."""
    return isinstance(given, list) and bool(given) and all(type(item) is int for item in given)


def _items(value: Any) -> list[Any]:
    """The inputs of a form's value."""
    return (inputs_in(value) if isinstance(value, str) else []) or [value]


@contextmanager
def _naming(param: str) -> Iterator[None]:
    """Every InvalidInput that is raised inside the block names the field `param`."""
    try:
        yield
    except InvalidInput as error:
        error.param = param
        raise


def _has_half_characters(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
