"""Each command by hand: what it makes, and how it refuses bad input."""

import json
import shutil
import subprocess
import sys

import gguf
import numpy as np
import pytest

from conftest import HOUSE, command, fails_with
from models import write_model
from quern import files, gguf_files
from quern.imatrix import formats
from quern.imatrix.matrix import Imatrix
from quern.measure.window_store import WindowStore


def baseline(made, output, model="dense", **options):
    settings = {
        "model": made / f"{model}.gguf",
        "info": made / f"{model}.json",
        "tokens": made / f"{model}.h5",
        "n-ctx": 64,
        "windows": 6,
        "threads": 2,
        "output": output / "b.h5",
        "facts": output / "b.json",
    } | options
    return command("baseline", *(x for k, v in settings.items() for x in (f"--{k}", v)))


def quantize(made, output, kind="Q4_K_M", *more, model="dense"):
    return command(
        "quantize",
        *("--model", made / f"{model}.gguf", "--info", made / f"{model}.json", "--type", kind),
        *("--output", output / "q.gguf", "--output-info", output / "q.json", *more),
    )


def imatrix(made, output, model="dense"):
    shard = command(
        "imatrix_shard",
        *("--model", made / f"{model}.gguf", "--info", made / f"{model}.json"),
        *("--tokens", made / f"{model}.h5", "--n-ctx", 64, "--to", 6),
        *("--output", output / "s.h5"),
    )
    ok(shard)
    return command(
        "imatrix",
        *("--shards", output / "s.h5", "--info", made / f"{model}.json"),
        *("--dataset", "text/pool", "--output", output / "i.gguf"),
        *("--report", output / "i.json"),
    )


def compare(made, output, *more, model="dense"):
    return command(
        "compare",
        *("--model", output / "q.gguf", "--info", output / "q.json"),
        *("--baseline", output / "b.h5", "--baseline-info", made / f"{model}.json"),
        *("--baseline-model", made / f"{model}.gguf"),
        *("--output", output / "c.h5", "--windows", output / "c.csv"),
        *("--summary", output / "c.json", "--text", output / "c.txt", "--threads", 2, *more),
    )


def ok(result):
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", [path.stem for path in sorted((HOUSE / "scripts").glob("*.py"))])
def test_help(name):
    result = command(name, "--help")
    assert result.returncode == 0
    assert "usage:" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dense", "moe"])
def test_the_whole_way_by_hand(made, tmp_path, model):
    ok(baseline(made, tmp_path, model))
    ok(imatrix(made, tmp_path, model))
    means = {}
    for kind in ("Q8_0", "IQ2_XS"):
        ok(quantize(made, tmp_path, kind, "--imatrix", tmp_path / "i.gguf", model=model))
        (tmp_path / "c.h5").unlink(missing_ok=True)
        ok(compare(made, tmp_path, model=model))
        result = json.loads((tmp_path / "c.json").read_text())
        kld = result["figures"]["kld_mean"]
        means[kind] = kld["value"]
        assert kld["low"] < kld["value"] < kld["high"]
        assert result["windows"] == 6
        assert result["positions"] == 6 * 31
        with WindowStore.open(tmp_path / "c.h5") as store:
            assert store.rows("kld").mean() == pytest.approx(kld["value"])
        assert f"Mean    KLD: {kld['value']:10.6f} ±" in (tmp_path / "c.txt").read_text()
    assert 0 < means["Q8_0"] < 0.05 < means["IQ2_XS"]


def test_baseline_in_two_ranges_equals_one_run(made, tmp_path):
    (tmp_path / "x").mkdir()
    ok(baseline(made, tmp_path))
    ok(baseline(made, tmp_path / "x", **{"to": 2}))
    ok(baseline(made, tmp_path / "x", **{"from": 2}))
    with WindowStore.open(tmp_path / "b.h5") as a, WindowStore.open(tmp_path / "x/b.h5") as b:
        assert a.attributes == b.attributes
        assert (a.rows("tokens") == b.rows("tokens")).all()
        np.testing.assert_allclose(a.rows("hidden"), b.rows("hidden"), atol=2e-2)


def test_special_tokens_are_parsed_when_asked_for(made, tmp_path):
    (tmp_path / "special.txt").write_text("one<|begin|>two")
    counts = {}
    for options in ((), ("--special",)):
        ok(
            command(
                "tokens",
                *("--model", made / "dense.gguf", "--info", made / "dense.json", *options),
                *("--text", tmp_path / "special.txt", "--output", tmp_path / "t.h5"),
                *("--facts", tmp_path / "t.json"),
            )
        )
        counts[options] = json.loads((tmp_path / "t.json").read_text())["tokens"]
    assert counts[()] - counts[("--special",)] == len("<|begin|>") - 1


def test_all_positions_can_be_scored(made, tmp_path):
    ok(baseline(made, tmp_path, scored="all", store="logits"))
    with WindowStore.open(tmp_path / "b.h5") as store:
        assert store.rows("logits").shape == (6, 63, 300)


def test_the_same_inputs_give_the_same_bytes_in_any_folder(made, tmp_path):
    for name in ("one", "two/deeper"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        ok(imatrix(made, folder))
        ok(quantize(made, folder, "Q4_K_M", "--imatrix", folder / "i.gguf", "--threads", len(name)))
    for file in ("i.gguf", "q.gguf"):
        first = (tmp_path / "one" / file).read_bytes()
        assert first == (tmp_path / "two/deeper" / file).read_bytes()
    reader = gguf_files.open_gguf(tmp_path / "one/q.gguf")
    assert gguf_files.field(reader, "quantize.imatrix.file") == "i.gguf"
    assert gguf_files.field(reader, "quantize.imatrix.dataset") == "text/pool"
    assert gguf_files.field(reader, "quantize.imatrix.entries_count") == 14
    assert gguf_files.field(reader, "quantize.imatrix.chunks_count") == 6


def types_of(path):
    return {t.name: t.tensor_type.name for t in gguf_files.open_gguf(path).tensors}


def test_options_of_a_recipe(made, tmp_path):
    ok(
        quantize(
            *(made, tmp_path, "Q4_0", "--pure", "--output-type", "Q8_0"),
            *("--token-embedding-type", "Q5_0", "--tensor-type", r"blk\.1\.attn_.*=Q6_K"),
        )
    )
    types = types_of(tmp_path / "q.gguf")
    assert types["output.weight"] == "Q8_0"
    assert types["token_embd.weight"] == "Q5_0"
    assert types["blk.1.attn_q.weight"] == "Q6_K"
    assert types["blk.0.attn_q.weight"] == types["blk.0.ffn_down.weight"] == "Q4_0"


# --- bad input -------------------------------------------------------------------------------


@pytest.fixture
def copy(made, tmp_path):
    """A copy of what is made, to be damaged."""
    return shutil.copytree(made, tmp_path / "made")


def truncate(path, share=0.5):
    with open(path, "r+b") as file:
        file.truncate(int(path.stat().st_size * share))


def test_a_missing_model(tmp_path):
    result = command("model", "--model", tmp_path / "no.gguf", "--output", tmp_path / "o.json")
    fails_with(result, "no.gguf does not exist")
    assert not (tmp_path / "o.json").exists()


def test_a_file_that_is_no_gguf(made, tmp_path):
    result = command("model", "--model", made / "text.txt", "--output", tmp_path / "o.json")
    fails_with(result, "text.txt is not a GGUF file")


def test_what_llama_cpp_warns_of_is_said_and_kept(tmp_path):
    path = write_model(tmp_path / "m.gguf", n_embd=64, n_layer=1, pre_tokenizer="")
    own = ("--output", tmp_path / "o.json", "--log", tmp_path / "log")
    result = command("model", "--model", path, *own)
    ok(result)
    (warning,) = files.read_json(tmp_path / "o.json")["warnings"]
    assert "missing pre-tokenizer type" in warning
    assert result.stderr == f"quern model: {path}: llama.cpp warns: {warning}\n"
    assert gguf_files.ModelInfo.read(tmp_path / "o.json") == gguf_files.model_info(path)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.6, 0.999])
def test_a_truncated_model(copy, tmp_path, share):
    truncate(copy / "dense.gguf", share)
    result = command("model", "--model", copy / "dense.gguf", "--output", tmp_path / "o.json")
    fails_with(result, "dense.gguf", "cut short")
    assert not (tmp_path / "o.json").exists()


def test_a_model_truncated_since_it_was_described(copy, tmp_path):
    truncate(copy / "dense.gguf")
    fails_with(baseline(copy, tmp_path), "llama.cpp cannot load the model", "dense.gguf")
    fails_with(quantize(copy, tmp_path), "dense.gguf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made"]


def test_an_imatrix_is_no_model(made, tmp_path):
    ok(imatrix(made, tmp_path))
    result = command("model", "--model", tmp_path / "i.gguf", "--output", tmp_path / "o.json")
    fails_with(result, "not a model")


def test_a_quantized_baseline(made, tmp_path):
    ok(quantize(made, tmp_path))
    shutil.copy(tmp_path / "q.gguf", tmp_path / "dense.gguf")
    shutil.copy(tmp_path / "q.json", tmp_path / "dense.json")
    shutil.copy(made / "dense.h5", tmp_path / "dense.h5")
    fails_with(baseline(tmp_path, tmp_path), "already quantized (Q4_K, Q6_K)")
    fails_with(quantize(tmp_path, tmp_path / "again"), "already quantized")
    assert not (tmp_path / "b.h5").exists() and not (tmp_path / "again").exists()


def test_a_text_too_short(made, tmp_path):
    fails_with(baseline(made, tmp_path, **{"n-ctx": 300_000}), "too few for two windows")
    assert not (tmp_path / "b.h5").exists()


def test_an_empty_text(made, tmp_path):
    (tmp_path / "empty.txt").touch()
    result = command(
        "tokens",
        *("--model", made / "dense.gguf", "--info", made / "dense.json"),
        *("--text", tmp_path / "empty.txt", "--output", tmp_path / "t.h5"),
        *("--facts", tmp_path / "t.json"),
    )
    fails_with(result, "empty.txt is empty")
    assert not (tmp_path / "t.h5").exists()


@pytest.mark.parametrize("option", ["--output-type", "--token-embedding-type"])
def test_unknown_types(made, tmp_path, option):
    fails_with(quantize(made, tmp_path, "Q4_K_XXL"), "no quantization type Q4_K_XXL", "Q4_K_M")
    fails_with(quantize(made, tmp_path, "Q4_0", option, "Q9_9"), "no tensor type Q9_9")
    assert not (tmp_path / "q.gguf").exists()


def test_a_type_that_needs_an_imatrix(made, tmp_path):
    fails_with(quantize(made, tmp_path, "IQ2_XXS"), "IQ2_XXS", "importance matrix")
    assert not (tmp_path / "q.gguf").exists()


def test_a_recipe_that_llama_cpp_refuses_may_keep_that_as_its_result(made, tmp_path):
    ok(quantize(made, tmp_path, "IQ2_XXS", "--keep-failure"))
    assert "importance matrix" in files.failure(tmp_path / "q.json")


def test_what_the_machine_or_a_file_does_is_no_result_of_a_recipe(made, tmp_path):
    ok(imatrix(made, tmp_path))
    content = bytearray((tmp_path / "i.gguf").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "d.gguf").write_bytes(content)
    damaged = ["--imatrix", tmp_path / "d.gguf", "--keep-failure"]
    fails_with(quantize(made, tmp_path, "Q4_K_M", *damaged), "d.gguf is damaged")
    small = ["sh", "-c", 'ulimit -f 200; exec "$@"', "sh", sys.executable]  # files of 100 kB
    words = quantize(made, tmp_path, "Q4_K_M").args
    (tmp_path / "q.json").unlink()
    result = subprocess.run([*small, *words, "--keep-failure"], capture_output=True, text=True)
    fails_with(result, "llama.cpp cannot quantize")
    assert not (tmp_path / "q.json").exists()


def test_an_imatrix_of_another_model(made, tmp_path):
    ok(imatrix(made, tmp_path, "moe"))
    result = quantize(made, tmp_path, "Q4_K_M", "--imatrix", tmp_path / "i.gguf")
    fails_with(result, "i.gguf is of another model", "blk.0.ffn_down_exps.weight")
    assert not (tmp_path / "q.gguf").exists()


def test_a_baseline_store_of_another_model(made, tmp_path):
    write_model(tmp_path / "dense.gguf", seed=1)
    info = gguf_files.model_info(tmp_path / "dense.gguf")
    files.write_json(tmp_path / "dense.json", info.as_dict())
    ok(baseline(made, tmp_path))
    ok(quantize(made, tmp_path))
    before = (tmp_path / "b.h5").read_bytes()
    fails_with(compare(tmp_path, tmp_path), "b.h5 was made from another baseline model")
    shutil.copy(made / "dense.h5", tmp_path / "dense.h5")
    fails_with(baseline(tmp_path, tmp_path), "b.h5 was made with model_sha256")
    assert (tmp_path / "b.h5").read_bytes() == before
    assert not (tmp_path / "c.h5").exists()


def test_a_baseline_store_of_another_context(made, tmp_path):
    ok(baseline(made, tmp_path))
    before = (tmp_path / "b.h5").read_bytes()
    fails_with(baseline(made, tmp_path, **{"n-ctx": 128}), "made with n_ctx = 64, not 128")
    assert (tmp_path / "b.h5").read_bytes() == before


def test_a_baseline_store_of_another_text(copy, tmp_path):
    ok(baseline(copy, tmp_path))
    (copy / "text.txt").write_text("Other words, " * 500)
    ok(
        command(
            "tokens",
            *("--model", copy / "dense.gguf", "--info", copy / "dense.json"),
            *("--text", copy / "text.txt", "--output", copy / "dense.h5"),
            *("--facts", tmp_path / "t.json"),
        )
    )
    fails_with(baseline(copy, tmp_path), "b.h5 was made with text_sha256")


def test_another_tokenizer(made, tmp_path):
    write_model(tmp_path / "dense.gguf", tokens=310)
    info = gguf_files.model_info(tmp_path / "dense.gguf")
    files.write_json(tmp_path / "dense.json", info.as_dict())
    shutil.copy(made / "dense.h5", tmp_path / "dense.h5")
    fails_with(baseline(tmp_path, tmp_path), "dense.h5 was made with another tokenizer")
    ok(baseline(made, tmp_path))
    write_model(tmp_path / "dense.gguf", renamed={7: "seven"})
    ok(command("model", "--model", tmp_path / "dense.gguf", "--output", tmp_path / "dense.json"))
    ok(quantize(tmp_path, tmp_path))
    fails_with(compare(made, tmp_path), "token 7 differs by its text ('ć' and 'seven')")


def test_a_published_file_with_other_special_ids_is_compared_and_said(made, tmp_path):
    """The figures are those of the same weights: the baseline's tokens are taken as they are."""
    ok(baseline(made, tmp_path))
    ok(quantize(made, tmp_path, "Q8_0"))
    ok(compare(made, tmp_path))
    figures = json.loads((tmp_path / "c.json").read_text())["figures"]
    ids = {"tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.bos_token_id": 7}
    write_model(tmp_path / "other.gguf", metadata=ids)
    for name in ("c.h5", "q.gguf"):
        (tmp_path / name).unlink()
    ok(command("model", "--model", tmp_path / "other.gguf", "--output", tmp_path / "other.json"))
    ok(quantize(tmp_path, tmp_path, "Q8_0", model="other"))
    result = compare(made, tmp_path)
    ok(result)
    assert "its tokenizer's bos_token_id is 7, the baseline's 256" in result.stderr
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["figures"] == figures
    differs = json.loads(found["provenance"]["tokenizer_differs"])
    assert differs == {"bos_token_id": [256, 7], "padding_token_id": [None, 0]}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_baseline_store_cut_off(made, tmp_path, share):
    ok(baseline(made, tmp_path))
    ok(quantize(made, tmp_path))
    truncate(tmp_path / "b.h5", share)
    fails_with(compare(made, tmp_path), "b.h5 is damaged")
    assert not (tmp_path / "c.h5").exists()


def test_windows_that_are_not_there(made, tmp_path):
    ok(baseline(made, tmp_path, to=3))
    ok(quantize(made, tmp_path))
    fails_with(compare(made, tmp_path), "does not hold window 3")
    ok(compare(made, tmp_path, "--to", 3))
    assert json.loads((tmp_path / "c.json").read_text())["windows"] == 3
    fails_with(baseline(made, tmp_path, to=99), "not within the 6 windows")


def test_an_imatrix_with_nan(made, tmp_path):
    ok(imatrix(made, tmp_path))
    reader = gguf.GGUFReader(tmp_path / "i.gguf", "r+")
    next(t for t in reader.tensors if t.name.endswith("in_sum2")).data[0] = np.nan
    reader.data.flush()
    result = quantize(made, tmp_path, "Q4_K_M", "--imatrix", tmp_path / "i.gguf")
    fails_with(result, "not finite for blk.0.attn_k.weight")


def test_an_imatrix_without_counts(made, tmp_path):
    matrix = Imatrix()
    formats.write(matrix, tmp_path / "i.gguf")
    result = quantize(made, tmp_path, "Q4_K_M", "--imatrix", tmp_path / "i.gguf")
    fails_with(result, "i.gguf holds no importances")
