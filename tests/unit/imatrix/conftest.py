"""Shards of the small models' texts, for all that reads them."""

import dataclasses

import pytest

from quern import gguf_files
from quern.imatrix import shards
from quern.llama import Model
from quern.tokens import windows


@pytest.fixture
def collect(made):
    """A function that writes a shard and gives back its path."""

    def write(shard, first=0, last=None, name="dense", n_ctx=64, text=None, **options):
        info = gguf_files.model_info(made / f"{name}.gguf")
        tokens = windows.read_tokens(made / f"{name}.h5")
        tokens = dataclasses.replace(tokens, text_sha256=text or tokens.text_sha256)
        with Model(made / f"{name}.gguf", threads=2) as model:
            options |= {"n_ctx": n_ctx, "first": first, "last": last}
            shards.collect(model, info, tokens, shard, **options)
        return shard

    return write
