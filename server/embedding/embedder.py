"""Inputs -> embeddings of one model: the cache, then rows prepared in the thread of the request, then the lanes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeVar

import numpy as np

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.errors import DeadlineExceeded, InvalidInput, SpaceMismatch, UnsupportedInput
from siglip_edge.runtime.images.patch_limit import patch_limit
from siglip_edge.runtime.model import Floats
from siglip_edge.runtime.rows import Row
from siglip_edge.runtime.scoring import l2_normalize
from siglip_edge.server.batching.batch_request import BatchRequest
from siglip_edge.server.batching.batcher import MicroBatcher
from siglip_edge.server.embedding.cache import Claim, EmbeddingCache
from siglip_edge.server.embedding.preparation import Model, Part, Preparation, Prepared, tower_of
from siglip_edge.server.http.request_context import RequestContext
from siglip_edge.server.inputs.input_reader import AnyInput, ImageFile, Joint, Text

Lane = MicroBatcher[Row, Floats]

_KINDS = {Tower.TEXT: "texts", Tower.VISION: "images"}


@dataclass(frozen=True)
class Embedding:
    """The embedding of one input, and the counts that `usage` reports."""

    vector: Floats
    """float32 (d,), of unit length."""
    tokens: int = 0
    truncated: bool = False
    """Whether the text had more tokens than the tower takes."""
    patches: int = 0


GoodT = TypeVar("GoodT")
Outcome = Embedding | InvalidInput
"""The embedding of an input, or the error of an input that has none."""


class Embedder:
    """Embeds inputs with one model. Thread-safe: each request has a thread of its own, and requests share runs."""

    def __init__(
        self,
        name: str,
        model: Model,
        lanes: dict[Tower, Lane],
        cache: EmbeddingCache[Embedding],
        preparation: Preparation,
        *,
        wait_for_room: bool = False,
        text_template: str | None = None,
        serving: Callable[[Tower], Sequence[str]] = lambda tower: (),  # noqa: ARG005
        max_patches: int | None = None,
        naflex: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`text_template`: a sentence with {} in place of each text; None: texts are embedded as they are.

        `serving(tower)`: names of the models of this server that have the tower.
        `max_patches`: most patches of an image whose request does not say; None: the model's own number.
        `naflex()`: names of the models of this server that take `max_patches`.
        """
        self.name = name
        self.model = model
        self.lanes = lanes
        self._cache = cache
        self._preparation = preparation
        self._wait_for_room = wait_for_room
        self._text_template = text_template
        self._serving = serving
        self._max_patches = max_patches
        self._naflex = naflex

    def embed(
        self,
        inputs: Sequence[AnyInput | InvalidInput],
        context: RequestContext,
        *,
        verbatim: bool = False,
        max_patches: int | None = None,
    ) -> list[Embedding]:
        """-> one embedding per input, in order. `verbatim`: without the text template and the default prompt.

        `max_patches`: most patches of each image, as in `patch_limit`.

        Raises InvalidInput, the error of the first bad input, before any tower runs; raises Unavailable (Overloaded,
        NotReady or DeadlineExceeded) when a tower cannot take the work or finish it in time.
        """
        outcomes = self._embed(inputs, context, tolerant=False, verbatim=verbatim, max_patches=max_patches)
        return [_good(outcome) for outcome in outcomes]

    def embed_tolerantly(
        self,
        inputs: Sequence[AnyInput | InvalidInput],
        context: RequestContext,
        *,
        verbatim: bool = False,
        max_patches: int | None = None,
    ) -> list[Outcome]:
        """As `embed`, but returns the error of a bad input in its place and embeds the other inputs."""
        return self._embed(inputs, context, tolerant=True, verbatim=verbatim, max_patches=max_patches)

    def check_kinds(self, inputs: Sequence[AnyInput | InvalidInput]) -> None:
        """Raise UnsupportedInput for the first input of a kind that the model does not embed."""
        for given in inputs:
            for part in _parts(given):
                self._check_kind(part)

    def shorten(self, embedding: Embedding, dimensions: int | None) -> Embedding:
        """-> the embedding with `dimensions` numbers, of unit length; None: as it is.

        Raises UnsupportedInput for a length that the model does not support.
        """
        if dimensions is None:
            return embedding
        return replace(embedding, vector=self.model.shorten(embedding.vector[None], dimensions)[0])

    def _embed(
        self,
        inputs: Sequence[AnyInput | InvalidInput],
        context: RequestContext,
        *,
        tolerant: bool,
        verbatim: bool,
        max_patches: int | None,
    ) -> list[Outcome]:
        asked = self._max_patches if max_patches is None else max_patches
        limit = patch_limit(self.model.manifest, asked, name=self.name, others=self._naflex)
        if not tolerant:
            for given in inputs:
                _good(given)
        parts = [self._completed(part, limit, verbatim=verbatim) for given in inputs for part in _parts(given)]
        outcomes = iter(self._embed_parts(parts, context, tolerant=tolerant))
        return [_combined(given, [next(outcomes) for _ in _parts(given)]) for given in inputs]

    def _completed(self, part: Part, max_patches: int | None, *, verbatim: bool) -> Part:
        """The part, with the patches of an image; with a text put into the template, and then behind its prompt."""
        if isinstance(part, ImageFile):
            return part if max_patches is None else replace(part, max_patches=max_patches)
        if not isinstance(part, Text) or verbatim:
            return part
        text = part.text if self._text_template is None else self._text_template.replace("{}", part.text)
        prompt = self._default_prompt if part.prompt is None else part.prompt
        return replace(part, text=prompt + text)

    def _check_kind(self, part: Part) -> None:
        if (lacking := self.lacking(tower_of(part))) is not None:
            raise UnsupportedInput(lacking, param=part.param, code="modality_not_served")

    def lacking(self, tower: Tower) -> str | None:
        """Says that this model does not embed what the tower is for, and which models of this server do.

        None: it does.
        """
        if tower in self.lanes:
            return None
        (own,) = {Tower.TEXT, Tower.VISION} - {tower}
        why = " here (TOWERS)" if tower in self.model.manifest.tower_names else ""
        names = ", ".join(self._serving(tower))
        remedy = f"name a model with {_KINDS[tower]} as `model`: {names}" if names else "no model of this server does"
        return f"model {self.name} embeds {_KINDS[own]} only{why}, no {_KINDS[tower]}; {remedy}"

    @property
    def _default_prompt(self) -> str:
        spec = self.model.manifest.towers.text
        return spec.prompts[spec.default_prompt] if spec and spec.default_prompt is not None else ""

    # -- cache ---------------------------------------------------------------------------------------------------------

    def _embed_parts(self, parts: Sequence[Part], context: RequestContext, *, tolerant: bool) -> list[Outcome]:
        claims = [self._cache.claim(self._preparation.key(part)) for part in parts]
        try:
            own = [(part, claim) for part, claim in zip(parts, claims, strict=True) if claim.owns]
            failures = self._settle(own, context, tolerant=tolerant)
        except BaseException as error:
            for claim in claims:
                self._cache.give_up(claim, error)
            raise
        return [
            failures.get(id(claim)) or self._await(part, claim, context, tolerant=tolerant)
            for part, claim in zip(parts, claims, strict=True)
        ]

    def _settle(
        self, own: list[tuple[Part, Claim[Embedding]]], context: RequestContext, *, tolerant: bool
    ) -> dict[int, InvalidInput]:
        """Compute the parts whose claims this request owns. -> id() of a claim -> the error of its part."""
        failures = {}
        outcomes = self._compute([part for part, _ in own], context, tolerant=tolerant)
        for (_, claim), outcome in zip(own, outcomes, strict=True):
            if isinstance(outcome, InvalidInput):
                self._cache.give_up(claim, outcome)
                failures[id(claim)] = outcome
            else:
                self._cache.settle(claim, outcome, outcome.vector.nbytes)
        return failures

    def _await(self, part: Part, claim: Claim[Embedding], context: RequestContext, *, tolerant: bool) -> Outcome:
        """The kept embedding, or the embedding that another request computes now for the same input."""
        try:
            return claim.result(max(0.0, context.deadline - time.monotonic()))
        except FutureTimeout:
            raise DeadlineExceeded("the request ran out of time while another one embedded the same input") from None
        except Exception:  # noqa: BLE001 - the other request may have failed for its own reasons, such as its deadline
            return self._compute([part], context, tolerant=tolerant)[0]

    # -- towers --------------------------------------------------------------------------------------------------------

    def _compute(self, parts: Sequence[Part], context: RequestContext, *, tolerant: bool) -> list[Outcome]:
        """Prepare the parts, run their rows in both lanes, and put the embeddings back in order."""
        self._check_room(parts, context)
        prepared = [self._prepare(part, context, tolerant=tolerant) for part in parts]
        vectors = iter(self._run([row for row in prepared if isinstance(row, Prepared)], context))
        return [
            row if isinstance(row, InvalidInput) else Embedding(next(vectors), row.tokens, row.truncated, row.patches)
            for row in prepared
        ]

    def _check_room(self, parts: Sequence[Part], context: RequestContext) -> None:
        """Raise Overloaded before decoding images whose rows could not be admitted afterwards."""
        if self._wait_for_room:
            return
        for tower, lane in self.lanes.items():
            if rows := sum(tower_of(part) is tower for part in parts):
                lane.check_room(rows, deadline=context.deadline)

    def _prepare(self, part: Part, context: RequestContext, *, tolerant: bool) -> Prepared | InvalidInput:
        try:
            self._check_kind(part)
            return self._preparation.prepare(part, context)
        except InvalidInput as error:
            error.param = part.param
            if not tolerant:
                raise
            return error

    def _run(self, prepared: Sequence[Prepared], context: RequestContext) -> list[Floats]:
        """Run each row in the lane of its tower. -> one float32 (d,) vector per row, in order."""
        requests: dict[Tower, BatchRequest[Row, Floats]] = {}
        try:
            for tower, lane in self.lanes.items():
                if rows := [item.row for item in prepared if item.tower is tower]:
                    requests[tower] = lane.submit(
                        rows, deadline=context.deadline, abandoned=context.abandoned, wait_for_room=self._wait_for_room
                    )
            outputs = {tower: iter(request.result()) for tower, request in requests.items()}
        except BaseException:
            for request in requests.values():
                request.cancel()
            raise
        for tower, request in requests.items():
            context.add("queue", tower, request.queue_s)
            context.add("inference", tower, request.inference_s)
        return [next(outputs[item.tower]) for item in prepared]


def check_space(manifest: Manifest, *expected: str | None) -> None:
    """Raise SpaceMismatch when the caller expects vectors of another embedding space. None: no expectation."""
    for space in expected:
        if space is not None and space != manifest.space_id:
            raise SpaceMismatch(
                f"this model's space is {manifest.space_id}, the request expects {space}: "
                "their vectors cannot be compared. Send the name of the right model, or rebuild the index",
                param="expect_space",
            )


def _good(outcome: GoodT | InvalidInput) -> GoodT:
    if isinstance(outcome, InvalidInput):
        raise outcome
    return outcome


def _parts(given: AnyInput | InvalidInput) -> tuple[Part, ...]:
    if isinstance(given, InvalidInput):
        return ()
    return given.parts if isinstance(given, Joint) else (given,)


def _combined(given: AnyInput | InvalidInput, outcomes: list[Outcome]) -> Outcome:
    """The outcome of an input from the outcomes of its parts. A joint input: the normalised mean of all vectors."""
    if isinstance(given, InvalidInput):
        return given
    for outcome in outcomes:
        if isinstance(outcome, InvalidInput):
            return outcome
    if not isinstance(given, Joint):
        return outcomes[0]
    return _mean([outcome for outcome in outcomes if isinstance(outcome, Embedding)])


def _mean(parts: Sequence[Embedding]) -> Embedding:
    total = reduce(np.add, [part.vector for part in parts])
    return Embedding(
        l2_normalize(total[None] / np.float32(len(parts)))[0],
        tokens=sum(part.tokens for part in parts),
        truncated=any(part.truncated for part in parts),
        patches=sum(part.patches for part in parts),
    )
