"""What tensors are asked to be, against what stands in the file, and options without effect."""

import time

import gguf
import pytest

from models import write_model
from quern import QuernError, gguf_files
from quern.quantize import patterns, quantization
from quern.quantize.recipes import Recipe, recipes_of

SLOW = r"^((a|[a-z]|\w|\.)+)+(?<![a-z])$"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A model whose rows of 96 and 64 are no multiples of 256, and what is said of it."""
    path = write_model(tmp_path_factory.mktemp("narrow") / "m.gguf", n_embd=96, n_ff=64, n_head=2)
    return path, gguf_files.model_info(path)


def quantized(model, recipe, path):
    """The account of every tensor; its types are those of the file."""
    made = quantization.quantize(*model, recipe, path)
    written = {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}
    assert {name: said["got"] for name, said in made.tensors.items()} == written
    return made


def test_fallbacks_and_kept_tensors_are_told(narrow, tmp_path):
    """llama.cpp: rows that are no multiple of 256 become Q5_0 where Q4_K was meant."""
    tensors = quantized(narrow, Recipe("Q4_K_M"), tmp_path / "q.gguf").tensors
    assert tensors["blk.0.attn_q.weight"] == {
        "asked": "Q4_K",
        "got": "Q5_0",
        "why": "rows of 96 are no multiple of 256",
    }
    assert tensors["blk.1.ffn_down.weight"]["asked"] == "Q6_K"
    assert tensors["blk.1.ffn_down.weight"]["got"] == "Q8_0"
    assert tensors["output_norm.weight"] == {"asked": "F32", "got": "F32"}


def test_a_type_that_rows_allow_is_got(narrow, tmp_path):
    recipe = Recipe("Q4_0", tensor_types=((r"blk\.0\.", "Q5_1"),), output_type="Q8_0")
    tensors = quantized(narrow, recipe, tmp_path / "q.gguf").tensors
    assert {said["got"] for n, said in tensors.items() if "blk.0" in n and "norm" not in n} == {
        "Q5_1"
    }
    assert tensors["output.weight"] == {"asked": "Q8_0", "got": "Q8_0"}
    assert tensors["blk.0.attn_norm.weight"]["asked"] == "Q5_1"
    assert "keeps norms" in tensors["blk.0.attn_norm.weight"]["why"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tensor_types": (("blk.99.typo", "Q8_0"),)}, "blk.99.typo matches no tensor"),
        ({"tensor_types": (("_norm", "Q8_0"),)}, "_norm cannot give Q8_0 to .*_norm.weight: .*"),
        ({"tensor_types": ((r"ffn_\D+", "Q8_0"),)}, r"reads \\D in .* as \\d"),
        ({"tensor_types": (("blk.[", "Q8_0"),)}, r"blk\.\[ is no regular expression"),
        ({"tensor_types": ((SLOW, "Q8_0"),)}, "takes longer than 1 s on "),
        ({"output_type": "Q6_K"}, "output.weight cannot become Q6_K: its rows have 96 weights"),
        ({"token_embedding_type": "Q3_K"}, "token_embd.weight cannot become Q3_K"),
        ({"output_type": "Q8_K"}, "knows no tensor type Q8_K"),
        ({"tensor_types": (("ffn", "I32"),)}, "knows no tensor type I32"),
        ({"type": "BF16", "tensor_types": (("ffn", "Q8_0"),)}, "no effect on BF16"),
    ],
)
def test_what_cannot_be_is_refused(narrow, tmp_path, options, said):
    start = time.monotonic()
    with pytest.raises(QuernError, match=said):
        quantization.quantize(*narrow, Recipe(**{"type": "Q4_0"} | options), tmp_path / "q.gguf")
    assert list(tmp_path.iterdir()) == [] and time.monotonic() - start < 20


def test_patterns_are_taken_in_upper_case_as_llama_quantize_takes_them(narrow, tmp_path):
    lower, upper = (
        quantized(narrow, Recipe("Q4_0", tensor_types=((p, "Q8_0"),)), tmp_path / "q.gguf").tensors
        for p in (r"blk\.[01]\.ffn", r"BLK\.[01]\.FFN")
    )
    assert lower == upper
    assert upper["blk.0.ffn_up.weight"]["got"] == "Q8_0"


def test_a_pattern_behind_others_is_said(narrow, tmp_path):
    pairs = (("ffn", "Q8_0"), ("ffn_up", "Q5_0"))
    made = quantized(narrow, Recipe("Q4_0", tensor_types=pairs), tmp_path / "q.gguf")
    assert made.tensors["blk.0.ffn_up.weight"]["got"] == "Q8_0"
    assert [note for note in made.notes if "ffn_up decides nothing" in note]
    recipe = Recipe("Q4_0", tensor_types=(("^output.weight", "Q8_0"),), output_type="Q5_0")
    assert "decides nothing" in quantized(narrow, recipe, tmp_path / "q.gguf").notes[0]


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"types": ["BF16"], "tensor_types": {"ffn": "Q8_0"}}, r"quantize\.0: tensor_types has no"),
        ({"types": ["Q4_0"], "tensor_types": {"(": "Q8_0"}}, "is no regular expression"),
    ],
)
def test_the_configuration_is_refused(sweep, said):
    entry = {"imatrix": ["none"], "rounding": ["ggml"]} | sweep
    with pytest.raises(QuernError, match=said):
        recipes_of(
            {"corpora": {}, "calibrations": {}, "imatrix": {"files": {}}, "quantize": [entry]}
        )


def test_names_are_matched_anywhere_and_by_the_first_pattern():
    pairs = (("attn_[qk]", "Q8_0"), ("blk", "Q4_0"))
    names = ["blk.0.attn_q.weight", "blk.0.ffn_up.weight", "output.weight"]
    assert patterns.matched(pairs, names) == {names[0]: ["attn_[qk]", "blk"], names[1]: ["blk"]}
