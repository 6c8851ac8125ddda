"""`content` -> inputs: a prompt and its images become a text, an image, or a joint input."""

from __future__ import annotations

from siglip_edge.runtime.errors import InvalidInput, UnsupportedInput
from siglip_edge.server.faces.llamacpp.schemas import MEDIA_MARKER, Content, Prompt
from siglip_edge.server.inputs.input_reader import AnyInput, InputReader, Joint, Text
from siglip_edge.server.inputs.schemas import Modality


def read_content(
    reader: InputReader, content: Content, param: str, modality: Modality | None = None
) -> list[AnyInput | InvalidInput]:
    """A prompt or a list of prompts -> inputs, in order. A list of numbers is a text as token ids.

    Raises InvalidInput for an empty list, for too many prompts, and for a wrong prompt.
    """
    if isinstance(content, Prompt):
        return [_read_prompt(reader, content, param, modality)]
    if isinstance(content, str) or not any(isinstance(item, Prompt) for item in content):
        return reader.read_all(content, param, modality)
    reader.check_count(len(content), param)
    return [_read_item(reader, item, f"{param}[{index}]", modality) for index, item in enumerate(content)]


def _read_item(
    reader: InputReader, item: str | Prompt | int | list[int], param: str, modality: Modality | None
) -> AnyInput:
    if isinstance(item, Prompt):
        return _read_prompt(reader, item, param, modality)
    return reader.judge(item, param, modality)


def _read_prompt(reader: InputReader, prompt: Prompt, param: str, modality: Modality | None) -> AnyInput:
    """The prompt without its markers is the text."""
    pieces = prompt.prompt_string.split(MEDIA_MARKER)
    images = prompt.multimodal_data or []
    _check_images(len(pieces) - 1, len(images), param)
    if not images:
        return reader.judge(prompt.prompt_string, f"{param}.prompt_string", modality)
    image = reader.image(images[0], f"{param}.multimodal_data[0]")
    words = " ".join(piece.strip() for piece in pieces).strip()
    if not words:
        return image
    text = reader.judge(words, f"{param}.prompt_string", modality)
    if not isinstance(text, Text):
        raise UnsupportedInput("the prompt beside the image is an image itself", param=f"{param}.prompt_string")
    return Joint((text, image), param)


def _check_images(markers: int, images: int, param: str) -> None:
    if markers != images:
        message = f"prompt_string has {markers} times the marker {MEDIA_MARKER}, multimodal_data {images} images"
        raise InvalidInput(f"{message}; each marker stands for an image", param=param)
    if images > 1:
        message = f"{images} images in a prompt; at most one image is accepted, because each prompt gets one embedding"
        raise UnsupportedInput(message, param=f"{param}.multimodal_data")
