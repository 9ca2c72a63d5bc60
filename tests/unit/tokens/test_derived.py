"""Token files that are made of a pool's, as the command makes them."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from conftest import DEMO, command, fails_with
from models import write_model
from quern import QuernError, files, gguf_files
from quern.corpus import build
from quern.corpus.sources import Source
from quern.llama import Model, samples
from quern.tokens import derived, windows
from quern.tokens.derivation import ORDERS, Derivation
from quern.tokens.windows import read_tokens

N_CTX, WINDOWS = 32, 12
DIVERGENCE = "window,kld_mean\n" + "".join(f"{w},{(7 * w) % 13}\n" for w in range(20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, texts):
    """A shuffled corpus, a model with a token a byte, the pool's tokens, a comparison."""
    folder = tmp_path_factory.mktemp("made-tokens")
    (folder / "text.txt").write_text("\n%%\n".join(text[:150] for text in texts[:40]))
    source = Source("topics", str(folder / "text.txt"), separator="\n%%\n")
    build.build([source], folder / "corpus", build.CorpusSettings(evaluation_characters=500))
    model = write_model(folder / "m.gguf")
    files.write_json(folder / "m.json", gguf_files.model_info(model).as_dict())
    with files.replacing(folder / "c.csv") as temporary:
        temporary.write_text(DIVERGENCE)
    with Model(model, load="vocab") as loaded:
        sha256 = gguf_files.model_info(model).tokenizer_sha256
        windows.tokenize_text(loaded, sha256, folder / "corpus/pool.txt", folder / "pool.h5")
    return folder


def windows_of(path):
    """All windows of a token file, BOS in place."""
    tokens = read_tokens(path)
    assert tokens.n_ctx == N_CTX and tokens.count % N_CTX == 0
    return tokens.windows(N_CTX, range(tokens.count // N_CTX))[:]


def make(folder, output, **options):
    """The windows of a token file that is made from the pool, and its facts."""
    derivation, tokens = Derivation(N_CTX, **options), read_tokens(folder / "pool.h5")
    files_of = folder / "corpus/pool.txt", folder / "corpus/documents.csv", folder / "c.csv"
    with Model(folder / "m.gguf", load="vocab") as model:
        content = derived.contents(derivation, model, tokens, *files_of)
        facts = derived.write(output, model, tokens, derivation, content, asdict(derivation))
    assert facts["text_sha256"] == read_tokens(output).text_sha256
    return windows_of(output), facts


def pool(folder, count=WINDOWS):
    return read_tokens(folder / "pool.h5").windows(N_CTX, range(count))[:]


def text_of(folder, found):
    """What windows hold besides BOS, in bytes."""
    with Model(folder / "m.gguf", load="vocab") as model:
        return b"".join(model.pieces(found[:, 1:].ravel()))


def test_a_model_sees_the_same_tokens_in_each_order(folder, tmp_path):
    expected, hashes = np.sort(pool(folder), axis=None), set()
    for order in ORDERS:
        found, facts = make(folder, tmp_path / "t.h5", order=order, windows=WINDOWS)
        assert found.shape == (WINDOWS, N_CTX)
        assert (np.sort(found, axis=None) == expected).all(), order
        assert (found != pool(folder)).any(), order
        hashes.add(facts["text_sha256"])
    assert len(hashes) == len(ORDERS)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(folder, tmp_path):
    def sha256(name, seed):
        make(folder, tmp_path / name, order="shuffled-documents", seed=seed)
        return files.sha256(tmp_path / name)

    assert sha256("a.h5", 1) == sha256("b.h5", 1) != sha256("c.h5", 2)


def test_documents_come_in_the_order_of_their_sources(folder, tmp_path):
    """One token is a byte, and each window's first one is lost to BOS, so documents lose bytes."""
    every = read_tokens(folder / "pool.h5").count // N_CTX
    found, _ = make(folder, tmp_path / "t.h5", order="documents")
    assert len(found) == every
    text, ordered = text_of(folder, pool(folder, every)), text_of(folder, found)
    documents = pd.read_csv(folder / "corpus/documents.csv").query("part == 'pool'")
    assert not documents.place.is_monotonic_increasing
    # What is left of each document in the pool's stream, by where its bytes lie.
    kept = np.arange(every * N_CTX).reshape(every, N_CTX)[:, 1:].ravel() - 1  # bytes of the text
    number = np.searchsorted(documents.offset, kept, side="right") - 1
    pieces = {
        place: bytes(np.frombuffer(text, np.uint8)[number == i])
        for i, place in enumerate(documents.place)
    }
    assert ordered == b"".join(pieces[place] for place in sorted(pieces))


def test_windows_are_chosen_as_they_are(folder, tmp_path):
    figures = {w: (7 * w) % 13 for w in range(20)}
    for which, sign in (("highest", -1), ("lowest", 1)):
        found, _ = make(folder, tmp_path / "t.h5", which=which, windows=4)
        numbers = sorted(sorted(figures, key=lambda w: (sign * figures[w], w))[:4])
        assert (found == pool(folder, 20)[numbers]).all()
    found, _ = make(folder, tmp_path / "t.h5", which="random", windows=4, among=5, seed=2)
    rows = [row.tolist() for row in pool(folder, 5)]
    assert all(row.tolist() in rows for row in found)


def test_text_at_random(folder, tmp_path):
    words = set((folder / "corpus/pool.txt").read_text().split())
    for kind in ("tokens", "words", "bytes"):
        options = {"random": kind, "windows": WINDOWS}
        found, _ = make(folder, tmp_path / "t.h5", **options)
        again, _ = make(folder, tmp_path / "t.h5", **options)
        other, _ = make(folder, tmp_path / "t.h5", **options, seed=1)
        assert found.shape == (WINDOWS, N_CTX) and (found[:, 0] == 256).all()
        assert (found == again).all() and (found != other).any()
        assert not (found[:, 1:] == 256).any(), kind  # BOS is of control
        text = text_of(folder, found)
        if kind == "bytes":
            assert text.decode().isprintable() and text.isascii()
    stream = derived.pseudo_random.random_words
    with Model(folder / "m.gguf", load="vocab") as model:
        rng, count = np.random.default_rng(0), 9000
        tokens = stream(model, count, rng, folder / "corpus/pool.txt")
        found = b"".join(model.pieces(tokens)).decode(errors="ignore").split()[:-1]
    assert len(tokens) == count and set(found) <= words
    assert len(set(found)) > 0.8 * len(words)


def test_a_model_s_own_samples(folder, tmp_path):
    info, output = gguf_files.model_info(DEMO), tmp_path / "t.h5"
    files.write_json(tmp_path / "demo.json", info.as_dict())
    with Model(DEMO) as model:
        few, more = (list(samples(model, count, N_CTX - 1, 3)) for count in (2, 9))
        bos = model.bos
    assert len(more) == 9
    assert all((a == b).all() for a, b in zip(few, more[:2], strict=True))
    assert (more[0] != more[1]).any() and (more[0] != more[8]).any()
    with Model(DEMO, load="vocab") as model:
        text = folder / "corpus/pool.txt"
        windows.tokenize_text(model, info.tokenizer_sha256, text, tmp_path / "pool.h5")
    result = command(
        "calibration",
        *("--model", DEMO, "--info", tmp_path / "demo.json", "--tokens", tmp_path / "pool.h5"),
        *("--random", "samples", "--windows", 2, "--seed", 3, "--n-ctx", N_CTX, "--threads", 1),
        *("--output", output, "--facts", tmp_path / "t.json"),
    )
    assert result.returncode == 0, result.stderr
    found, facts = windows_of(output), files.read_json(tmp_path / "t.json")
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
    ("options", "said"),
    [
        ({}, "say what to make"),
        ({"random": "words"}, "--windows"),
        ({"which": "highest"}, "--windows"),
        ({"which": "random", "windows": 100_000}, "fewer than 100000"),
    ],
)
def test_what_is_missing_is_a_sentence(folder, tmp_path, options, said):
    with pytest.raises(QuernError, match=said):
        make(folder, tmp_path / "t.h5", **options)
    assert not (tmp_path / "t.h5").exists()


def test_a_command_says_what_it_needs(folder, tmp_path):
    result = command(
        "calibration",
        *("--model", folder / "m.gguf", "--info", folder / "m.json"),
        *("--tokens", folder / "pool.h5", "--which", "highest", "--windows", 3),
        *("--output", tmp_path / "t.h5", "--facts", tmp_path / "t.json"),
    )
    fails_with(result, "highest needs --comparison")


def test_a_table_of_an_earlier_version_is_a_sentence(folder, tmp_path):
    documents = pd.read_csv(folder / "corpus/documents.csv")
    documents.drop(columns="place").to_csv(tmp_path / "d.csv", index=False)
    derivation, tokens = Derivation(N_CTX, order="documents"), read_tokens(folder / "pool.h5")
    text = folder / "corpus/pool.txt"
    said = pytest.raises(QuernError, match=r"d\.csv .* earlier version")
    with Model(folder / "m.gguf", load="vocab") as model, said:
        derived.contents(derivation, model, tokens, text, tmp_path / "d.csv")
