"""One model on one data set, in a process of its own: accuracy, memory and files."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from siglip_edge.cli.evaluation.datasets import Dataset, Kind
from siglip_edge.cli.evaluation.embedding import Embedded, Look, embed_pictures, embed_texts
from siglip_edge.cli.evaluation.results import Answers, ModelResult
from siglip_edge.cli.evaluation.scores import scored
from siglip_edge.cli.model_options import plan_with
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, TextTower, Tower, kind_of
from siglip_edge.runtime.errors import ArtifactMissing, ManifestInvalid
from siglip_edge.runtime.images.patch_limit import patch_limit
from siglip_edge.runtime.machine.cpu import resident_bytes
from siglip_edge.runtime.machine.memory import peak_resident_bytes
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.open_model import PlannedModel
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.embedding.prompts import DOCUMENT, QUERY, for_use

_USES = {Kind.SENTENCES: ("text-matching", "text-matching"), Kind.RETRIEVAL: (QUERY, DOCUMENT)}
"""Use of the left and the right list's vectors, by which the server too finds a model's prompts."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model in one precision."""

    label: str
    directory: Path
    precision: str
    """`auto` or a precision."""
    max_patches: int | None = None
    """Most patches per picture of a NaFlex model; None: the model's own number, or no choice."""
    missing: str | None = None
    """Why there is no model; None: it is there."""

    def plan(self, settings: Settings, data: Dataset) -> PlannedModel:
        """Plan the towers that the data set needs.

        Raises ModelError, ProviderUnavailable, InvalidInput or click.BadParameter.
        """
        if self.missing:
            raise ManifestInvalid(self.missing)
        _check_towers(Manifest.load(self.directory), data)
        towers = "both" if Tower.VISION in data.towers else "text"
        planned = plan_with(replace(settings, towers=towers), self.directory, precision=self.precision)
        patch_limit(planned.manifest, self.max_patches)  # raises InvalidInput
        return planned

    def look(self, settings: Settings) -> Look:
        return Look(max_patches=self.max_patches, max_pixels=settings.max_image_pixels)


@dataclass(frozen=True, kw_only=True)
class Wording:
    """The texts of a data set as one model gets them."""

    left: Sequence[str | Path]
    right: Sequence[str]
    template: str | None
    prompts: list[str]


def _check_towers(manifest: Manifest, data: Dataset) -> None:
    """Raise ArtifactMissing when the model cannot embed the data set."""
    for tower in data.towers:
        if tower not in manifest.tower_names:
            needed = " and ".join(_INPUTS[tower] for tower in data.towers)
            raise ArtifactMissing(
                f"{manifest.name}: this model has no {tower} tower, and the data are {needed}; {_OTHERS[tower]}"
            )


_INPUTS = {Tower.VISION: "pictures", Tower.TEXT: "texts"}
_OTHERS = {
    Tower.VISION: "for it, give --data a table of texts: sentence1, sentence2, score or query, document",
    Tower.TEXT: "leave it out",
}


def open_once(subject: Subject, settings: Settings, data: Dataset) -> None:
    """Open the model as a first start does: it packs graphs and tests the model in full. Raises like `measure`.

    Later starts, which are measured, do neither.
    """
    subject.plan(settings, data).open()


def open_again(subject: Subject, settings: Settings, data: Dataset) -> EmbeddingModel:
    """Open the model as a later start does; the log of the first start has said everything. Raises like `measure`."""
    logging.getLogger("siglip_edge").setLevel(logging.CRITICAL)
    return subject.plan(settings, data).open()


def measure(subject: Subject, settings: Settings, data: Dataset, template: str | None) -> tuple[ModelResult, Answers]:
    """Embed the data set and score it. `template`: text with `{}` for a class name; None: the model's own.

    Raises ModelError, ProviderUnavailable, or click.ClickException when no picture can be read.
    """
    started = time.perf_counter()
    model = open_again(subject, settings, data)
    load_ms = 1000 * (time.perf_counter() - started)
    wording = worded(data, model.manifest, template)
    with tempfile.TemporaryDirectory(prefix="siglip-edge-evaluate-") as folder:
        left, right = _embedded(model, data, wording, Path(folder), subject.label, subject.look(settings))
        resident_mb, peak_mb = (round(size / 1e6, 1) for size in (resident_bytes(), peak_resident_bytes()))
        seen = data.without(left.left_out) if left.left_out else data
        dimensions = model.manifest.dimensions
        result = scored(seen, left.vectors(dimensions), right.vectors(dimensions), model.manifest.scoring)
    return ModelResult(
        label=subject.label,
        directory=str(subject.directory),
        precision=model.plan.precision,
        name=model.manifest.name,
        family=model.manifest.family,
        provider=model.plan.provider,
        scoring=kind_of(model.manifest.scoring),
        template=wording.template,
        prompts=wording.prompts,
        figures=result.figures,
        classes=result.classes,
        calibrations=result.calibrations,
        load_ms=round(load_ms, 1),
        resident_mb=resident_mb,
        peak_mb=peak_mb,
        files_mb=round(_bytes_served(model.manifest, model.towers, model.plan.precision) / 1e6, 3),
        truncated_texts=left.truncated + right.truncated,
        left_out={str(data.left[position]): reason for position, reason in left.left_out.items()},
    ), result.answers.spread(len(data.left), left.left_out)


def worded(data: Dataset, manifest: Manifest, template: str | None) -> Wording:
    """Labels get the template; queries, documents and sentences get the prompt that the model has for them.

    A text for which the model has no prompt of its own gets the model's default prompt, if it has one.
    """
    left, right = (_prompt(manifest.text, use) for use in _USES.get(data.kind, (None, None)))
    wrap = (template or manifest.zero_shot_template) if data.kind is Kind.LABELS else None
    shown = [wrap.replace("{}", text) for text in data.right] if wrap else data.right
    of_texts = data.left_tower is Tower.TEXT
    return Wording(
        left=[left + str(text) for text in data.left] if of_texts else data.left,
        right=[right + text for text in shown],
        template=wrap,
        prompts=list(dict.fromkeys(prompt for prompt in ([left] if of_texts else []) + [right] if prompt)),
    )


def _prompt(spec: TextTower, use: str | None) -> str:
    """The text before an input of this use; None: of an input that asks for none."""
    own = for_use(spec, use) if use else None
    return own if own is not None else spec.prompts.get(spec.default_prompt or "", "")


def _embedded(  # noqa: PLR0917 - one caller
    model: EmbeddingModel, data: Dataset, wording: Wording, folder: Path, what: str, look: Look
) -> tuple[Embedded, Embedded]:
    if data.left_tower is Tower.VISION:
        left = embed_pictures(model, [Path(file) for file in wording.left], folder / "left", what, look)
    else:
        left = embed_texts(model, [str(text) for text in wording.left], folder / "left", what)
    return left, embed_texts(model, wording.right, folder / "right", what)


def _bytes_served(manifest: Manifest, towers: Sequence[Tower], precision: Precision) -> int:
    """Size of the files that serving these towers in this precision reads."""
    records = {record for tower in towers for record in manifest.artifact(tower, precision).files}
    if Tower.TEXT in towers:
        packed = manifest.text.packed_tokenizer
        records.add(packed.file if packed else manifest.text.tokenizer)
    return sum(record.size for record in records)
