"""Whether two files make the same graph, by their metadata."""

import pytest

from models import write_model
from quern import QuernError, architecture

DEFAULTS = {
    "llama.attention.head_count_kv": 4,
    "llama.attention.key_length": 64,
    "llama.attention.value_length": 64,
    "llama.rope.freq_base": 10000.0,
    "llama.rope.scaling.type": "none",
    "llama.vocab_size": 300,
}
YARN = {
    "llama.rope.scaling.type": "yarn",
    "llama.rope.scaling.factor": 4.0,
    "llama.rope.scaling.original_context_length": 512,
}


def test_defaults_that_are_said_and_a_longer_context_change_nothing(made, tmp_path):
    other = write_model(tmp_path / "m.gguf", metadata=DEFAULTS, context_length=4096)
    architecture.require_same(other, made / "dense.gguf")
    architecture.require_same(made / "dense.gguf", other)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"llama.rope.freq_base": 5e5}, "llama.rope.freq_base is 500000, the baseline's 10000"),
        ({"llama.attention.scale": 0.5}, "its llama.attention.scale is 0.5, the baseline's 0"),
        ({"llama.attention.head_count_kv": 2}, "head_count_kv is 2, the baseline's 4"),
        ({"llama.of_a_fork": "x"}, "llama.of_a_fork is x, the baseline's not given"),
        (YARN, "rope.scaling.factor is 4.*original_context_length is 512.*scaling.type is yarn"),
    ],
)
def test_other_metadata_are_named(made, tmp_path, metadata, words):
    other = write_model(tmp_path / "m.gguf", metadata=metadata)
    with pytest.raises(QuernError, match=f"is not a quantization of .*{words}"):
        architecture.require_same(other, made / "dense.gguf")


def test_metadata_of_another_type_are_a_sentence(made, tmp_path):
    other = write_model(tmp_path / "m.gguf", metadata={"llama.nextn_predict_layers": "x"})
    with pytest.raises(QuernError, match="is damaged: its metadata make no sense"):
        architecture.require_same(other, made / "dense.gguf")
