"""The page, from real comparisons to a real browser."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from browser import browser, open_page
from conftest import HOUSE, command, fails_with
from quern import QuernError, files, published
from quern.llama import Model
from quern.measure.window_store import WindowStore
from quern.report import readable, stored_tables, summary, tail
from quern.speed import figures, rounds

GROWN = {
    "steps": [
        {"step": i, "tokens": 1000 * 2**i, "windows": 2**i, "figures": {"Q2_K": {"score": f}}}
        for i, f in enumerate(
            {"value": v, "low": v - 0.1, "high": v + 0.1} for v in (1.0, 0.9, 0.9)
        )
    ],
    "decision": {"chosen": 1, "best": 2, "reason": "the pool is used up"},
}


@pytest.fixture(scope="module")
def sweep(compared, made, tmp_path_factory):
    """A folder with the tables of three recipes, made-up memory, and their page by the commands."""
    folder = tmp_path_factory.mktemp("page")
    recipes = summary.read(compared)
    summary.write(
        *(recipes, {}, {}, "title"),
        csv=folder / "t.csv",
        pairs_csv=folder / "p.csv",
        markdown_path=folder / "t.md",
        picture=folder / "t.png",
    )
    memory = []
    for r in recipes:
        total = r.info.tensor_bytes + 1000
        context = {"n_ctx": 64, "kv_type": "f16", "kv_bytes": 900, "compute_bytes": 100}
        content = {"recipe": r.name, "tensor_bytes": r.info.tensor_bytes, "repacked_bytes": 0}
        content["provenance"] = {"sha256": r.info.sha256}
        content["contexts"] = [context | {"total_bytes": total}]
        memory.append(folder / f"{r.name}.memory.json")
        files.write_json(memory[-1], content)
    rates = {r.name: {"pp8": 90.0, "tg4": 9.0} for r in recipes}
    settings = rounds.Timing(prompt=8, generation=4)
    loads = [0.0, 0.25, 0.5]
    speed = {
        "machine": {"cpu": "some", "cores": 2, "memory_bytes": 8 << 30, "gpus": ["a GPU"]},
        "settings": {"threads": 2, "repeats": 3},
        "load": figures.spread(loads) | {"samples": loads},
        "results": rounds.summarize([rates] * 3, settings),
        "provenance": {"computed_by": "x", "models": {r.name: r.info.sha256 for r in recipes}},
    }
    files.write_json(folder / "speed.json", speed)
    files.write_json(folder / "grown.json", GROWN)
    budgets = [1, *(r.info.tensor_bytes + 2000 for r in recipes)]
    tables = ["--table", folder / "t.csv", "--memory", *memory, "--speed", folder / "speed.json"]
    done = command(
        *("answer", "--model", "tiny", "--corpus", "topics", "--title", "title"),
        *tables,
        *("--pairs", folder / "p.csv", "--budgets", *budgets),
        *("--output", folder / "a.json", "--markdown", folder / "a.md"),
    )
    assert done.returncode == 0, done.stderr
    entries = [
        entry | {"rounding": "ggml", "foreign": entry["name"] == "Q8_0"} for entry in compared
    ]
    baseline = Path(compared[0]["positions"]).parent / "b.h5"
    info = files.read_json(made / "dense.json") | {"warnings": ["missing '<x>'"]}
    files.write_json(folder / "model.json", info)
    schema = yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text())
    config = {"models": {"tiny": "/home/somebody/tiny.gguf"}}
    config |= {"corpora": {"topics": {"sources": [{"name": "s", "path": "x", "separator": "/"}]}}}
    config = published.configuration(config, schema)
    done = command(
        *("page", "--recipes", json.dumps(entries), "--answer", folder / "a.json"),
        *tables,
        *("--grown", "topics", "--growth", folder / "grown.json"),
        *("--info", folder / "model.json", "--baseline", baseline),
        *("--baseline-model", made / "dense.gguf", "--config", json.dumps(config)),
        *("--output", folder / "index.html"),
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_answers_of_a_real_sweep(sweep):
    found = files.read_json(sweep / "a.json")
    named = [a["recipe"] for a in found["budgets"]]
    assert named == [None, "Q8_0", "Q4_0", "Q2_K"]  # recipes fall in size
    assert found["provenance"]["table_sha256"] == files.sha256(sweep / "t.csv")
    assert found["speed"] == {
        "load": {"median": 0.25, "low": 0.125, "high": 0.375, "samples": [0.0, 0.25, 0.5]},
        "decides": True,
    }
    said = "other programs kept 0.25 cores busy (0.12 to 0.38)."
    assert said in (sweep / "a.md").read_text() and said in (sweep / "index.html").read_text()
    assert "nothing fits" in (sweep / "a.md").read_text()


def test_the_tokens_that_stray_most(compared, made):
    entry = compared[0]
    positions, baseline = Path(entry["positions"]), Path(entry["positions"]).parent / "b.h5"
    with Model(made / "dense.gguf", load="vocab") as model:
        found = tail.strays(positions, baseline, model.pieces, count=5)
        with WindowStore.open(positions) as store, WindowStore.open(baseline) as base:
            kld, first = store.rows("kld"), store.attributes["first_position"]
            row, place = np.unravel_index(kld.argmax(), kld.shape)
            tokens = base.read("tokens", row)
            p = np.exp(-store.read("nll", row)[place])
        before = b"".join(model.pieces(tokens[: first + place + 1])).decode(errors="replace")
        again = model.tokenize(b"".join(model.pieces(tokens[1:])))
    worst = found[0]
    assert (worst.window, worst.position) == (row, first + place + 1)
    assert worst.kld == kld.max() and worst.p == pytest.approx(p)
    assert before.endswith(worst.before) and worst.before
    assert [s.kld for s in found] == sorted((s.kld for s in found), reverse=True)
    assert len(again) and len({(s.window, s.position) for s in found}) == 5
    order = np.sort(kld, axis=None)[::-1]
    share = order[: round(0.01 * kld.size)].sum() / kld.sum()
    assert tail.share_of_worst(positions) == pytest.approx(share)


def test_a_page_holds_no_path_of_the_machine_and_is_the_same_twice(sweep):
    text = (sweep / "index.html").read_text()
    assert "/home/" not in text and "tiny.gguf" in text and len(text) < 2_000_000
    assert str(sweep) not in text
    assert "separator: /" in text
    assert "of the unquantized model</strong>: missing &#39;&lt;x&gt;" in text


def test_bad_input_is_a_sentence(sweep, tmp_path, compared, made):
    (tmp_path / "x.bin").write_bytes(b"")
    with pytest.raises(QuernError, match="neither CSV nor Markdown"):
        readable.html(tmp_path / "x.bin")
    with pytest.raises(QuernError, match="cannot be read"):
        readable.html(tmp_path / "no.csv")
    done = command(
        *("answer", "--model", "m", "--corpus", "c", "--title", "t", "--table", sweep / "t.csv"),
        *("--pairs", sweep / "p.csv", "--memory", tmp_path / "no.json"),
        *("--output", tmp_path / "o.json", "--markdown", tmp_path / "o.md"),
    )
    fails_with(done, "no.json does not exist")


def tables_of(sweep, folder):
    """A copy of the tables, each with its hash."""
    for name in ("t.csv", ".t.csv.sha256", "p.csv", ".p.csv.sha256"):
        shutil.copy(sweep / name, folder)


def cut(table):
    return "".join(table.splitlines(keepends=True)[:2])


def as_a_spreadsheet_does(table):
    return table.replace(",", ";").replace(".", ",")


def rounded(table):
    return re.sub(r"(\.\d\d)\d+", r"\1", table)


@pytest.mark.parametrize("change", [cut, as_a_spreadsheet_does, rounded])
@pytest.mark.parametrize("name", ["t.csv", "p.csv"])
def test_a_table_that_was_changed_is_refused(sweep, tmp_path, change, name):
    tables_of(sweep, tmp_path)
    readers = {"t.csv": stored_tables.recipes, "p.csv": stored_tables.pairs}
    other = next(n for n in readers if n != name)
    assert len(readers[name](tmp_path / name)) and len(readers[other](tmp_path / other))
    with pytest.raises(QuernError, match="is no table of"):
        readers[other](tmp_path / name)
    before = (tmp_path / name).read_text()
    (tmp_path / name).write_text(change(before))
    said = rf"{name} is not what was written; delete it and run again"
    with pytest.raises(QuernError, match=said):
        readers[name](tmp_path / name)
    with pytest.raises(QuernError, match=said):
        readable.html(tmp_path / name)


def test_the_answer_refuses_tables_that_were_cut_and_those_without_a_hash(sweep, tmp_path):
    tables_of(sweep, tmp_path)
    memory = sorted(sweep.glob("*.memory.json"))
    words = ("answer", "--model", "m", "--corpus", "c", "--title", "t", "--memory", *memory)
    words += ("--table", tmp_path / "t.csv", "--pairs", tmp_path / "p.csv")
    words += ("--output", tmp_path / "o.json", "--markdown", tmp_path / "o.md")
    (tmp_path / "p.csv").write_text(cut((tmp_path / "p.csv").read_text()))
    fails_with(command(*words), "p.csv is not what was written")
    (tmp_path / ".t.csv.sha256").unlink()
    fails_with(command(*words), "t.csv has no hash beside it (.t.csv.sha256)")
    assert not (tmp_path / "o.json").exists()


def test_pages_in_a_browser(sweep):
    """It draws, sorts and filters without a network, in light and dark, wide and narrow."""
    document = sweep / "t.html"
    document.write_text(readable.html(sweep / "t.md"))
    with browser() as opened:
        for width, scheme in ((390, "dark"), (1400, "light")):
            view = {"width": width, "height": 900}
            shown, wrong = open_page(
                opened, sweep / "index.html", viewport=view, color_scheme=scheme
            )
            shown.wait_for_selector("#growth svg")
            assert wrong == []
            assert shown.evaluate("document.documentElement.scrollWidth") == width
            ink = shown.evaluate("getComputedStyle(document.body).color")
            assert (ink == "rgb(228, 231, 235)") == (scheme == "dark")
        # Sorting by a heading, and back.
        names = "[...document.querySelectorAll('#recipes tbody tr')].map(r => r.dataset.name)"
        shown.click("#recipes th:has-text('size') button")
        rising = shown.evaluate(names)
        shown.click("#recipes th:has-text('size') button")
        assert rising == ["Q2_K", "Q4_0", "Q8_0"] and shown.evaluate(names) == rising[::-1]
        # Pointing at a recipe, and filtering by who made it.
        points = "#picture .role-mark path[aria-roledescription=point]"
        assert shown.locator(points).count() == 3
        shown.locator(points).first.hover(force=True)
        assert "tokens/s" in shown.inner_text("#vg-tooltip-element")
        shown.select_option("#picture select", "elsewhere")
        shown.wait_for_function(f"document.querySelectorAll('{points}').length === 1")
        # The other pages.
        other, wrong = open_page(opened, document)
        other.click("th >> nth=0")
        assert wrong == [] and other.locator("th[aria-sort]").count() == 1
