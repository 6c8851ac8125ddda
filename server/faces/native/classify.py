"""`POST /v1/classify` and `POST /v1/classify/image`: zero-shot, with the labels of the request."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import falcon
import msgspec

from siglip_edge.runtime.artifacts.manifest import Cosine, Softmax
from siglip_edge.runtime.errors import InvalidInput, UnsupportedInput
from siglip_edge.server.embedding.embedder import Embedder
from siglip_edge.server.embedding.ranking import ranked
from siglip_edge.server.faces.native.schemas import (
    Classification,
    ClassifyAnswer,
    ClassifyFileAnswer,
    ClassifyForm,
    ClassifyRequest,
)
from siglip_edge.server.faces.service import Service
from siglip_edge.server.http import json
from siglip_edge.server.http.forms import Upload
from siglip_edge.server.inputs.echo import echo
from siglip_edge.server.inputs.input_reader import ImageFile, InputReader


class Classify:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, ClassifyRequest)
        embedder = self._service.embedder(req, request.model, request.expect_space)
        reader = self._service.reader(embedder)
        image = reader.image_of(request.image, "image")
        classified = _classify(embedder, reader, image, request, req)
        resp.data = json.render(ClassifyAnswer(echo(request.image, "image"), classified, embedder.name))

    def on_post_image(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.form(req, ClassifyForm)
        embedder = self._service.embedder(req, request.model, request.expect_space)
        reader = self._service.reader(embedder)
        image = reader.file(_only(request.file).data, "file")
        if len(request.labels) == 1:
            request.labels = _listed(request.labels[0])
        classified = _classify(embedder, reader, image, request, req)
        resp.data = json.render(ClassifyFileAnswer(request.file[0].name, classified, embedder.name))


def _only(files: Sequence[Upload]) -> Upload:
    if len(files) != 1:
        raise InvalidInput(f"{len(files)} files were sent; exactly one image is named among the labels", param="file")
    return files[0]


def _listed(labels: str) -> list[str]:
    """`cat, dog` or `["cat", "dog"]` -> the labels. Raises InvalidInput for a JSON list of something else."""
    with suppress(msgspec.DecodeError):
        if isinstance(parsed := msgspec.json.decode(labels), list):
            return json.convert_item(parsed, list[str], "labels")
    return [label.strip() for label in labels.split(",") if label.strip()]


def _classify(
    embedder: Embedder,
    reader: InputReader,
    image: ImageFile,
    request: ClassifyRequest | ClassifyForm,
    req: falcon.Request,
) -> list[Classification]:
    """Image against every label in its sentence, best first. Label sentences seen before come from the cache."""
    template = embedder.model.manifest.zero_shot_template if request.template is None else request.template
    if "{}" not in template:
        raise InvalidInput("the template has no {} for the label", param="template")
    # Not str.format: a label or template may hold braces of its own.
    sentences = [template.replace("{}", label) if label else "" for label in request.labels]
    texts = reader.read_all(sentences, "labels", "text")
    embedder.check_kinds([image, *texts])  # before advice about fields that would not help
    shares = _shares(request, embedder)
    query, *candidates = embedder.embed(
        [image, *texts], req.context.request, verbatim=True, max_patches=request.max_patches
    )
    scores = ranked(query, candidates, embedder.model.manifest.scoring, shares=shares)
    return [
        Classification(request.labels[score.index], score.score, score.similarity, score.truncated) for score in scores
    ]


def _shares(request: ClassifyRequest | ClassifyForm, embedder: Embedder) -> bool | None:
    """Whether the scores are shares that sum to 1; None: as the model was trained.

    Raises UnsupportedInput for scores that the model was not trained for: they would look like probabilities.
    """
    multi_label, scoring = request.multi_label, embedder.model.manifest.scoring
    if multi_label and isinstance(scoring, Softmax):
        message = "compares the labels and has no probability of a label on its own: leave multi_label out or false"
        raise UnsupportedInput(f"model {embedder.name} {message}; `similarity` is the cosine", param="multi_label")
    if multi_label is False and isinstance(scoring, Cosine):
        message = "has no trained scale, and so no softmax: leave multi_label out; `score` is the cosine"
        raise UnsupportedInput(f"model {embedder.name} {message}", param="multi_label")
    return None if multi_label is None else not multi_label
