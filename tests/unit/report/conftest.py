"""Three recipes compared with one baseline, as the workflow compares them."""

import pytest

from quern import files, gguf_files
from quern.llama import Way
from quern.measure import baseline, comparison
from quern.measure.baseline import Baseline
from quern.quantize import quantization
from quern.tokens import windows
from quern.tokens.work import Work

N_CTX, WINDOWS = 64, 12
TYPES = ("Q2_K", "Q4_0", "Q8_0")


@pytest.fixture(scope="package")
def compared(made, tmp_path_factory):
    """Entries as for `summary.read`, of three types, smallest first."""
    folder = tmp_path_factory.mktemp("compared")
    model, info = made / "dense.gguf", gguf_files.model_info(made / "dense.gguf")
    work = Work(model, info, windows.read_tokens(made / "dense.h5"), N_CTX)
    with work.opened(Way(threads=2)) as m:
        baseline.write_baseline(m, work, folder / "b.h5", limit=WINDOWS)
    entries, models = [], []
    for kind in TYPES:
        path = folder / f"{kind}.gguf"
        quantization.quantize(model, info, quantization.Recipe(kind), path)
        found = gguf_files.model_info(path)
        models.append(comparison.Comparison(path, found, folder / f"{kind}.h5"))
        files.write_json(folder / f"{kind}.info.json", found.as_dict())
        entries.append(
            {
                "name": kind,
                "type": kind,
                "imatrix": "none",
                "info": str(folder / f"{kind}.info.json"),
                "compare": str(folder / f"{kind}.json"),
                "positions": str(folder / f"{kind}.h5"),
            }
        )
    with Baseline(folder / "b.h5", model, info) as store:
        comparison.compare(models, store, Way(threads=2))
        noise = [comparison.noise(m, store, Way(threads=2), windows=4) for m in models]
    for kind, own in zip(TYPES, noise, strict=True):
        result, _ = comparison.summarize(folder / f"{kind}.h5")
        result["noise"] = own
        files.write_json(folder / f"{kind}.json", result)
    return entries
