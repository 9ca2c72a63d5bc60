"""The tables of types, held against llama.cpp, the roundings and the schema."""

import numpy as np
import pytest
import yaml

from conftest import HOUSE
from models import write_model
from quern import QuernError, gguf_files, llama
from quern.ggml_types import (
    EVERYWHERE,
    QUANTIZATION_TYPES,
    TENSOR_TYPES,
    needs_imatrix,
    needs_importances,
)

SCHEMA = yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text())
TARGETS = [name for name, row in TENSOR_TYPES.items() if row.is_target]
MADE = sorted(QUANTIZATION_TYPES.keys() - {"NVFP4"})  # llama.cpp has the name and makes no file


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of one layer."""
    return write_model(tmp_path_factory.mktemp("types") / "m.gguf", n_layer=1)


def refuses(model, kind, **options):
    """Whether llama.cpp refuses to quantize it for want of an imatrix."""
    wanted = llama.QuantizationParameters(kind, **options)
    try:
        llama.quantize(model, model.with_name("q.gguf"), wanted)
    except QuernError as error:
        assert "importance matrix" in str(error)
        return True
    return False


def test_tensor_types_are_ggmls():
    of_activations = {"Q8_1", "Q8_K"}
    assert set(TENSOR_TYPES) == set(llama.tensor_types()) - of_activations
    assert set(TARGETS) == set(llama.target_types())
    for name, row in TENSOR_TYPES.items():
        assert llama.block_size(name) == (row.weights, row.bytes)
        assert not row.numbers or np.dtype(row.numbers).itemsize == row.bytes
        assert row.file == "" or QUANTIZATION_TYPES[row.file].base == name


def test_quantization_types_are_those_of_llama_quantize(model):
    assert set(QUANTIZATION_TYPES) == set(llama.quantization_types())
    ones = dict.fromkeys(gguf_files.model_info(model).matrices, np.ones(256, np.float32))
    for name in MADE:
        types, _ = llama.planned_types(model, llama.QuantizationParameters(name, ones, pure=True))
        assert types["blk.0.ffn_up.weight"] == QUANTIZATION_TYPES[name].base


def test_llama_quantize_refuses_without_an_imatrix_what_needs_one(model):
    assert {name for name in MADE if refuses(model, name)} == set(filter(needs_imatrix, MADE))


@pytest.mark.parametrize("tensor", ["blk.0.ffn_up.weight", "output.weight"])
def test_tensors_become_without_importances_what_needs_none(model, tensor):
    needy = {kind for kind in TARGETS if needs_importances(kind, tensor)}
    if not tensor.startswith("blk."):
        needy = set()  # for some, ggml ends the process; `quantization.quantize` refuses them
    tried = [kind for kind in TARGETS if kind in needy or not needs_importances(kind, tensor)]
    refused = {kind for kind in tried if refuses(model, "Q8_0", tensor_types={tensor: kind})}
    assert refused == needy


def test_ggml_needs_importances_at_most_where_the_table_says_so():
    values = np.ones((1, 256), np.float32)
    for name in TARGETS:
        if TENSOR_TYPES[name].importances != EVERYWHERE:
            assert llama.quantize_rows(name, values).any()


def test_the_schema_has_these_types_and_lists_them_once():
    assert set(SCHEMA["$defs"]["quantization_type"]["enum"]) == set(QUANTIZATION_TYPES)
    assert set(SCHEMA["$defs"]["tensor_type"]["enum"]) == set(TARGETS)
    assert str(SCHEMA).count("'IQ3_XXS'") == 2


def test_a_type_that_is_not_there_is_named():
    with pytest.raises(QuernError, match=r"llama\.cpp knows no type Q4_9; known are F64, .*IQ4_XS"):
        needs_importances("Q4_9")
