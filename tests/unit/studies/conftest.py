"""Comparisons that nobody measured: figures of each token of a stream, cut into windows."""

import numpy as np
import pytest

from quern import files, gguf_files
from quern.measure.baseline import scored_positions
from quern.measure.divergence import FIGURES
from quern.measure.window_store import WindowStore

TOKENS = 1024  # of the stream


def stream(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Figures of each token of a stream, each [TOKENS]; the same text whatever the scale."""
    rng = np.random.default_rng(seed)
    text = np.random.default_rng(99).gamma(0.5, 1, TOKENS)
    return {
        "kld": scale * text * rng.gamma(20, 0.05, TOKENS),
        "nll_base": rng.gamma(2, 1, TOKENS),
        "nll": rng.gamma(2, 1, TOKENS),
        "dp": rng.normal(0, 0.1, TOKENS),
        "same_top": (rng.random(TOKENS) < 0.9).astype(np.uint8),
    }


def write_cell(folder, name, labels, figures, n_ctx=64, scored="half", missing=(), text="abc"):
    """A comparison's files, as an entry of `cells` of a study."""
    first, end = scored_positions(n_ctx, scored)
    windows = TOKENS // n_ctx
    attributes = {"n_ctx": n_ctx, "first_position": first, "n_scored": end - first}
    attributes |= {
        "quantized_sha256": name,
        "text_sha256": text,
        "computed_by": "one",
        "baseline_computed_by": "one",
    }
    datasets = {key: ((end - first,), dtype) for key, dtype in FIGURES.items()}
    path = folder / f"{name}.h5"
    with WindowStore.create(path, windows, datasets, attributes) as store:
        for window in set(range(windows)) - set(missing):
            at = window * n_ctx
            store.write(window, **{k: v[at + first : at + end] for k, v in figures.items()})
            store.commit(window)
    files.write_json(
        folder / f"{name}.json",
        {
            "figures": {"ppl_base": {"value": 10.0 + len(name)}},
            "noise": {"figures": {"kld_mean": 1e-9}},
            "windows": windows - len(missing),
            "provenance": attributes,
        },
    )
    files.write_json(folder / f"{name}.info.json", {"sha256": name})
    paths = {"compare": str(folder / f"{name}.json"), "positions": str(path)}
    paths["info"] = str(folder / f"{name}.info.json")
    return {"recipe": name, "labels": labels, **paths}


@pytest.fixture
def info(tmp_path, made):
    """The JSON of a model."""
    files.write_json(tmp_path / "model.json", gguf_files.model_info(made / "dense.gguf").as_dict())
    return tmp_path / "model.json"
