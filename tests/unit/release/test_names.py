"""Names of released files, against the gguf package's own function and real models' names."""

import pytest
from gguf.utility import naming_convention

from models import write_model
from quern import QuernError, gguf_files
from quern.release import names


@pytest.fixture(scope="module")
def stem_of(tmp_path_factory):
    """A function: the stem of a small model with such metadata."""
    folder = tmp_path_factory.mktemp("names")

    def stem(given=None, *, experts=0, **general):
        metadata = {f"general.{key}": value for key, value in general.items()}
        path = write_model(folder / "m.gguf", metadata=metadata, experts=experts)
        return names.stem(gguf_files.open_gguf(path), given)

    return stem


@pytest.mark.parametrize(
    ("base", "size", "tune", "version"),
    [
        ("gemma-3", "270M", None, None),
        ("smollm2", "135M", "8k-lc100k-mix1-ep2", None),
        ("Mixtral", "8x7B", "Instruct", "v0.1"),
        ("Llama 3.2", "1B", "Instruct Chat", "v1.0"),
        ("Qwen3", "30B-A3B", "Thinking", "2507"),
    ],
)
def test_names_are_those_of_gguf_s_own_function(stem_of, base, size, tune, version):
    general = {"basename": base, "size_label": size, "finetune": tune, "version": version}
    found = stem_of(**{key: value for key, value in general.items() if value})
    expected = naming_convention("random-0", base, tune, version, size, "Q4_K_M")
    assert f"{found}-{names.encodings({'x': 'Q4_K_M'})['x']}" == expected


@pytest.mark.parametrize(
    ("general", "expected"),
    [
        ({"name": "Quern demo"}, "Quern-demo-1.1M"),  # 1,072,384 weights
        ({"name": "Llama-3.2-1.1M-Instruct"}, "Llama-3.2-1.1M-Instruct"),
        ({"name": "Mixtral-8x7B-Instruct-v0.1"}, "Mixtral-8x7B-Instruct-v0.1"),
        ({"name": "Smollm2 1M Mix1"}, "Smollm2-1M-Mix1"),
        ({"basename": "demo"}, "demo-1.1M"),
    ],
)
def test_what_metadata_lack_is_in_the_model_s_name_or_counted(stem_of, general, expected):
    assert stem_of(**general) == expected


def test_experts_are_counted_as_ggml_counts_them(stem_of):
    """4 experts of 393,216 weights, and 681,216 others: 1.1M with one expert."""
    assert stem_of(basename="moe", experts=4) == "moe-4x1.1M"


def test_a_name_that_is_given_is_taken(stem_of):
    assert stem_of("Gemma-3-270M", basename="other") == "Gemma-3-270M"


@pytest.mark.parametrize("general", [{"basename": "../x"}, {"basename": "x", "finetune": "a/../b"}])
def test_a_name_that_would_leave_the_folder_is_refused(stem_of, general):
    with pytest.raises(QuernError, match="release: name:"):
        stem_of(**general)


def test_a_model_without_a_name_asks_for_one(stem_of):
    with pytest.raises(QuernError, match=r"neither general\.basename nor general\.name.*name:"):
        stem_of(name=" ")


def test_encodings_differ():
    labels = {
        "Q2_K": "Q2_K",
        "Q4_K_M": "Q4_K_M",
        "Q4_K_M.pure~exact+wiki^1000": "Q4_K_M",
        "mix-4.5bpw+wiki": "mix-4.5bpw",
    }
    assert names.encodings(labels) == {
        "Q2_K": "Q2_K",
        "Q4_K_M": "Q4_K_M",
        "Q4_K_M.pure~exact+wiki^1000": "Q4_K_M_PURE_EXACT_WIKI_1000",
        "mix-4.5bpw+wiki": "MIX_4_5BPW",
    }
    with pytest.raises(QuernError, match=r"Q4_0\.a-b and Q4_0\.a_b would both be called Q4_0_A_B"):
        names.encodings({"Q4_0.a-b": "Q4_0", "Q4_0.a_b": "Q4_0"})
