"""Mixes in a sweep: from a line of the configuration to files, and what goes stale."""

import json

import pandas as pd
from PIL import Image

from .conftest import CONFIG, require_watched

STOCK = {"types": ["Q2_K"], "imatrix": ["topics"]}
MIX = {"mix": {"size": ["as Q2_K", {"as": "Q4_K_M"}, "100KB"]}, "imatrix": ["topics"]}
NAMES = ("mix-as-Q2_K+topics", "mix-as-Q4_K_M+topics", "mix-100000B+topics")


def test_mixes_beside_stock_mixes(house):
    config = CONFIG | {"quantize": [STOCK, MIX], "mixes": {"windows": 2, "proof_windows": 4}}
    house.configure(config)
    made = house.run()
    assert made["damage"] == 2 and made["mix_errors"] == 1 and made["mix"] == 3
    assert made["mix_picture"] == 1 and made["quantize"] == 3
    folder = house.folder / "results/tiny"
    table = pd.read_csv(folder / "summary/topics.csv", index_col="recipe")
    stock = table.bytes["Q2_K+topics"]
    assert 0.99 * stock < table.bytes[NAMES[0]] <= stock
    assert table.kld_mean[NAMES[0]] < table.kld_mean["Q2_K+topics"]
    assert table.kld_mean[NAMES[1]] < table.kld_mean[NAMES[0]]
    assert "the smallest mix has" in table.failed[NAMES[2]]
    mix = json.loads((folder / f"mix/{NAMES[0]}.json").read_text())
    assert mix["file_bytes"] == table.bytes[NAMES[0]]
    lines = (folder / f"mix/{NAMES[0]}.txt").read_text().splitlines()
    assert len(lines) == len(mix["tensors"]) and all("$=" in line for line in lines)
    with Image.open(folder / "mix/topics.png") as picture:
        assert min(picture.size) > 300
    assert house.would_run() == {}
    house.configure(config | {"mixes": {"windows": 3, "proof_windows": 4}})
    again = house.would_run()
    assert again["damage"] == 1 and again["mix"] == 3
    require_watched(folder)
    more = {"size": [*MIX["mix"]["size"], "6 bpw"]}
    house.configure(config | {"quantize": [STOCK, MIX | {"mix": more}]})
    assert house.would_run()["mix"] == 1
