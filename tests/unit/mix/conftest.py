"""A small model, its imatrix and damages, for all that chooses types."""

import numpy as np
import pytest

from models import write_model
from quern import gguf_files
from quern.imatrix import formats
from quern.imatrix.matrix import Imatrix
from quern.llama import Model, Way
from quern.mix import damage
from quern.mix.inputs import Inputs
from quern.tokens import windows
from quern.tokens.work import Work

N_CTX = 64


@pytest.fixture(scope="package")
def inputs(tmp_path_factory):
    """A model of two layers with an imatrix."""
    folder = tmp_path_factory.mktemp("mix")
    path = write_model(folder / "m.gguf", n_layer=2)
    info = gguf_files.model_info(path)
    rng, matrix = np.random.default_rng(0), Imatrix(datasets=["text"], chunks=9, chunk_size=64)
    for name, (columns, count) in info.matrices.items():
        matrix.add(name, np.exp(rng.normal(0, 1, (count, columns))) * 576, np.full(count, 576.0))
    formats.write(matrix, folder / "i.gguf")
    return Inputs.read(path, info, folder / "i.gguf", folder=folder)


@pytest.fixture(scope="package")
def tokens(inputs, made):
    """Tokens of real text."""
    path = inputs.model.parent / "t.h5"
    with Model(inputs.model, load="vocab") as model:
        windows.tokenize_text(model, inputs.info.tokenizer_sha256, made / "text.txt", path)
    return windows.read_tokens(path)


@pytest.fixture
def work(inputs, tokens):
    """Windows of the text, for the model."""
    return Work(inputs.model, inputs.info, tokens, N_CTX)


@pytest.fixture
def measure(inputs, work):
    """A function that measures damage into a store and gives back its path."""

    def write(path, threads=2, **options):
        with work.opened(Way(threads=threads), "editable") as model:
            damage.measure(model, inputs, work, path, **options)
        return path

    return write
