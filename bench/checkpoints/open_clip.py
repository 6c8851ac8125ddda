"""Compare an export of OpenCLIP's format with the package open_clip_torch itself.

    python -m siglip_edge.bench.checkpoints.open_clip write DIRECTORY --model ViT-B-32 --pictures PHOTOS
    siglip-edge export DIRECTORY -o OUT --precision fp32 --calibration-images PHOTOS
    python -m siglip_edge.bench.checkpoints.open_clip compare OUT/NAME DIRECTORY --pictures PHOTOS

`write` needs open_clip_torch. It makes a checkpoint with random weights, and embeds texts and pictures with the
package's own tokenizer, transforms and towers; `compare` runs without the package.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from siglip_edge.runtime.artifacts.manifest import Manifest, Precision
from siglip_edge.runtime.execution.plan import CPU, Wishes, plan
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.scoring import l2_normalize

TEXTS = (
    *("a photo of a cat", "A PHOTO OF A CAT", "", " ", ".", "one two three four five six seven " * 30, "👩‍🚀🎉"),
    *("红色的苹果和一只猫", "¿Qué hora es?", "STRASSE straße İstanbul", "tabs\tand\nnew  lines", "  spaces around  "),
    *("it's we'll I'M don't", "a" * 500, "مرحبا नमस्ते 서울 桜", "1,234 € x ** 2", "e\u0301 vs é", "a _b_ c-d"),
    *("<end_of_text>", "a <END_OF_TEXT> b", "a cat<|endoftext|> and a dog", "a </s> b", "a <pad> b"),
)
"""None that ftfy would repair, which the package does before it tokenizes."""
REFERENCE = "reference.npz"
Floats = NDArray[np.float32]


def write(directory: Path, model: str, pictures: Path) -> None:
    import open_clip

    directory.mkdir(parents=True)
    torch.manual_seed(0)
    network, _, prepare = open_clip.create_model_and_transforms(model, pretrained=None)
    network.eval()
    save_file(
        {name: one.contiguous() for name, one in network.state_dict().items()},
        directory / "open_clip_model.safetensors",
    )
    given = open_clip.get_model_preprocess_cfg(network)
    content = {"model_cfg": open_clip.get_model_config(model), "preprocess_cfg": {**given, "size": list(given["size"])}}
    (directory / "open_clip_config.json").write_text(json.dumps(content, default=list))
    with torch.no_grad():
        texts = network.encode_text(open_clip.get_tokenizer(model)(list(TEXTS)))
        images = [network.encode_image(prepare(image)[None]) for image in _pictures(pictures)]
    np.savez(directory / REFERENCE, texts=texts.numpy(), images=torch.cat(images).numpy())


def compare(model_directory: Path, directory: Path, pictures: Path) -> None:
    manifest, reference = Manifest.load(model_directory), np.load(directory / REFERENCE)
    wishes = Wishes(precision=Precision.FP32)
    model = EmbeddingModel.load(model_directory, plan([CPU], read_cpu_budget(), manifest, wishes))
    for name, ours in (("texts", model.embed_texts(TEXTS)), ("images", model.embed_images(_pictures(pictures)))):
        cosines = np.sum(l2_normalize(ours) * l2_normalize(reference[name]), axis=1)
        print(f"{len(cosines)} {name}: cosine to open_clip at least {cosines.min():.7f}")


def _pictures(folder: Path) -> list[Image.Image]:
    """Each as it is and flatter, without the colour profile, which OpenCLIP ignores."""
    images = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))]
    images += [image.resize((image.width, image.height * 2 // 5 + index)) for index, image in enumerate(images)]
    for image in images:
        image.info.clear()
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, paths in (("write", ["directory"]), ("compare", ["model_directory", "directory"])):
        command = commands.add_parser(name)
        for path in paths:
            command.add_argument(path, type=Path)
        command.add_argument("--pictures", type=Path, required=True)
        command.set_defaults(run=write if name == "write" else compare)
        if name == "write":
            command.add_argument("--model", default="ViT-B-32", help="a name of open_clip.list_models()")
    arguments = vars(parser.parse_args())
    arguments.pop("run")(**arguments)


if __name__ == "__main__":
    main()
