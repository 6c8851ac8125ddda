"""Train the demo model in three stages. Run: `python -m demo.train` (all), or name one of image, text, joint.

image  the image tower names the concept of strongly augmented pictures; each concept gets a direction, its prototype
text   the text tower learns to put every name, in ten languages, on its concept's prototype
joint  both towers together under SigLIP's sigmoid loss, which also sets logit scale and bias; writes demo/checkpoint

Contrastive training from scratch hardly moves at the batch sizes two cores allow; naming the concept does. Every stage
saves itself under demo/.runs and goes on from there when it is started again.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch._inductor import config as inductor
from tqdm import tqdm
from transformers import SiglipModel

from demo.augment import augment, may_flip, to_pixels
from demo.checkpoint import halved, save_checkpoint
from demo.model import VOCABULARY, WIDTH, build
from demo.pictures import HERE, Pictures, load_names, load_pictures
from demo.texts import SentenceSource, corpus, encode, names
from demo.tokenizer import train_tokenizer

RUNS = HERE / ".runs"
SEED = 20
SAVE_EVERY = 250  # steps

STEPS = {"image": 4700, "text": 900, "joint": 880}
RATE = {"image": 1e-3, "text": 2e-3, "joint": 2e-4}  # peak learning rates
BATCH = {"image": 128, "text": 384, "joint": 128}
KEPT_PATCHES = 32  # of 64, drawn anew for each picture: half the work, and it keeps the tower from memorising
WHOLE = 0.08  # the last share of the steps, which see whole pictures as serving will
COOLDOWN = 0.25  # the last share of the steps, over which the rate falls to zero
WARMUP = {"image": 200, "text": 50, "joint": 20}  # steps
WEIGHT_DECAY = 0.05
SMOOTHING = 0.05  # of the labels
FULL_STRENGTH = 0.35  # of the augmentation: 0.8 is more than a short run can learn under
RAMP = 0.35  # share of the steps after which it is reached: at once, nothing is learned
PROTOTYPE_SCALE = 16.0  # cosine -> logit; the prototypes are unit vectors
EMA_DECAY = {
    "image": 0.998,
    "text": 0.99,
    "joint": 0.98,
}  # averaged weights beat the last ones; short runs forget faster
FIRST_SCALE, FIRST_BIAS = 16.0, -8.0  # where the joint stage starts: right pairs have cosines about 0.7, others about 0
SCALARS = ("logit_scale", "logit_bias")
SCALAR_PACE = 20  # times the stage's rate: two numbers far from home
MUON_PACE = 2  # likewise


# --- what every stage shares ------------------------------------------------------------------------------------------


def rate_at(step: int, stage: str, steps: int) -> float:
    """Warm up, stay, cool down: a run can be lengthened any time before its cool-down begins."""
    left = (steps - step) / (COOLDOWN * steps)
    return RATE[stage] * min(1.0, (step + 1) / WARMUP[stage], left)


def optimizers_for(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for all else. Only matrices decay. `pace` multiplies the stage's rate."""
    named = list(model.named_parameters())
    hidden = [p for name, p in named if ".layers." in name and p.ndim == 2]
    scalars = [p for name, p in named if name in SCALARS]
    taken = {id(p) for p in [*hidden, *scalars]}
    rest = [p for _, p in named if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": WEIGHT_DECAY, "pace": 1},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0, "pace": 1},
        {"params": scalars, "weight_decay": 0.0, "pace": SCALAR_PACE},
    ]
    return [
        torch.optim.Muon(
            [{"params": hidden, "pace": MUON_PACE}], weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98), fused=True),
    ]


class Run:
    """One stage's model, its averaged copy, its optimizer and its progress; goes on where the last run stopped."""

    def __init__(self, stage: str, model: nn.Module, steps: int) -> None:
        self.stage, self.model, self.steps = stage, model, steps
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.optimizers = optimizers_for(model)
        self.path = RUNS / f"{stage}.pt"
        self.start = 0
        if self.path.exists():
            self._resume(torch.load(self.path))
        # The seed depends on the step, so that a resumed run does not repeat its first epochs' draws.
        torch.manual_seed(SEED + self.start)

    def _resume(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.start = state["step"]

    def train(self, loss_at: Callable[[int], Tensor], check: Callable[[], str]) -> None:
        """Take every step still to be taken; save and check now and then, and at the end."""
        progress = tqdm(
            range(self.start, self.steps), initial=self.start, total=self.steps, desc=self.stage, mininterval=5
        )
        shown = math.nan
        for step in progress:
            torch.set_num_threads(free_cores())
            loss = self._learn(step, loss_at(step))
            shown = loss if math.isnan(shown) else 0.98 * shown + 0.02 * loss
            progress.set_postfix_str(f"loss {shown:.3f}", refresh=False)
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == self.steps:
                self._save(step + 1)
                tqdm.write(f"{self.stage} step {step + 1}  loss {shown:.3f}  {check()}")

    def _learn(self, step: int, loss: Tensor) -> float:
        for group in [group for optimizer in self.optimizers for group in optimizer.param_groups]:
            group["lr"] = group["pace"] * rate_at(step, self.stage, self.steps)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        decay = min(EMA_DECAY[self.stage], (1 + step) / (10 + step))  # a young average forgets faster
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        return float(loss.item())

    def _save(self, step: int) -> None:
        """Beside, then rename: a stopped run leaves the last whole state."""
        RUNS.mkdir(exist_ok=True)
        state = {"model": self.model.state_dict(), "average": self.average.state_dict(), "step": step}
        state["optimizers"] = [optimizer.state_dict() for optimizer in self.optimizers]
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.path)


def batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Row numbers, every row once before any a second time, for ever."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).split(batch)[: count // batch]


def free_cores() -> int:
    """Cores that nobody else is using this instant. A second thread on a busy core holds up the first at every
    operation's end, so that sharing it is slower than leaving it.
    """
    cores = len(os.sched_getaffinity(0))
    running = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("procs_running"))
    return max(1, cores - (int(running.split()[1]) - 1))


class PictureSource:
    """Augmented training pictures with their concepts, batch by batch."""

    def __init__(self, batch: int, seed: int) -> None:
        slugs = list(load_names())
        pictures = load_pictures("train")
        self.rgba, self.concept = torch.from_numpy(pictures.rgba), torch.from_numpy(pictures.concept)
        self.flippable = may_flip([slugs[number] for number in pictures.concept])
        self.order = batches(len(self.rgba), batch, seed)

    def draw(self, strength: float = FULL_STRENGTH) -> tuple[Tensor, Tensor]:
        """-> (B, 3, S, S) float32, (B,) int64"""
        rows = next(self.order)
        return augment(self.rgba[rows], self.flippable[rows], strength), self.concept[rows]


def load_average(stage: str) -> dict[str, Tensor]:
    """A finished stage's averaged weights."""
    average: dict[str, Tensor] = torch.load(RUNS / f"{stage}.pt")["average"]
    return average


# --- image tower ------------------------------------------------------------------------------------------------------


class Namer(nn.Module):  # type: ignore[misc]
    """Image tower and one prototype a concept: a classifier in the shared space."""

    def __init__(self, concepts: int) -> None:
        super().__init__()
        self.tower = build().vision_model
        # Short, because only their direction counts and Adam moves every entry alike: long ones hardly turn.
        self.prototypes = nn.Parameter(0.03 * torch.randn(concepts, WIDTH))

    def forward(self, pixels: Tensor, kept: int | None = None) -> Tensor:
        """(B, 3, S, S) -> (B, concepts) logits."""
        return PROTOTYPE_SCALE * embed_pixels(self.tower, pixels, kept) @ F.normalize(self.prototypes, dim=1).T


def embed_pixels(tower: Any, pixels: Tensor, kept: int | None = None) -> Tensor:
    """(B, 3, S, S) -> (B, WIDTH) unit rows; with `kept`, the tower sees only that many patches of each picture."""
    with torch.autocast("cpu", torch.bfloat16):
        patches = tower.embeddings(pixels)
        if kept is not None:
            seen = torch.rand(patches.shape[:2]).argsort(dim=1)[:, :kept, None]
            patches = patches.gather(1, seen.expand(-1, -1, patches.shape[2]))
        pooled = tower.head(tower.post_layernorm(tower.encoder(inputs_embeds=patches).last_hidden_state))
    return F.normalize(pooled.float(), dim=1)


def name_accuracy(namer: Namer, pictures: Pictures, limit: int = 1000) -> str:
    """Top-1 and top-5 by prototype, on at most `limit` pictures spread over the split."""
    rows = np.linspace(0, len(pictures.rgba) - 1, min(limit, len(pictures.rgba))).astype(int)
    parts = torch.from_numpy(pictures.rgba[rows]).split(250)
    with torch.inference_mode():
        logits = torch.cat([namer(to_pixels(part)) for part in parts])
    hits = (logits.topk(5).indices == torch.from_numpy(pictures.concept[rows, None])).float()
    return f"top-1 {100 * hits[:, 0].mean():.1f} top-5 {100 * hits.sum(dim=1).mean():.1f}"


def train_image(steps: int) -> None:
    torch.manual_seed(SEED)
    run = Run("image", Namer(len(load_names())), steps)
    run.model.tower.encoder.forward = torch.compile(run.model.tower.encoder.forward, dynamic=False)  # a quarter faster
    source = PictureSource(BATCH["image"], SEED + run.start)
    checks = {split: load_pictures(split) for split in ("heldout", "unseen")}

    def loss_at(step: int) -> Tensor:
        pixels, concept = source.draw(FULL_STRENGTH * min(1.0, step / (RAMP * steps)))
        whole = step >= steps * (1 - WHOLE)
        return F.cross_entropy(run.model(pixels, None if whole else KEPT_PATCHES), concept, label_smoothing=SMOOTHING)

    def check() -> str:
        return "  ".join(f"{split} {name_accuracy(run.average, pictures)}" for split, pictures in checks.items())

    run.train(loss_at, check)


# --- text tower -------------------------------------------------------------------------------------------------------


def learned_tokenizer() -> Tokenizer:
    """Trained once a run, and kept beside the stages' states."""
    path = RUNS / "tokenizer.json"
    if not path.exists():
        train_tokenizer(corpus(), VOCABULARY).save(str(path))
    return Tokenizer.from_file(str(path))


def embed_tokens(tower: Any, tokens: Tensor) -> Tensor:
    """(B, TEXT_LENGTH) int64 -> (B, WIDTH) unit rows; no attention mask, the last position is pooled."""
    with torch.autocast("cpu", torch.bfloat16):
        pooled = tower(input_ids=tokens).pooler_output
    return F.normalize(pooled.float(), dim=1)


def train_text(steps: int) -> None:
    torch.manual_seed(SEED)
    tokenizer = learned_tokenizer()
    prototypes = F.normalize(load_average("image")["prototypes"], dim=1)
    run = Run("text", build(tokenizer.get_vocab_size()).text_model, steps)
    source = SentenceSource(tokenizer, SEED + run.start)

    def loss_at(_step: int) -> Tensor:
        tokens, concept, weight = source.draw(BATCH["text"])
        embedded = embed_tokens(run.model, tokens)
        named = F.cross_entropy(PROTOTYPE_SCALE * embedded @ prototypes.T, concept, reduction="none")
        apart = 1 - (embedded * prototypes[concept]).sum(dim=1)
        return (weight * (named + 4 * apart)).mean()

    def check() -> str:
        """Share of names whose nearest prototype is their own concept's, and their mean cosine to it."""
        known = [sentence for sentence in names() if sentence.language in ("en", "zh", "ru")]
        tokens, concept = encode(tokenizer, [s.text for s in known]), torch.tensor([s.concept for s in known])
        with torch.inference_mode():
            embedded = torch.cat([embed_tokens(run.average, part) for part in tokens.split(1000)])
        right = ((embedded @ prototypes.T).argmax(dim=1) == concept).float().mean()
        return (
            f"names on their prototype {100 * right:.1f}  cosine {(embedded * prototypes[concept]).sum(1).mean():.3f}"
        )

    run.train(loss_at, check)


# --- both towers ------------------------------------------------------------------------------------------------------


def joined() -> tuple[SiglipModel, Tokenizer]:
    """The two trained towers in one SiglipModel, and the tokenizer."""
    tokenizer = learned_tokenizer()
    model = build(tokenizer.get_vocab_size())
    image, text = load_average("image"), load_average("text")
    model.vision_model.load_state_dict(
        {k.removeprefix("tower."): v for k, v in image.items() if k.startswith("tower.")}
    )
    model.text_model.load_state_dict(text)
    model.logit_scale.data.fill_(math.log(FIRST_SCALE))
    model.logit_bias.data.fill_(FIRST_BIAS)
    return model, tokenizer


def sigmoid_loss(logits: Tensor, same: Tensor) -> Tensor:
    """SigLIP's loss over every pair: (B, T) logits, (B, T) bool that says which pairs belong together."""
    return F.binary_cross_entropy_with_logits(logits, same.float(), reduction="sum") / len(logits)


def train_joint(steps: int) -> None:
    torch.manual_seed(SEED)
    model, tokenizer = joined()
    run = Run("joint", model, steps)
    pictures = PictureSource(BATCH["joint"], SEED + run.start)
    sentences = SentenceSource(tokenizer, SEED + run.start)

    def loss_at(step: int) -> Tensor:
        pixels, concept = pictures.draw()
        whole = step >= steps // 2
        seen = embed_pixels(model.vision_model, pixels, None if whole else KEPT_PATCHES)
        read = embed_tokens(model.text_model, sentences.draw_for(concept))
        logits = model.logit_scale.exp() * seen @ read.T + model.logit_bias
        return sigmoid_loss(logits, concept[:, None] == concept[None, :])

    def check() -> str:
        return f"logit scale {run.average.logit_scale.exp().item():.2f} bias {run.average.logit_bias.item():.2f}"

    run.train(loss_at, check)
    save_checkpoint(halved(run.average), tokenizer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", nargs="?", choices=["all", "image", "text", "joint"], default="all")
    parser.add_argument("--steps", type=int, help="instead of the stage's own number")
    arguments = parser.parse_args()
    inductor.cpp.dynamic_threads = True  # compiled code, too, must heed free_cores()
    stages = {"image": train_image, "text": train_text, "joint": train_joint}
    for stage, train in stages.items():
        if arguments.stage in ("all", stage):
            train(arguments.steps or STEPS[stage])


if __name__ == "__main__":
    main()
