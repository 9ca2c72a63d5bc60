"""What is said of a model, against what the gguf package reads from it."""

import dataclasses
import hashlib
from collections import Counter

import gguf
import numpy as np
import pytest

from models import write_model
from quern import QuernError, files, gguf_files
from quern.gguf_files import ModelInfo
from quern.llama import Model
from quern.quantize import quantization

MODELS = {
    "dense": {},
    "experts": {"experts": 4},
    "wide": {"dtype": "F32", "n_embd": 64, "n_ff": 96, "n_layer": 3, "tokens": 280},
    "brain": {"dtype": "BF16", "n_embd": 64},
    "tied": {"tied": True, "n_embd": 64},
    "bias": {"output_bias": True, "n_embd": 64},
    "scaled": {"architecture": "command-r", "logit_scale": 0.25, "n_embd": 64},
    "capped": {"architecture": "gemma2", "softcap": 30.0, "n_embd": 64},
}


@pytest.fixture(scope="module", params=MODELS)
def model(request, tmp_path_factory):
    """The path of a model, its options, and what is said of it."""
    path = tmp_path_factory.mktemp("models") / f"{request.param}.gguf"
    write_model(path, **MODELS[request.param])
    return path, MODELS[request.param], gguf_files.model_info(path)


def values(tensor):
    """A tensor's values, widened by the gguf package."""
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


def test_numbers_are_those_of_the_tensors(model):
    path, options, info = model
    tensors = gguf.GGUFReader(path).tensors
    assert info.parameters == sum(values(t).size for t in tensors)
    assert info.tensor_bytes == sum(t.data.nbytes for t in tensors)
    assert info.file_bytes == len(path.read_bytes())
    assert info.tensor_types == Counter(t.tensor_type.name for t in tensors)
    assert info.bits_per_weight == pytest.approx(
        np.average(
            [t.data.nbytes * 8 / values(t).size for t in tensors],
            weights=[values(t).size for t in tensors],
        )
    )
    assert info.n_vocab == options.get("tokens", 300)
    assert info.name == "random-0"
    assert info.architecture == options.get("architecture", "llama")


def test_hashes_are_of_the_content(model, made):
    path, _, info = model
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    same_tokens = info.n_vocab == 300
    dense = gguf_files.model_info(made / "dense.gguf")
    assert (info.tokenizer_sha256 == dense.tokenizer_sha256) == same_tokens


def test_matrices_of_the_blocks(model):
    path, _, info = model
    expected = {}
    for tensor in gguf.GGUFReader(path).tensors:
        shape = values(tensor).shape  # numpy's, columns last
        if tensor.name.startswith("blk.") and len(shape) > 1:
            expected[tensor.name] = (shape[-1], shape[0] if len(shape) == 3 else 1)
    assert info.matrices == expected and len(expected) >= 7 * 2


def test_what_lies_at_the_output_place_is_the_output_matrix(model):
    path, options, info = model
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    name = "token_embd.weight" if options.get("tied") else "output.weight"
    assert ("output.weight" in tensors) == (name == "output.weight")
    place, expected = info.output, values(tensors[name])
    assert (place.rows, place.columns) == expected.shape
    assert (place.type, place.shard) == (options.get("dtype", "F16"), 0)
    raw = path.read_bytes()[place.offset :][: tensors[name].data.nbytes]
    kind = gguf.GGMLQuantizationType[place.type]
    found = gguf.quants.dequantize(np.frombuffer(raw, np.uint8).reshape(place.rows, -1), kind)
    assert (found == expected).all()


def test_what_lies_at_the_place_of_the_bias_is_the_bias(model):
    path, options, info = model
    place = info.output
    if not options.get("output_bias"):
        assert place.bias_shard is None and place.bias_offset is None
        return
    expected = {t.name: t for t in gguf.GGUFReader(path).tensors}["output.bias"].data
    found = np.fromfile(path, np.float32, place.rows, offset=place.bias_offset)
    assert place.bias_shard == 0 and (found == expected).all()


def test_scale_and_cap_of_the_logits(model):
    _, options, info = model
    assert info.logit_scale == options.get("logit_scale", 0)
    assert info.logit_softcap == options.get("softcap", 0)


def test_what_was_written_as_json_is_read_back(model, tmp_path):
    _, _, info = model
    files.write_json(tmp_path / "model.json", info.as_dict())
    assert ModelInfo.read(tmp_path / "model.json") == info


def test_another_json_describes_no_model(model, tmp_path):
    _, _, info = model
    path, whole = tmp_path / "model.json", info.as_dict()
    lacking = {key: value for key, value in whole.items() if key != "n_vocab"}
    for content in ({}, {"windows": 3}, lacking, whole | {"output": {"rows": 3}}):
        files.write_json(path, content)
        with pytest.raises(QuernError, match=r"model\.json does not describe a model"):
            ModelInfo.read(path)


def test_known_hashes_are_taken_as_they_are(made):
    info = gguf_files.model_info(made / "dense.gguf")
    told = gguf_files.model_info(made / "dense.gguf", ["0" * 64])
    assert told == dataclasses.replace(info, sha256="0" * 64)


def test_a_file_cut_short_at_any_place_is_refused(made, tmp_path):
    whole = (made / "dense.gguf").read_bytes()
    data = min(t.data_offset for t in gguf.GGUFReader(made / "dense.gguf").tensors)
    path = tmp_path / "cut.gguf"
    for size in (4, 8, 30, 2000, data - 100, data + 100, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:size])
        with pytest.raises(QuernError, match=r"cut\.gguf is (damaged or )?cut short"):
            gguf_files.model_info(path)


def test_what_is_no_model_file(tmp_path):
    with pytest.raises(QuernError, match=r"none\.gguf does not exist"):
        gguf_files.model_info(tmp_path / "none.gguf")
    for content in (b"", b"GG", b"ggml and more", b"\x80\x02}q\x00."):
        (tmp_path / "x.gguf").write_bytes(content)
        with pytest.raises(QuernError, match=r"x\.gguf is not a GGUF file\.$"):
            gguf_files.model_info(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of git-lfs"),
        (b"\n<!DOCTYPE html>\n<html></html>", "a web page; download the file itself"),
        (b"GGUF\1\0\0\0", "a GGUF of version 1, which llama.cpp reads no more"),
    ],
)
def test_what_else_is_called_gguf(tmp_path, content, words):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(QuernError, match=f"not a GGUF file that can be read but {words}"):
        gguf_files.model_info(tmp_path / "x.gguf")


def test_a_file_of_another_byte_order(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_tensor("token_embd.weight", np.ones((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(QuernError, match=r"b\.gguf has .* turn it by gguf-convert-endian first"):
        gguf_files.model_info(tmp_path / "b.gguf")


@pytest.mark.parametrize(
    ("name", "metadata", "words"),
    [
        ("lora.gguf", {"general.type": "adapter"}, "an adapter .LoRA.; merge it into its model"),
        ("lora.gguf", {"adapter.type": "lora"}, "an adapter .LoRA.; merge it into its model"),
        ("seen.gguf", {"general.type": "mmproj"}, "a projector for images or sound"),
        ("e.gguf", {"llama.attention.causal": False}, "e.gguf is an encoder or a diffusion model"),
        ("e.gguf", {"llama.pooling_type": 3}, "e.gguf is an embedding model; Quern measures"),
        ("e.gguf", {"llama.pooling_type": 4}, "e.gguf is a reranker; Quern measures models that"),
        (
            "m-00002-of-00003.gguf",
            {"split.no": 1, "split.count": 3},
            "is shard 2 of 3; name",
        ),
        ("renamed.gguf", {"split.no": 1, "split.count": 3}, "is shard 2 of 3; name"),
        ("first.gguf", {"split.no": 0, "split.count": 3}, "give the shards their names again"),
    ],
)
def test_other_files_say_what_they_are(tmp_path, name, metadata, words):
    path = write_model(tmp_path / name, n_embd=64, n_layer=1, metadata=metadata)
    with pytest.raises(QuernError, match=words):
        gguf_files.model_info(path)


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("clip", "not a model but a projector for images or sound"),
        ("controlvector", "not a model but a control vector; name the model that it steers"),
    ],
)
def test_other_files_are_known_by_their_architecture(tmp_path, architecture, words):
    path = write_model(tmp_path / "m.gguf", n_embd=64, n_layer=1, architecture=architecture)
    with pytest.raises(QuernError, match=words):
        gguf_files.model_info(path)


def test_an_unknown_pre_tokenizer_is_named(tmp_path):
    path = write_model(tmp_path / "m.gguf", n_embd=64, n_layer=1, pre_tokenizer="future-1")
    with pytest.raises(QuernError, match="unknown pre-tokenizer type: 'future-1'"):
        Model(path, load="vocab")


def test_a_special_id_more_is_the_same_tokenizer(tmp_path, made):
    more = {"tokenizer.ggml.padding_token_id": 0}
    padded = gguf_files.model_info(write_model(tmp_path / "padded.gguf", metadata=more))
    plain = gguf_files.model_info(made / "dense.gguf")
    assert padded.tokenizer_sha256 == plain.tokenizer_sha256
    assert padded.tokenizer_settings == plain.tokenizer_settings | {"padding_token_id": 0}
    assert plain.tokenizer_settings["bos_token_id"] == 256


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([], r"bare\.gguf is a GGUF file, but not a model"),
        (["a"], r"bare\.gguf is not a model but a vocabulary without weights"),
    ],
)
def test_a_file_without_tensors_is_no_model(tmp_path, tokens, words):
    writer = gguf.GGUFWriter(tmp_path / "bare.gguf", "llama")
    if tokens:
        writer.add_token_list(tokens)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(QuernError, match=words):
        gguf_files.model_info(tmp_path / "bare.gguf")


def test_only_an_unquantized_model_is_a_baseline(made, tmp_path):
    info = gguf_files.model_info(made / "dense.gguf")
    gguf_files.require_unquantized(info, made / "dense.gguf")
    for kind in ("BF16", "F64", "I32"):
        gguf_files.require_unquantized(
            dataclasses.replace(info, tensor_types={"F32": 5, kind: 1}), made / "dense.gguf"
        )
    path = tmp_path / "q.gguf"
    quantization.quantize(made / "dense.gguf", info, quantization.Recipe("Q4_0"), path)
    with pytest.raises(QuernError, match=r"q\.gguf is already quantized \(Q4_0, Q6_K\)"):
        gguf_files.require_unquantized(gguf_files.model_info(path), path)
