"""How much of a model goes to GPUs, from the bytes of its parts."""

import ctypes

import llama_cpp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import write_model
from quern import gguf_files
from quern.llama import fit, library

GIB = 1 << 30


def on_gpus(sizes, cache, compute, placed, gpus):
    """Bytes by llama.cpp's own rule (load_tensors of src/llama-model.cpp), tensor by tensor."""
    layers = 1 + max(int(name.split(".")[1]) for name in sizes if name.startswith("blk."))
    first = layers + 1 - placed.layers  # i_gpu_start
    total = gpus * compute if placed.layers else 0
    for name, size in sizes.items():
        if name.startswith("blk."):
            i = int(name.split(".")[1])
            aside = "_exps" in name and i < placed.experts
            total += size if i >= first and not aside else 0
        elif placed.layers and (name != "token_embd.weight" or "output.weight" not in sizes):
            total += size
    return total + cache // layers * max(0, layers - first)


@pytest.mark.parametrize("options", [{}, {"experts": 4}, {"tied": True}])
def test_parts_are_those_of_the_file(tmp_path, options):
    path = write_model(tmp_path / "m.gguf", n_layer=3, **options)
    sizes = {name: t.n_bytes for name, t in gguf_files.tensors_of(path).items()}
    needs = fit.needs_of(path, cache=300, compute=7)
    assert bool(sum(needs.experts)) == ("experts" in options)
    for layers in range(5):
        for experts in range(4 if "experts" in options else 1):
            placed = fit.Fit(layers, experts)
            assert fit.bytes_of(needs, placed, 2) == on_gpus(sizes, 300, 7, placed, 2)


@given(
    layers=st.lists(st.integers(0, 3 * GIB), min_size=1, max_size=8),
    experts=st.integers(0, 4 * GIB),
    cache=st.integers(0, 2 * GIB),
    compute=st.integers(0, GIB),
    free=st.lists(st.integers(0, 24 * GIB), min_size=1, max_size=3),
)
def test_what_is_chosen_fits_and_one_step_more_does_not(layers, experts, cache, compute, free):
    needs = fit.Needs(layers, [experts] * len(layers), GIB // 2, cache, compute)
    room = sum(max(0, n - fit.MARGIN) for n in free)
    found = fit.fitting(needs, free)
    assert fit.bytes_of(needs, found, len(free)) <= room
    if found.experts and found.layers == len(layers) + 1:
        more = found._replace(experts=found.experts - 1)
    elif found.layers <= len(layers):
        more = found._replace(layers=found.layers + 1)
    else:  # all of it
        return
    assert fit.bytes_of(needs, more, len(free)) > room


def test_no_room_leaves_the_model_on_the_cpu():
    needs = fit.Needs([GIB], [0], GIB, 0, 0)
    assert fit.fitting(needs, [GIB // 2]) == fit.Fit(0)
    assert fit.bytes_of(needs, fit.Fit(0), 1) == 0


def test_llama_cpp_takes_the_list_of_what_stays_on_the_cpu(tmp_path):
    """It reads the list as written, and the model decodes as without it."""
    path = write_model(tmp_path / "m.gguf", n_layer=3, experts=4)
    kept = library.cpu_buffers(fit.overrides(fit.Fit(4, 2)))
    assert library.free_bytes(library._devices()[0][0]) > 0
    found = []
    for address in (None, ctypes.addressof(kept)):
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers, params.tensor_buft_overrides = 0, address
        with library.listening() as heard:
            model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        context = llama_cpp.llama_init_from_model(model, llama_cpp.llama_context_default_params())
        tokens = (llama_cpp.llama_token * 4)(1, 2, 3, 4)
        assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, 4)) == 0
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (300,)).copy()
        said = [line for line in heard if "buffer type overridden" in line]
        found.append((logits, said))
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
    assert (found[0][0] == found[1][0]).all()
    assert [len(said) for _, said in found] == [0, 2 * 3]
