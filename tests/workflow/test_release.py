"""A release: what lies in the folder, and that nothing of the machine does."""

import hashlib
import subprocess

import h5py
import numpy as np
import yaml

from quern import files, gguf_files

from .conftest import CONFIG, require_watched


def test_a_release(house):
    (house.folder / "input/tiny.gguf").touch()  # its time makes nothing stale
    section = {"quantized_by": "someone", "base_model": "owner/tiny", "split": 500_000}
    section["recipes"] = "all"
    path = str(house.folder / "input/tiny.gguf")
    config = CONFIG | {"release": section, "models": {"tiny": "input/tiny.gguf"}}
    house.configure(config)
    result = house.snakemake("release")
    assert result.returncode == 0, result.stderr
    assert "hf upload someone/random-1.1M-0-GGUF" in result.stdout + result.stderr
    folder = house.folder / "results/release/tiny"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    names -= {".snakemake_timestamp"}

    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert sums.returncode == 0, sums.stdout
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == names - {"SHA256SUMS"}

    _, front, card = (folder / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["base_model"] == "owner/tiny" and front["quantized_by"] == "someone"
    assert front["base_model_relation"] == "quantized" and front["library_name"] == "gguf"

    content = files.read_json(folder / "record.json")["records"]
    assert {own["recipe"] for own in content} == {"Q8_0", "Q2_K", "Q8_0+topics", "Q2_K+topics"}
    with h5py.File(house.folder / "results/tiny/baseline/topics.h5") as h5:
        tokens = h5["tokens"][:].astype("<i4")
    positions, digest = np.arange(32, 63, dtype="<i4"), hashlib.sha256()
    for window in tokens:
        digest.update(window.tobytes() + positions.tobytes())
    for own in content:
        assert own["protocol"]["tokens_sha256"] == digest.hexdigest()
        assert own["protocol"]["scored"] == [32, 62] and own["protocol"]["windows"] == 6
        source = house.folder / f"results/tiny/quantize/{own['recipe']}.gguf"
        assert own["file"]["sha256"] == files.sha256(source)
        first = folder / min(own["file"]["released"])
        assert own["file"]["released"].keys() <= names and first.name in card
        assert sum(map(len, [own["file"]["released"]])) > 1 or first.samefile(source)
        before, after = (gguf_files.tensors_of(p) for p in (source, first))
        assert before.keys() == after.keys()
        assert all(before[n].data.tobytes() == after[n].data.tobytes() for n in before)

    for name in names:
        raw = (folder / name).read_bytes()
        assert str(house.folder).encode() not in raw and path.encode() not in raw, name
    assert house.would_run("release", report=True) == {}
    assert ".gguf" in require_watched(folder)
