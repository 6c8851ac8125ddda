"""The sentences the text tower learns from, and the rule that turns a sentence into token numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from demo.model import PAD, TEXT_LENGTH
from demo.pictures import DATA, LANGUAGES, load_names

# Light templates, so that a caller's template does not lead the tower astray. {} alone must stay the commonest.
TEMPLATES = {
    "en": (
        "an emoji of {}",
        "a picture of {}",
        "this is a photo of {}.",
        "a photo of a {}",
        "a drawing of {}.",
        "{} emoji",
    ),
    "es": ("un emoji de {}", "una imagen de {}", "esta es una foto de {}."),
    "zh": ("{}的图片", "一张{}的照片", "{}表情符号"),
    "de": ("ein emoji: {}", "ein bild von {}", "dies ist ein foto von {}."),
    "fr": ("un emoji de {}", "une image de {}", "ceci est une photo de {}."),
    "it": ("un'emoji di {}", "un'immagine di {}", "questa è una foto di {}."),
    "ja": ("{}の写真", "{}の絵", "{}の絵文字"),
    "ko": ("{} 사진", "{} 그림", "{} 이모지"),
    "pt": ("um emoji de {}", "uma imagem de {}", "esta é uma foto de {}."),
    "ru": ("эмодзи: {}", "картинка: {}", "это фото: {}."),
}


@dataclass(frozen=True)
class Sentence:
    """One text that stands for a concept."""

    text: str
    concept: int
    language: str


def names() -> list[Sentence]:
    """Every concept's name in every language, as CLDR writes it."""
    return [
        Sentence(name, number, language)
        for number, by_language in enumerate(load_names().values())
        for language, name in by_language.items()
    ]


def tags() -> list[Sentence]:
    """Search words of the concepts, but only those that fewer than four concepts share: "animal" names nothing."""
    stored: dict[str, dict[str, list[str]]] = json.loads((DATA / "tags.json").read_text(encoding="utf-8"))
    found = [
        Sentence(tag, number, language)
        for number, slug in enumerate(load_names())
        for language, words in stored[slug].items()
        for tag in words
    ]
    shared: dict[tuple[str, str], int] = {}
    for sentence in found:
        key = sentence.language, sentence.text
        shared[key] = shared.get(key, 0) + 1
    return [sentence for sentence in found if shared[sentence.language, sentence.text] < 4]


NAME_SHARE, TEMPLATE_SHARE = 0.55, 0.3  # of the text stage's sentences; the rest are tags
TAG_WEIGHT = 0.3  # of a tag in the loss: a search word is true of a concept without being its name


class SentenceSource:
    """Tokenized training sentences: names, names in templates, tags. Tokenized once, drawn by number."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        plain = names()
        self.concepts = len(plain) // len(LANGUAGES)
        self.names = encode(tokenizer, [s.text for s in plain])  # (concepts x languages, L)
        filled = [template.format(s.text) for s in plain for template in _three(s)]
        self.filled = encode(tokenizer, filled).view(len(plain), 3, -1)  # (concepts x languages, 3, L)
        tagged = tags()
        self.tags = encode(tokenizer, [s.text for s in tagged])
        self.tag_concept = torch.tensor([s.concept for s in tagged])

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """-> (count, L) tokens, (count,) concepts, (count,) weights in the loss"""
        named = round(count * (NAME_SHARE + TEMPLATE_SHARE))
        concept = self._below(self.concepts, named)
        row = self._below(len(self.tags), count - named)
        weight = torch.cat((torch.ones(named), torch.full((count - named,), TAG_WEIGHT)))
        return torch.cat((self.draw_for(concept), self.tags[row])), torch.cat((concept, self.tag_concept[row])), weight

    def draw_for(self, concept: Tensor) -> Tensor:
        """(B,) concepts -> (B, L) tokens: its name in any language, sometimes in a template."""
        row = concept * len(LANGUAGES) + self._below(len(LANGUAGES), len(concept))
        templated = torch.rand(len(concept), generator=self.generator) < TEMPLATE_SHARE / (NAME_SHARE + TEMPLATE_SHARE)
        filled = self.filled[row, self._below(3, len(concept))]
        return torch.where(templated[:, None], filled, self.names[row])

    def _below(self, limit: int, count: int) -> Tensor:
        return torch.randint(limit, (count,), generator=self.generator)


def _three(sentence: Sentence) -> list[str]:
    """Three of the language's templates, turned by concept where there are more."""
    group = TEMPLATES[sentence.language]
    return [group[(sentence.concept + turn) % len(group)] for turn in range(3)]


def corpus() -> list[str]:
    """What the tokenizer learns from: names weigh three times as much as tags; every template a few hundred times."""
    templates = [template.replace("{}", "") for group in TEMPLATES.values() for template in group]
    words = [sentence.text for sentence in names() * 3 + tags()]
    return [text.lower() for text in words + templates * 300]


def encode(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """Texts -> (N, TEXT_LENGTH) int64: lower case, <eos> kept when cut, padded to full length, no mask. As served."""
    tokenizer.enable_truncation(TEXT_LENGTH)
    tokenizer.enable_padding(length=TEXT_LENGTH, pad_id=PAD, pad_token="<pad>")
    return torch.tensor([encoding.ids for encoding in tokenizer.encode_batch([text.lower() for text in texts])])
