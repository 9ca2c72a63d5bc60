"""Foreign models are believed if their weights are the baseline's, rounded."""

import gguf
import numpy as np
import pytest

from models import write_model
from quern import QuernError, architecture, gguf_files, llama
from quern.quantize import foreign, likeness, quantization


def described(model, baseline):
    """The notes of a foreign model."""
    found = foreign.describe("theirs", model, baseline, gguf_files.model_info(baseline))
    return found["made"].get("notes", [])


def quantized(model, kind, output):
    quantization.quantize(
        model, gguf_files.model_info(model), quantization.Recipe(kind, pure=True), output
    )
    return output


def changed(model, output, change):
    """A copy whose tensors went through a function of name and values."""
    reader, writer = gguf.GGUFReader(model), gguf.GGUFWriter(output, "llama")
    for name, found in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            of = found.types[1] if len(found.types) > 1 else None
            writer.add_key_value(name, found.contents(), found.types[0], sub_type=of)
    for tensor in reader.tensors:
        values = change(tensor.name, np.array(tensor.data))
        writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return output


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K", "Q2_K", "TQ1_0"])
def test_a_quantization_has_no_notes_and_one_of_other_weights_is_refused(made, tmp_path, kind):
    """TQ1_0 is as coarse as types are."""
    baseline = made / "dense.gguf"
    assert described(quantized(baseline, kind, tmp_path / "own.gguf"), baseline) == []
    other = quantized(write_model(tmp_path / "other.gguf", seed=1), kind, tmp_path / "q.gguf")
    words = rf"^candidates.theirs: .* is not a quantization of .*\({kind}\) correlates .* by 0\.0"
    with pytest.raises(QuernError, match=words):
        described(other, baseline)


@pytest.mark.parametrize("kind", ["Q6_K", "Q4_1", "Q2_K"])
def test_importances_over_orders_of_magnitude_are_explained(made, tmp_path, kind):
    baseline, rng = made / "dense.gguf", np.random.default_rng(0)
    sizes = gguf_files.model_info(baseline).matrices
    importances = {n: np.exp(3 * rng.standard_normal(k * m)) for n, (k, m) in sizes.items()}
    importances = {name: values.astype(np.float32) for name, values in importances.items()}
    path = tmp_path / "q.gguf"
    llama.quantize(baseline, path, llama.QuantizationParameters(kind, importances))
    assert described(path, baseline) == []


def test_another_version_of_the_model_is_said(made, tmp_path):
    """An eighth of noise is more than Q4_K explains, and less than Q2_K costs."""
    baseline, rng = made / "dense.gguf", np.random.default_rng(0)

    def tuned(name, values):
        if "norm" in name:
            return values * np.float32(1.25) if name == "blk.1.ffn_norm.weight" else values
        size = values.astype(np.float32).std() / 8
        return (values + size * rng.standard_normal(values.shape)).astype(values.dtype)

    model = changed(baseline, tmp_path / "tuned.gguf", tuned)
    matrices, vectors = described(quantized(model, "Q4_K", tmp_path / "4.gguf"), baseline)
    assert matrices.startswith("16 of 16 matrices are farther from the baseline's")
    assert vectors.startswith("1 of 5 norms and biases differ from the baseline's")
    assert "blk.1.ffn_norm.weight by up to 20.00%" in vectors
    coarse = described(quantized(model, "Q2_K", tmp_path / "2.gguf"), baseline)
    assert coarse == [vectors]


def test_norms_may_differ_by_the_rounding_of_the_types_alone(made, tmp_path):
    """1.0004 becomes 1 in halves; in F32 it is another number."""
    near = np.float32(1.0004)

    def made_of(output, dtype):
        def change(name, values):
            return (values * near).astype(dtype) if "norm" in name else values

        return changed(made / "dense.gguf", tmp_path / output, change)

    wide, halves = made_of("wide.gguf", np.float32), made_of("halves.gguf", np.float16)
    assert described(halves, wide) == described(wide, halves) == []
    assert "5 of 5 norms" in described(wide, made / "dense.gguf")[0]


def test_blocks_for_drafting_are_said(made, tmp_path):
    """Files that llama.cpp loads have more tensors in such a block."""
    paths = write_model(tmp_path / "mtp.gguf", drafting=True), made / "dense.gguf"
    infos = [gguf_files.model_info(path) for path in paths]
    for i, numbers in enumerate(("1, and 0", "0, and 1")):
        own, other = paths[i], paths[1 - i]
        gguf_files.require_same_shapes(infos[i], own, infos[1 - i], other)
        architecture.require_same(own, other)
        assert likeness.notes(own, other) == []
        (note,) = foreign.on_drafting(infos[i], infos[1 - i])
        assert note.startswith(f"Blocks for drafting (MTP): {numbers} in the baseline.")
        assert foreign.on_drafting(infos[i], infos[i]) == []


def test_what_llama_cpp_warns_of_and_not_of_the_baseline_is_said(made, tmp_path):
    path = write_model(tmp_path / "m.gguf", pre_tokenizer="")
    (note,) = described(path, made / "dense.gguf")
    assert note.startswith("llama.cpp warns: `missing pre-tokenizer type, using: 'default' GENER")
    assert described(path, path) == []
