"""Damage, measured in memory, against files and against itself."""

from dataclasses import replace

import numpy as np
import pytest

from quern import QuernError, gguf_files, llama
from quern.ggml_types import PROBES
from quern.llama import Model
from quern.measure.baseline import scored_positions
from quern.measure.window_store import WindowStore, partial_path
from quern.mix import damage
from quern.mix.editing import Editor
from quern.tokens.work import Work

from .conftest import N_CTX


def test_every_tensor_costs_something_and_is_restored(inputs, work, measure, tmp_path):
    stores = [measure(tmp_path / f"{t}.h5", turn=t) for t in (0, 1)]
    windows, found, unused = damage.read(stores, inputs, work)
    assert unused == frozenset() and windows == damage.windows_of(work)[:2].tolist()
    assert list(found) == [t.name for t in inputs.free()]
    assert {"output.weight", "token_embd.weight", *inputs.info.matrices} == set(found)
    for values in found.values():
        assert values.shape == (2,) and (values > 0).all()


def test_a_tensor_in_memory_is_that_of_a_file(inputs, tokens, tmp_path):
    """The divergence of a model with one tensor rounded, from its file and from memory."""
    name = "blk.1.ffn_down.weight"
    tensors = gguf_files.tensors_of(inputs.model)
    path = tmp_path / "one.gguf"
    content = bytearray(inputs.model.read_bytes())
    source = inputs.sources[name]
    values = source.float32(0, source.rows)
    raw = llama.quantize_rows(PROBES[0], values, inputs.importances[name])
    rounded = llama.dequantize_rows(PROBES[0], raw).astype(np.float16).tobytes()
    offset = int(tensors[name].data_offset)
    content[offset : offset + len(rounded)] = rounded
    path.write_bytes(content)
    (window,) = tokens.windows(N_CTX, [3])[:]
    first, last = scored_positions(N_CTX, "half")
    with Model(path) as model:
        expected = np.concatenate([r.copy() for *_, r in model.logits(window[None], first, last)])
    with (
        Model(inputs.model, load="editable") as model,
        Editor(model, inputs.sources, inputs.importances) as editor,
    ):
        before = editor.logits(window, first, last)
        editor.become({name: PROBES[0]})
        assert (editor.logits(window, first, last) == expected).all()
        assert not (expected == before).all()
        editor.become({})
        assert (editor.logits(window, first, last) == before).all()
        with pytest.raises(QuernError, match=r"computes nothing with output_norm\.weight"):
            editor.become({"output_norm.weight": PROBES[0]})


def test_parts_threads_and_interruptions_change_no_byte(inputs, work, measure, tmp_path):
    whole = damage.read([measure(tmp_path / "whole.h5")], inputs, work).kld
    parts = [measure(tmp_path / f"{k}.h5", part=(k, 3), threads=k) for k in (1, 2, 3)]
    found = damage.read(parts, inputs, work).kld
    assert list(found) == list(whole)
    assert all((found[name] == values).all() for name, values in whole.items())
    expected = (tmp_path / "whole.h5").read_bytes()
    measure(tmp_path / "again.h5", threads=1)
    assert (tmp_path / "again.h5").read_bytes() == expected
    (tmp_path / "again.h5").rename(partial_path(tmp_path / "cut.h5"))
    with WindowStore.open(partial_path(tmp_path / "cut.h5"), writable=True) as store:
        store._put("done", 5, np.uint8(0).tobytes())
    measure(tmp_path / "cut.h5")
    assert (tmp_path / "cut.h5").read_bytes() == expected


def test_too_few_windows(measure, tmp_path):
    with pytest.raises(QuernError, match="too few to measure 100000; give the corpus more text"):
        measure(tmp_path / "d.h5", turn=99_999)


def test_damages_that_do_not_belong_together(inputs, tokens, work, measure, tmp_path):
    first, part = measure(tmp_path / "a.h5"), measure(tmp_path / "b.h5", turn=1, part=(1, 2))
    with pytest.raises(QuernError, match="is not measured on all windows"):
        damage.read([first, part], inputs, work)
    for other in (
        replace(inputs, imatrix_sha256="other"),
        replace(inputs, info=replace(inputs.info, sha256="other")),
    ):
        with pytest.raises(QuernError, match=r"a\.h5 was made with (imatrix|model)_sha256"):
            damage.read([first], other, Work(other.model, other.info, tokens, N_CTX))
    with pytest.raises(QuernError, match=r"a\.h5 was made with n_ctx = 64, not 128"):
        damage.read([first], inputs, replace(work, n_ctx=128))
