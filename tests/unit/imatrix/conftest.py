"""Shards of the small models' texts, for all that reads them."""

import dataclasses

import pytest

from quern import gguf_files
from quern.imatrix import shards
from quern.llama import Way
from quern.tokens import windows
from quern.tokens.work import Work


@pytest.fixture
def collect(made):
    """A function that writes a shard and gives back its path."""

    def write(shard, first=0, last=None, name="dense", n_ctx=64, text=None, **options):
        info = gguf_files.model_info(made / f"{name}.gguf")
        tokens = windows.read_tokens(made / f"{name}.h5")
        tokens = dataclasses.replace(tokens, text_sha256=text or tokens.text_sha256)
        work = Work(made / f"{name}.gguf", info, tokens, n_ctx)
        with work.opened(Way(threads=2)) as model:
            shards.collect(model, work, shard, first=first, last=last, **options)
        return shard

    return write
