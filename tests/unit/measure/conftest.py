"""A baseline store and two quantized models, for all that compares."""

import pandas as pd
import pytest

from quern import files, gguf_files
from quern.llama import Model, Way
from quern.measure import baseline, comparison
from quern.measure.baseline import Baseline
from quern.measure.comparison import Comparison
from quern.measure.window_store import WindowStore
from quern.quantize import quantization
from quern.tokens import windows
from quern.tokens.work import Work

N_CTX, WINDOWS = 64, 30


@pytest.fixture(scope="module")
def ready(made, tmp_path_factory):
    """Two quantized models of the dense one, its baseline store, and tokens with sources."""
    folder = tmp_path_factory.mktemp("ready")
    info = gguf_files.model_info(made / "dense.gguf")
    text = (made / "text.txt").read_bytes()
    cut = text.index(b" ", 900) + 1
    table = {"part": "text", "source": ["first", "rest"], "offset": [0, cut]}
    pd.DataFrame(table).to_csv(folder / "documents.csv", index=False)
    documents = windows.read_documents(folder / "documents.csv", made / "text.txt")
    with Model(made / "dense.gguf", Way(threads=2)) as model:
        windows.tokenize_text(
            model, info.tokenizer_sha256, made / "text.txt", folder / "t.h5", documents
        )
        tokens = windows.read_tokens(folder / "t.h5")
        work = Work(made / "dense.gguf", info, tokens, N_CTX)
        baseline.write_baseline(model, work, folder / "b.h5", limit=WINDOWS)
    for kind in ("Q4_0", "Q8_0"):
        recipe, path = quantization.Recipe(kind), folder / f"{kind}.gguf"
        quantization.quantize(made / "dense.gguf", info, recipe, path)
        info_of = gguf_files.model_info(path).as_dict()
        files.write_json(folder / f"{kind}.json", info_of)
    return folder


@pytest.fixture
def opened(ready, made):
    """A function that opens the baseline store."""
    info = gguf_files.model_info(made / "dense.gguf")
    return lambda: Baseline(ready / "b.h5", made / "dense.gguf", info)


@pytest.fixture
def of_type(ready):
    """A function that makes the comparison of a quantized model, by its type and its output."""

    def make(kind, output):
        path = ready / f"{kind}.gguf"
        return Comparison(path, gguf_files.model_info(path), output)

    return make


@pytest.fixture
def read():
    """A function that reads the figures of a comparison."""

    def figures(path):
        with WindowStore.open(path) as store:
            return comparison.read_figures(store)

    return figures
