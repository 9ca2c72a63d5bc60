"""Names of tensors that llama.cpp quantizes, against its own plan."""

import gguf
import numpy as np

from quern import llama
from quern.quantizable import is_quantizable


def test_all_names_that_there_are(tmp_path):
    """One file with a matrix of each name; llama.cpp looks at no more than the name."""
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for add in ("context_length", "embedding_length", "block_count", "feed_forward_length"):
        getattr(writer, f"add_{add}")(256)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    tensors = {name for names in gguf.MODEL_TENSORS.values() for name in names}
    stems = {gguf.TENSOR_NAMES[tensor].format(bid=0, xid=0) for tensor in tensors}
    names = sorted(f"{stem}{end}" for stem in stems for end in ("", ".weight", ".bias"))
    names = [name for name in names if name.startswith("blk.")]
    for name in names:
        writer.add_tensor(name, np.zeros((2, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    wanted = llama.QuantizationParameters("Q8_0")
    planned, _ = llama.planned_types(tmp_path / "m.gguf", wanted)
    assert set(planned) == set(names) and len(names) > 400
    assert {n for n, kind in planned.items() if kind != "F16"} == set(filter(is_quantizable, names))
