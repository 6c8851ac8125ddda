"""An input as an object, a list of content parts or a chat message -> its parts: texts and images of a stated kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from siglip_edge.runtime.errors import InvalidInput, UnsupportedInput
from siglip_edge.server.http.json import convert_item
from siglip_edge.server.inputs.schemas import ContentPart, ImageUrl, InputObject, Message, Modality

_IMAGE_KEYS = ("image", "image_url", "image_base64")
_KEYS = ("text", *_IMAGE_KEYS)
_KEYS_OF_TYPE = {
    "text": {"text"},
    "input_text": {"text"},
    "image": {*_IMAGE_KEYS},
    "input_image": {*_IMAGE_KEYS},
    "image_url": {"image_url"},
    "image_base64": {"image_base64"},
}
"""The keys that may stand beside each `type`."""


class Source(NamedTuple):
    """A text or an image as it was sent."""

    value: str
    param: str
    kind: Modality | None
    """None: a plain string, which is judged."""


def sources_of(value: Any, param: str) -> list[Source]:
    """The parts of an input object, in order. Raises InvalidInput naming the key that is wrong."""
    given = value if isinstance(value, InputObject) else convert_item(value, InputObject, param)
    if given.content is None:
        return _of_part(given, param)
    if any(getattr(given, key) is not None for key in _KEYS):
        raise InvalidInput('"content" holds every part of the input: send no other key beside it', param=param)
    return _of_content(given.content, f"{param}.content")


def sources_of_messages(value: Any, param: str) -> list[Source]:
    """The parts of one message of a user. Raises InvalidInput for anything else: a conversation has no embedding."""
    messages = convert_item(value, list[Message], param)
    for index, message in enumerate(messages):
        if message.role != "user":
            sentence = f"a message with the role {message.role[:40]!r} has no meaning for this model: send the user's"
            raise UnsupportedInput(f"{sentence} message alone", param=f"{param}[{index}].role")
    if len(messages) != 1:
        sentence = f"{len(messages)} messages; exactly one message of the user is accepted, and gives one vector"
        raise UnsupportedInput(f"{sentence}. Send several inputs as `input`", param=param)
    return _of_content(messages[0].content, f"{param}[0].content")


def count_of(value: Any) -> int:
    """How many inputs an item counts as: the parts of its content."""
    content = value.get("content") if isinstance(value, dict) else None
    return max(1, len(content)) if isinstance(content, list) else 1


def _of_content(content: str | Sequence[str | ContentPart], param: str) -> list[Source]:
    if isinstance(content, str):
        return [Source(content, param, None)]
    if not content:
        raise InvalidInput("the content is empty", param=param, code="empty_input")
    return [source for index, part in enumerate(content) for source in _of_either(part, f"{param}[{index}]")]


def _of_either(part: str | ContentPart, param: str) -> list[Source]:
    return [Source(part, param, None)] if isinstance(part, str) else _of_part(part, param)


def _of_part(part: ContentPart, param: str) -> list[Source]:
    sources = list(_present(part, param))
    _check_type(part, param)
    if sum(source.kind == "image" for source in sources) > 1:
        raise InvalidInput('several images in one object: send {"content": [parts]}', param=param)
    if not sources:
        raise InvalidInput(f"an input object has one of {', '.join(_KEYS)} or content", param=param)
    return sources


def _check_type(part: ContentPart, param: str) -> None:
    allowed = _KEYS_OF_TYPE.get(part.type or "", _KEYS)
    if wrong := [key for key in _KEYS if getattr(part, key) is not None and key not in allowed]:
        sentence = f'"type" is "{part.type}", and the object has "{wrong[0]}"'
        raise InvalidInput(f'{sentence}; text and image together are {{"content": [parts]}}', param=f"{param}.type")


def _present(part: ContentPart, param: str) -> Iterator[Source]:
    """The text first, as in the joint input."""
    if part.text is not None:
        yield Source(part.text, f"{param}.text", "text")
    for key in _IMAGE_KEYS:
        value = getattr(part, key)
        if value is not None:
            yield Source(value.url if isinstance(value, ImageUrl) else value, f"{param}.{key}", "image")
