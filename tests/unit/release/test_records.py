"""Records of several people: joined where the protocol is the same, and refused where it is not."""

import copy
import json
import re

import pandas as pd
import pytest

from conftest import command, fails_with
from quern import QuernError
from quern.release import records

FIGURE = {"value": 0.5, "low": 0.25, "high": 0.75}
OWN = {
    "model": "demo",
    "recipe": "Q4_K_M",
    "type": "Q4_K_M",
    "imatrix": "none",
    "rounding": "ggml",
    "by": "one",
    "file": {"sha256": "a" * 64, "bytes": 1000, "bits_per_weight": 4.5},
    "corpus": "wiki",
    "text_sha256": "b" * 64,
    "protocol": {
        **{"baseline_sha256": "c" * 64, "n_ctx": 512, "scored": [256, 510], "windows": 4},
        **{"tokens_sha256": "d" * 64, "tokenizer_sha256": "e" * 64, "n_vocab": 1000},
    },
    "positions": 100,
    "figures": dict.fromkeys(records.SHOWN, FIGURE),
    "noise": {"figures": {"kld_mean": 0.001}},
    "versions": {"quern": "0.1.0", "computed_by": "x", "baseline_computed_by": "x"},
}


def changed(**keys):
    own = copy.deepcopy(OWN)
    own["protocol"] |= {k: keys.pop(k) for k in list(keys) if k in own["protocol"]}
    return own | keys


def test_records_of_one_protocol_are_joined_each_once(tmp_path):
    (tmp_path / "theirs/deep").mkdir(parents=True)
    records.write(tmp_path / "record.json", [OWN])
    smaller = changed(by="two", recipe="Q2_K", file=OWN["file"] | {"bytes": 500})
    records.write(tmp_path / "theirs/deep/record.json", [OWN, smaller])
    options = ("--csv", tmp_path / "t.csv", "--markdown", tmp_path / "t.md")
    result = command("records", tmp_path / "record.json", tmp_path / "theirs", *options)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "t.csv")
    assert list(table.by) == ["one", "two"] and list(table.recipe) == ["Q4_K_M", "Q2_K"]
    assert (table.kld_mean == 0.5).all() and (table.score_high == 0.75).all()
    assert "| two" in (tmp_path / "t.md").read_text()


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"n_ctx": 2048}, "n_ctx 2048 and 512"),
        ({"tokens_sha256": "e" * 64}, "tokens_sha256 eeeeeeeeeeee… and dddddddddddd…"),
        ({"baseline_sha256": "e" * 64}, "baseline_sha256"),
    ],
)
def test_records_of_another_protocol_are_refused(tmp_path, other, word):
    records.write(tmp_path / "a.json", [OWN])
    records.write(tmp_path / "b.json", [changed(**other)])
    result = command("records", tmp_path / "a.json", tmp_path / "b.json", "--csv", tmp_path / "t")
    fails_with(result, "a.json", "b.json", word)
    assert not (tmp_path / "t").exists()


def test_one_of_several_texts_can_be_named(tmp_path):
    records.write(tmp_path / "a.json", [OWN, changed(corpus="code", n_ctx=64)])
    fails_with(command("records", tmp_path / "a.json"), "--corpus")
    assert "n_ctx: 64" in command("records", tmp_path / "a.json", "--corpus", "code").stdout
    fails_with(command("records", tmp_path / "a.json", "--corpus", "x"), "no records of the text x")


def test_what_others_wrote_stays_text(tmp_path):
    nasty = "<img src=x> | *a*\n# b"
    records.write(tmp_path / "a.json", [changed(by=nasty, model=nasty)])
    text = command("records", tmp_path / "a.json").stdout
    assert "<img" not in text and "\n# b" not in text and "*a*" not in text
    row = next(line for line in text.splitlines() if "Q4_K_M" in line)
    assert row.count("|") == text.splitlines()[0].count("|")


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (["file", "bytes"], 0, "file: bytes: 0 is less"),
        (["file", "sha256"], "?", "sha256: '?' does not match"),
        (["figures", "kld_mean", "value"], float("inf"), "kld_mean: value: inf is not of type"),
        (["figures", "same_top", "high"], 1.5, "same_top: high: 1.5 is greater"),
        (["figures", "score", "low"], 9, "Q4_K_M: score: its interval ends before it begins"),
        (["figures"], {}, "figures: 'kld_mean' is a required property"),
        (["protocol", "windows"], 0, "protocol: windows: 0 is less"),
        (["noise", "figures"], {"score": -1}, "score: -1 is less"),
        (["recipe"], None, "recipe: None is not of type 'string'"),
    ],
)
def test_records_that_cannot_be_are_refused(tmp_path, keys, value, said):
    place = wrong = json.loads(json.dumps(OWN))  # in which no two figures are one object
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    records.write(tmp_path / "a.json", [OWN])
    records.write(tmp_path / "b.json", [OWN, wrong])
    with pytest.raises(QuernError, match=rf"b\.json holds .*{re.escape(said)}.*ask who made it"):
        records.read([tmp_path / "a.json", tmp_path / "b.json"])


def test_a_protocol_with_more_to_it_is_another(tmp_path):
    more = copy.deepcopy(OWN)
    more["protocol"]["chat_template"] = "x"
    for name, own in (("a", OWN), ("b", more)):
        records.write(tmp_path / f"{name}.json", [own])
    for order in ("ab", "ba"):
        found = records.read([tmp_path / f"{name}.json" for name in order])
        with pytest.raises(QuernError, match="chat_template"):
            records.require_one_protocol(found)


def test_what_is_no_record_is_refused(tmp_path):
    records.write(tmp_path / "a.json", [OWN])
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text().replace("0.25", "0.1"))
    fails_with(command("records", tmp_path / "a.json"), "is not what was written")
    fails_with(command("records", tmp_path / "none.json"), "does not exist")
