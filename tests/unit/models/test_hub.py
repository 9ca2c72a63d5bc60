"""Models from a hub: what is fetched, checked and resumed, and what is said where it fails."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from conftest import HOUSE, command, fails_with
from hub import TOKEN, serving
from quern import QuernError, files
from quern.models.hub import address, require_room

CONTENT = np.random.default_rng(0).bytes(100_000)
PIECE = 1 << 16
# The command on small pieces.
SLOWLY = f"""
import runpy, sys
sys.path.insert(0, {str(HOUSE / "scripts")!r})
from quern.models import hub
hub.PIECE = {PIECE}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(monkeypatch, tmp_path / "home") as found:
        yield found


def arguments(folder, asked):
    wanted = address(asked)
    facts = folder / f"{wanted.place}.fetched.json"
    own = ("--place", folder / wanted.place, "--facts", facts, "--log", folder / "log")
    return ("--address", asked, *own)


def fetch(folder, asked):
    """Run the command; the facts that it wrote."""
    result = command("fetch_model", *arguments(folder, asked))
    assert result.returncode == 0, result.stderr
    return files.read_json(folder / f"{address(asked).place}.fetched.json")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_addresses():
    found = address("hf://own/er.1/sub/x-00001-of-00002.gguf")
    assert found.place == "own/er.1/main/sub/x-00001-of-00002.gguf"
    assert found.wanted(["a", "sub/x-00002-of-00002.gguf", "sub/x-00001-of-00002.gguf"]) == [
        "sub/x-00001-of-00002.gguf",
        "sub/x-00002-of-00002.gguf",
    ]
    assert str(address("hf://own/er@v1.0/x.gguf")) == "hf://own/er@v1.0/x.gguf"
    assert address("hf://own/er@v1.0").place == "own/er/v1.0/er"


@pytest.mark.parametrize(
    "text",
    [
        *("hf://", "hf://own", "hf:own/er/x.gguf", "hf://own/er/x.bin", "hf://own/er/../x.gguf"),
        *("hf://own/..", "hf://own/er@../x.gguf", "hf://own/er@/x.gguf", "hf://own/er//x.gguf"),
        *("hf://own/er/a\n.gguf", "hf://own/er/{x}.gguf", "hf://own/er/"),
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(
        QuernError, match=r"is no model on the hub; write hf://owner/name/file\.gguf"
    ):
        address(text)


def test_a_file_is_fetched_once(hub, tmp_path):
    commit = hub.add("own/er", {"sub/x.gguf": CONTENT, "other.gguf": b"other"})
    facts = fetch(tmp_path, "hf://own/er/sub/x.gguf")
    assert (tmp_path / "own/er/main/sub/x.gguf").read_bytes() == CONTENT
    assert facts == {
        "address": "hf://own/er@main/sub/x.gguf",
        "commit": commit,
        "files": {"x.gguf": {"bytes": len(CONTENT), "sha256": sha256(CONTENT)}},
    }
    assert not list(tmp_path.rglob("*.part"))
    hub.asked.clear()
    hub.add("own/er", {"sub/x.gguf": b"main moved"})
    assert fetch(tmp_path, "hf://own/er/sub/x.gguf") == facts
    assert hub.asked == []  # nor is the hub asked where it is


def test_what_was_deleted_comes_back_as_it_was(hub, tmp_path):
    """A branch stays at the commit that it had."""
    hub.add("own/er", {"x.gguf": CONTENT})
    facts = fetch(tmp_path, "hf://own/er/x.gguf")
    hub.add("own/er", {"x.gguf": b"main moved"})
    (tmp_path / "own/er/main/x.gguf").unlink()
    assert fetch(tmp_path, "hf://own/er/x.gguf") == facts
    assert (tmp_path / "own/er/main/x.gguf").read_bytes() == CONTENT


def test_a_revision_beside_another(hub, tmp_path):
    hub.add("own/er", {"x.gguf": b"first"}, "v1")
    second = hub.add("own/er", {"x.gguf": b"second"})
    fetch(tmp_path, "hf://own/er@v1/x.gguf")
    assert fetch(tmp_path, f"hf://own/er@{second}/x.gguf")["commit"] == second
    assert (tmp_path / "own/er/v1/x.gguf").read_bytes() == b"first"
    assert (tmp_path / f"own/er/{second}/x.gguf").read_bytes() == b"second"


def test_all_shards(hub, tmp_path):
    names = [f"x-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    hub.add("own/er", {name: name.encode() for name in names} | {"y.gguf": b""})
    facts = fetch(tmp_path, f"hf://own/er/{names[0]}")
    assert list(facts["files"]) == names
    folder = tmp_path / "own/er/main"
    assert sorted(path.name for path in folder.glob("x*.gguf")) == names
    assert all((folder / name).read_text() == name for name in names)
    del hub.repositories["own/er"]["main"][1][names[2]]
    fails_with(
        command("fetch_model", *arguments(tmp_path / "b", f"hf://own/er/{names[0]}")),
        f"own/er has no file {names[2]} at main; it has",
    )


def test_a_repository_without_what_no_conversion_needs(hub, tmp_path):
    kept = {"config.json": b"{}", "model.safetensors": CONTENT, "README.md": b"", "a.model": b"m"}
    others = {"pytorch_model.bin": b"b", "onnx/config.json": b"{}", "consolidated.safetensors": b""}
    hub.add("own/er", kept | others | {"x.gguf": b"", ".gitattributes": b""})
    facts = fetch(tmp_path, "hf://own/er")
    assert facts["files"] == {
        name: {"bytes": len(content), "sha256": sha256(content)}
        for name, content in sorted(kept.items())
    }
    folder = tmp_path / "own/er/main/er"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == kept


def test_a_killed_fetch_goes_on_where_it_stopped(hub, tmp_path):
    content = np.random.default_rng(1).bytes(2 * PIECE + 1000)
    hub.add("own/er", {"x-00001-of-00002.gguf": b"small", "x-00002-of-00002.gguf": content})
    arrived, go_on = threading.Event(), threading.Event()

    def stop(path, start):
        if start == 2 * PIECE:
            arrived.set()
            go_on.wait(60)

    hub.before_piece = stop
    asked = "hf://own/er/x-00001-of-00002.gguf"
    script = HOUSE / "scripts/fetch_model.py"
    line = [sys.executable, "-c", SLOWLY, script, *map(str, arguments(tmp_path, asked))]
    process = subprocess.Popen(line, start_new_session=True)
    assert arrived.wait(60)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    go_on.set()
    assert not (tmp_path / "own/er/main/x-00002-of-00002.gguf").exists()
    hub.asked.clear()
    facts = fetch(tmp_path, asked)
    ranges = {wanted for _, path, wanted, _ in hub.asked if "/resolve/" in path}
    assert ranges == {f"bytes={2 * PIECE}-{len(content) - 1}"}
    assert facts["files"]["x-00002-of-00002.gguf"]["sha256"] == sha256(content)
    assert (tmp_path / "own/er/main/x-00002-of-00002.gguf").read_bytes() == content


def test_a_mirror_that_knows_no_ranges(hub, tmp_path):
    """What is here already is sent again, and dropped."""
    content = np.random.default_rng(2).bytes(3_000_000)
    hub.add("own/er", {"x.gguf": content})
    hub.ranges = False
    part = tmp_path / "own/er/main" / f".x.gguf.{sha256(content)[:16]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content[:1_500_000])
    facts = fetch(tmp_path, "hf://own/er/x.gguf")
    assert facts["files"]["x.gguf"] == {"bytes": len(content), "sha256": sha256(content)}
    assert [path.name for path in part.parent.glob("*.gguf")] == ["x.gguf"]
    assert len([1 for _, path, *_ in hub.asked if path.startswith("/store")]) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_other_bytes_than_promised_are_removed(hub, tmp_path, name):
    """Of large files the hub lists a SHA-256, of others Git's hash."""
    hub.add("own/er", {"config.json": b"{}", "model.safetensors": CONTENT})
    hub.spoiled.add(name)
    asked = arguments(tmp_path, "hf://own/er")
    fails_with(
        command("fetch_model", *asked),
        f"{name} arrived with the hash",
        *("own/er lists", "it was removed. Run again"),
    )
    folder = tmp_path / "own/er/main/er"
    assert not (folder / name).exists() and not list(folder.glob(f".{name}*"))
    hub.spoiled.clear()
    assert name in fetch(tmp_path, "hf://own/er")["files"]


def test_a_token_opens_what_is_gated_and_is_written_nowhere(hub, tmp_path, monkeypatch):
    hub.add("own/er", {"x.gguf": CONTENT})
    hub.gated.add("own/er")
    asked = arguments(tmp_path, "hf://own/er/x.gguf")
    fails_with(command("fetch_model", *asked), "its owner must let you in", "set HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_wrongOne")
    fails_with(command("fetch_model", *asked), "its owner must let you in", "set HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    result = command("fetch_model", *asked)
    assert result.returncode == 0, result.stderr
    to_store = [auth for _, path, _, auth in hub.asked if path.startswith("/store")]
    assert to_store and set(to_store) == {None}  # it is for the hub alone
    assert TOKEN not in result.stdout + result.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("hf://no/body/x.gguf", ["there is no such repository, or it is private"]),
        ("hf://own/er@v9/x.gguf", ["the repository has no such branch, tag or commit"]),
        ("hf://own/er/y.gguf", ["own/er has no file y.gguf at main; it has x.gguf."]),
        ("hf://own/er", ["hf://own/er@main has no config.json with *.safetensors beside it"]),
    ],
)
def test_what_is_not_there_is_named(hub, tmp_path, asked, words):
    hub.add("own/er", {"x.gguf": CONTENT})
    fails_with(command("fetch_model", *arguments(tmp_path, asked)), *words)


def test_without_a_network(hub, tmp_path, monkeypatch):
    hub.add("own/er", {"x.gguf": CONTENT})
    asked = arguments(tmp_path, "hf://own/er/x.gguf")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fails_with(command("fetch_model", *asked), "HF_HUB_OFFLINE is set; unset it")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    fails_with(command("fetch_model", *asked), "the hub cannot be reached", "run again where there")


def test_a_full_disk(hub, tmp_path):
    hub.add("own/er", {"x.gguf": CONTENT})
    script, own = HOUSE / "scripts/fetch_model.py", arguments(tmp_path, "hf://own/er/x.gguf")
    line = [
        "bash",
        "-c",
        'ulimit -f 20; trap "" XFSZ; exec "$@"',
        "-",
        sys.executable,
        script,
        *own,
    ]
    result = subprocess.run(list(map(str, line)), capture_output=True, text=True)
    fails_with(result, "File too large", "make room and run again, what was computed is kept")
    assert fetch(tmp_path, "hf://own/er/x.gguf")["files"]["x.gguf"]["sha256"] == sha256(CONTENT)


def test_what_has_no_room_is_refused_before_it_is_fetched(hub, tmp_path, monkeypatch):
    hub.add("own/er", {"x.gguf": CONTENT})
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(QuernError, match=r"has room for 0\.0 GB, and the model takes"):
        require_room(tmp_path, len(CONTENT))
    (tmp_path / "part").write_bytes(CONTENT)  # what is there already
    require_room(tmp_path, len(CONTENT))
