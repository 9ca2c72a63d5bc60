"""A release: what lies in the folder, and that nothing of the machine does."""

import hashlib
import re
import shutil
import subprocess

import h5py
import numpy as np
import yaml

from quern import files, gguf_files

from .conftest import CONFIG, require_watched

THEIRS = "input/private/Theirs-Q8.gguf"
SECRET = re.compile(rb"sk-0123|api_key|/private|\.\./places|sub/folder")


def privately(folder):
    """What only the user knows: a plugin's options, folders, names of others' files."""
    (folder / "input/private").mkdir()
    shutil.copy(folder / "results/tiny/quantize/Q8_0.gguf", folder / THEIRS)
    imatrix = "input/private/Wiki imatrix.gguf"
    shutil.copy(folder / "results/tiny/imatrix/topics.gguf", folder / imatrix)
    (folder / "input/private/mail.py").write_text("")
    mail = {"name": "mail", "kind": "plugin", "path": "input/private/mail.py", "languages": ["en"]}
    mail["options"] = {"api_key": "sk-" + "0123456789", "inbox": ["../places", "sub/folder"]}
    return {
        "corpora": CONFIG["corpora"] | {"mail": {"sources": [mail]}},
        "imatrix": CONFIG["imatrix"] | {"files": {"keyed": imatrix}},
        "candidates": {"AAkey": THEIRS},
        "quantize": [*CONFIG["quantize"], {"types": ["Q2_K"], "imatrix": ["keyed"]}],
        "report": {"budgets": ["20MB"]},
    }


def test_a_release(house):
    (house.folder / "input/tiny.gguf").touch()  # its time makes nothing stale
    section = {"quantized_by": "someone", "base_model": "owner/tiny", "split": 500_000}
    section["recipes"] = "all"
    path = str(house.folder / "input/tiny.gguf")
    config = CONFIG | {"release": section, "models": {"tiny": "input/tiny.gguf"}}
    config |= privately(house.folder)
    house.configure(config)
    result = house.snakemake("release")
    assert result.returncode == 0, result.stderr
    assert "hf upload someone/random-1.1M-0-GGUF" in result.stdout + result.stderr
    folder = house.folder / "results/release/tiny"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}

    sums = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert sums.returncode == 0, sums.stdout
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == names - {"SHA256SUMS"}

    _, front, card = (folder / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["base_model"] == "owner/tiny" and front["quantized_by"] == "someone"
    assert front["base_model_relation"] == "quantized" and front["library_name"] == "gguf"

    content = files.read_json(folder / "record.json")["records"]
    assert {own["recipe"] for own in content} == {
        *("Q8_0", "Q2_K", "Q8_0+topics", "Q2_K+topics", "Q2_K+keyed")
    }
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
        # The metadata of one name an imatrix by its path.
        as_it_is = len(own["file"]["released"]) == 1 and own["recipe"] != "Q2_K+keyed"
        assert not as_it_is or first.samefile(source)
        before, after = (gguf_files.tensors_of(p) for p in (source, first))
        assert before.keys() == after.keys()
        assert all(before[n].data.tobytes() == after[n].data.tobytes() for n in before)

    for name in names:
        raw = (folder / name).read_bytes()
        assert str(house.folder).encode() not in raw and path.encode() not in raw, name
        assert not SECRET.search(raw), name
    for place in house.folder.rglob("*"):
        is_told = place.is_file() and place.parent.name != "config"
        assert not (is_told and b"sk-" + b"0123" in place.read_bytes()), place
    # What others know of other people's files, and not how they are called here.
    theirs = f"Theirs-Q8.gguf (SHA-256 {files.sha256(house.folder / THEIRS)[:12]}…)"
    assert theirs in card and "AAkey" not in card
    assert "--imatrix 'Wiki imatrix.gguf'" in card and "keyed.gguf" not in card
    page = (folder / "report/topics/index.html").read_text()
    assert "AAkey <small>made elsewhere: Theirs-Q8.gguf" in page
    assert house.would_run("release", report=True) == {}
    assert ".gguf" in require_watched(folder)
