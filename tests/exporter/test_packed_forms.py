"""The tokenizer of every family, in its own form with few pieces: packed, it gives the library's ids."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from siglip_edge.bench.tokenizer_forms import FORMS, unigram
from siglip_edge.exporter.tokenizers import packing
from siglip_edge.exporter.tokenizers.not_packable import NotPackable
from siglip_edge.exporter.tokenizers.packing import added_around, read_description, write_packed_tokenizer
from siglip_edge.exporter.tokenizers.probes import probe_texts
from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import Buckets, PackedTokenizerSpec, TextTower
from siglip_edge.runtime.text.packed.file_layout import PackedFile
from siglip_edge.runtime.text.packed.tokenizer import PackedTokenizer
from siglip_edge.runtime.text.token_ids import text_row
from siglip_edge.runtime.text.tokenizer import HuggingFaceTokenizer, load_tokenizer

ROOT = Path(__file__).parents[2]
TINY = {name: form.make for name, form in FORMS.items()} | {
    "one_word": lambda size: unigram(size, words=False),
    "byte_fallback": lambda size: unigram(size, byte_fallback=True),
}
AROUND = {
    "bert": (("[CLS]",), ("[SEP]",)),
    "clip": (("<|startoftext|>",), ("<|endoftext|>",)),
    "gemma": (("<bos>",), ("<eos>",)),
    "xlmr": (("<s>",), ("</s>",)),
    "siglip": ((), ("</s>",)),
    "qwen": ((), ("<|endoftext|>",)),
}


@pytest.fixture(scope="module", params=TINY)
def directory(request, tmp_path_factory) -> Path:
    """A family's tokenizer in both forms, compared by `write_packed_tokenizer` on texts of its own."""
    directory = tmp_path_factory.mktemp(request.param)
    TINY[request.param](1400).save(str(directory / "tokenizer.json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "PROBES", 3000)
        write_packed_tokenizer(directory, directory / "tokenizer.json", lambda items, _: items)
    return directory


@pytest.fixture(scope="module")
def reference(directory) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(directory / "tokenizer.json")


def packed(directory: Path) -> PackedTokenizer:
    return PackedTokenizer(PackedFile.load(directory / "tokenizer.bin"))


def texts_of(reference: HuggingFaceTokenizer, count: int, seed: int) -> list[str]:
    return list(probe_texts(read_description(reference), count, seed=seed))


def spec_of(directory: Path, length: int) -> TextTower:
    return TextTower(
        length=length,
        padding=Buckets(lengths=(length // 2, length)),
        inputs=("token_embeddings", "attention_mask"),
        pad_id=0,
        prefix_ids=packed(directory)._prefix,
        suffix_ids=packed(directory)._suffix,
        tokenizer=record_file(directory, directory / "tokenizer.json"),
        packed_tokenizer=PackedTokenizerSpec(
            file=record_file(directory, directory / "tokenizer.bin"), probes=1, layout=2
        ),
        artifacts={},
    )


def test_texts_that_the_proof_did_not_have(directory, reference):
    """Also added tokens with spaces around them, which `<mask>` and `[MASK]` take in."""
    tokenize = packed(directory)
    around = [f"a {token}  b{token}\n{token} " for token in ("<mask>", "[MASK]", "<s>", "<|endoftext|>", "[CLS]")]
    for text in (*around, *texts_of(reference, 2000, seed=1)):
        assert tokenize(text) == reference(text)


def test_a_row_does_not_depend_on_where_reading_stops(directory, reference):
    """A text that will be truncated is not read to its end, and gives the row of the whole text's ids."""
    spec = spec_of(directory, 16)
    served = load_tokenizer(directory, spec)
    long = "some words that go on, " * 100
    assert len(served(long)) <= len(reference(long))
    for text in (long, long.replace(" ", ""), *texts_of(reference, 300, seed=2)):
        ours, theirs = (text_row(text, each, spec) for each in (served, reference))
        assert np.array_equal(ours.row.arrays["token_ids"], theirs.row.arrays["token_ids"])
        assert (ours.tokens, ours.truncated) == (theirs.tokens, theirs.truncated)


def test_a_word_as_long_as_a_text_may_be(directory, reference):
    """32 768 characters without a space: whatever it costs, the ids are the library's."""
    tokenize = packed(directory)
    for word in ("a" * 32_768, "абв" * 10_000, "的" * 32_768):
        assert tokenize(word) == reference(word)


def test_both_refuse_a_lone_surrogate(directory, reference):
    for tokenize in (packed(directory), reference):
        with pytest.raises((UnicodeEncodeError, TypeError)):
            tokenize("a\ud800b")


def test_only_gemmas_form_needs_no_library(directory):
    """Text-only servers of SigLIP 2 and EmbeddingGemma do not import it."""
    program = f"""
import sys
from pathlib import Path
from siglip_edge.runtime.text.packed.file_layout import PackedFile
from siglip_edge.runtime.text.packed.tokenizer import PackedTokenizer
PackedTokenizer(PackedFile.load(Path({str(directory)!r}) / "tokenizer.bin"))("a")
print("tokenizers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{not directory.name.startswith('gemma')}\n"


@pytest.mark.parametrize("name", AROUND)
def test_ids_around_a_text_are_the_post_processors(name, tmp_path):
    tokenizer = TINY[name](1000)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = added_around(HuggingFaceTokenizer(tmp_path / "tokenizer.json"))
    assert found == tuple([tokenizer.token_to_id(token) for token in side] for side in AROUND[name])


def test_a_post_processor_that_puts_ids_into_the_text_is_refused(tmp_path):
    """Truncation keeps what stands around a text, so it must be known."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = TINY["bert"](1000)
    tokenizer.post_processor = TemplateProcessing(single="$A [SEP] $A", special_tokens=[("[SEP]", 3)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(NotPackable, match="post-processor"):
        write_packed_tokenizer(tmp_path, tmp_path / "tokenizer.json", lambda items, _: items)
