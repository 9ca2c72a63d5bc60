"""Token files that are made of a pool's, as the command makes them."""

import json

import numpy as np
import pandas as pd
import pytest

from conftest import DEMO, command, fails_with
from models import write_model
from quern import files, gguf_files
from quern.corpus import build
from quern.corpus.sources import Source
from quern.llama import Model, samples
from quern.tokens.making import ORDERS
from quern.tokens.windows import read_tokens

N_CTX, WINDOWS = 32, 12
DIVERGENCE = "window,kld_mean\n" + "".join(f"{w},{(7 * w) % 13}\n" for w in range(20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, texts):
    """A shuffled corpus, a model with a token a byte, the pool's tokens, a comparison."""
    folder = tmp_path_factory.mktemp("made-tokens")
    (folder / "text.txt").write_text("\n%%\n".join(text[:150] for text in texts[:40]))
    source = Source("topics", "text", str(folder / "text.txt"), separator="\n%%\n")
    build.build([source], folder / "corpus", build.Settings(evaluation_characters=500))
    model = write_model(folder / "m.gguf")
    files.write_json(folder / "m.json", gguf_files.model_info(model).as_dict())
    (folder / "c.csv").write_text(DIVERGENCE)
    result = command(
        "tokens",
        *("--model", model, "--info", folder / "m.json", "--text", folder / "corpus/pool.txt"),
        *("--output", folder / "pool.h5", "--facts", folder / "pool.json"),
    )
    assert result.returncode == 0, result.stderr
    return folder


def make(folder, output, *options, n_ctx=N_CTX, model="m"):
    """The command's result."""
    return command(
        "calibration",
        *("--model", folder / f"{model}.gguf", "--info", folder / f"{model}.json"),
        *("--tokens", folder / "pool.h5", "--text", folder / "corpus/pool.txt"),
        *("--documents", folder / "corpus/documents.csv", "--n-ctx", n_ctx, "--threads", 1),
        *("--output", output, "--facts", output.with_suffix(".json"), *options),
    )


def windows_of(path, n_ctx=N_CTX):
    """All windows of a token file, and its facts."""
    tokens = read_tokens(path)
    assert tokens.n_ctx == n_ctx and tokens.count % n_ctx == 0
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["text_sha256"] == tokens.text_sha256
    return tokens.windows(n_ctx, range(tokens.count // n_ctx))[:], facts


def made(folder, output, *options):
    result = make(folder, output, *options)
    assert result.returncode == 0, result.stderr
    return windows_of(output)


def pool(folder, windows=WINDOWS):
    return read_tokens(folder / "pool.h5").windows(N_CTX, range(windows))[:]


def text_of(folder, windows):
    with Model(folder / "m.gguf", vocab_only=True) as model:
        return b"".join(model.pieces(windows[:, 1:].ravel())).decode()


def test_a_model_sees_the_same_tokens_in_each_order(folder, tmp_path):
    expected, hashes = np.sort(pool(folder), axis=None), set()
    for order in ORDERS:
        found, facts = made(folder, tmp_path / "t.h5", "--order", order, "--windows", WINDOWS)
        assert found.shape == (WINDOWS, N_CTX)
        assert (np.sort(found, axis=None) == expected).all(), order
        assert (found != pool(folder)).any(), order
        hashes.add(facts["text_sha256"])
    assert len(hashes) == len(ORDERS)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(folder, tmp_path):
    def sha256(name, seed):
        made(folder, tmp_path / name, "--order", "shuffled-documents", "--seed", seed)
        return files.sha256(tmp_path / name)

    assert sha256("a.h5", 1) == sha256("b.h5", 1) != sha256("c.h5", 2)


def test_documents_come_in_the_order_of_their_sources(folder, tmp_path):
    """One token is a byte, and each window's first one is lost to BOS, so documents lose bytes."""
    every = read_tokens(folder / "pool.h5").count // N_CTX
    found, _ = made(folder, tmp_path / "t.h5", "--order", "documents")
    assert len(found) == every
    text, ordered = text_of(folder, pool(folder, every)), text_of(folder, found)
    documents = pd.read_csv(folder / "corpus/documents.csv").query("part == 'pool'")
    assert not documents.place.is_monotonic_increasing
    # What is left of each document in the pool's stream, by where its bytes lie.
    kept = np.arange(every * N_CTX).reshape(every, N_CTX)[:, 1:].ravel() - 1  # bytes of the text
    number = np.searchsorted(documents.offset, kept, side="right") - 1
    pieces = {
        place: "".join(np.array(list(text))[number == i]) for i, place in enumerate(documents.place)
    }
    assert ordered == "".join(pieces[place] for place in sorted(pieces))


def test_windows_are_chosen_as_they_are(folder, tmp_path):
    figures = {w: (7 * w) % 13 for w in range(20)}
    options = "--windows", 4, "--comparison", folder / "c.csv"
    for which, sign in (("highest", -1), ("lowest", 1)):
        found, _ = made(folder, tmp_path / "t.h5", "--which", which, *options)
        numbers = sorted(sorted(figures, key=lambda w: (sign * figures[w], w))[:4])
        assert (found == pool(folder, 20)[numbers]).all()
    found, _ = made(
        folder, tmp_path / "t.h5", "--which", "random", "--windows", 4, "--among", 5, "--seed", 2
    )
    rows = [row.tolist() for row in pool(folder, 5)]
    assert all(row.tolist() in rows for row in found)


def test_text_at_random(folder, tmp_path):
    words = set((folder / "corpus/pool.txt").read_text().split())
    for kind in ("tokens", "words", "bytes"):
        options = "--random", kind, "--windows", WINDOWS
        found, _ = made(folder, tmp_path / "t.h5", *options)
        again, _ = made(folder, tmp_path / "u.h5", *options)
        other, _ = made(folder, tmp_path / "v.h5", *options, "--seed", 1)
        assert found.shape == (WINDOWS, N_CTX) and (found[:, 0] == 256).all()
        assert (found == again).all() and (found != other).any()
        assert not (found[:, 1:] == 256).any(), kind  # BOS is of control
        if kind == "words":
            assert set(text_of(folder, found).split()[:-1]) <= words
        if kind == "bytes":
            assert text_of(folder, found).isprintable() and text_of(folder, found).isascii()


def test_a_model_s_own_samples(folder, tmp_path):
    info, output = gguf_files.model_info(DEMO), tmp_path / "t.h5"
    files.write_json(tmp_path / "demo.json", info.as_dict())
    with Model(DEMO) as model:
        few, more = (list(samples(model, count, N_CTX - 1, 3)) for count in (2, 9))
        bos = model.bos
    assert len(more) == 9
    assert all((a == b).all() for a, b in zip(few, more[:2], strict=True))
    assert (more[0] != more[1]).any() and (more[0] != more[8]).any()
    own = "--model", DEMO, "--info", tmp_path / "demo.json"
    command(
        "tokens",
        *(*own, "--text", folder / "corpus/pool.txt"),
        *("--output", tmp_path / "pool.h5", "--facts", tmp_path / "pool.json"),
    )
    options = "--random", "samples", "--windows", 2, "--seed", 3, "--n-ctx", N_CTX, "--threads", 1
    files_of = "--tokens", tmp_path / "pool.h5", "--output", output, "--facts", tmp_path / "t.json"
    result = command("calibration", *own, *files_of, *options)
    assert result.returncode == 0, result.stderr
    found, facts = windows_of(output)
    assert (found[:, 0] == bos).all() and (found[:, 1:] == np.stack(few)).all()
    assert facts["made"]["model_sha256"] == info.sha256 and facts["made"]["computed_by"]


def test_samples_follow_the_model_s_probabilities(folder):
    """The first token of many texts, against the softmax of the logits after BOS."""
    n = 4000
    with Model(folder / "m.gguf") as model:
        found = np.array([text[0] for text in samples(model, n, 1, 0)])
        window = np.full((1, 2), model.bos, np.int32)
        ((_, _, logits),) = [(*_, row.copy()) for *_, row in model.logits(window, 0, 1)]
    shares = np.exp(logits[0].astype(np.float64) - logits.max())
    shares /= shares.sum()
    counts = np.bincount(found, minlength=len(shares))
    assert (abs(counts - n * shares) <= 5 * np.sqrt(n * shares) + 1).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ("say what to make",)),
        (("--random", "words"), ("--windows",)),
        (("--which", "highest", "--windows", 3), ("highest needs --comparison",)),
        (("--which", "random", "--windows", 100_000), ("fewer than 100000",)),
    ],
)
def test_what_is_missing_is_a_sentence(folder, tmp_path, options, words):
    fails_with(make(folder, tmp_path / "t.h5", *options), *words)
    assert not (tmp_path / "t.h5").exists()


def test_a_table_of_an_earlier_version_is_a_sentence(folder, tmp_path):
    documents = pd.read_csv(folder / "corpus/documents.csv")
    documents.drop(columns="place").to_csv(tmp_path / "d.csv", index=False)
    options = "--order", "documents", "--documents", tmp_path / "d.csv"
    fails_with(make(folder, tmp_path / "t.h5", *options), "d.csv", "earlier version")
