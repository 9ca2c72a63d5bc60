"""Models from a hub: addresses, and files as a server of the hub's own routes gives them."""

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from hub_server import COMMIT, serving
from hypothesis import given
from hypothesis import strategies as st

from conftest import HOUSE
from models import write_model
from quern import QuernError, files
from quern.models import hub

TOKEN = "hf_nobody_may_read_this"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://a/b/m.gguf", ("a/b", "main", "m.gguf")),
        ("hf://a/b@v1/m.gguf", ("a/b", "v1", "m.gguf")),
        (
            "hf://a-c/b.d@0f3/sub/m-00001-of-00002.gguf",
            ("a-c/b.d", "0f3", "sub/m-00001-of-00002.gguf"),
        ),
    ],
)
def test_an_address_in_parts(text, expected):
    found = hub.address(text)
    assert (found.repository, found.revision, found.file) == expected
    assert hub.address(str(found)) == found
    assert found.below("x") == f"x/{expected[0]}/{expected[1]}/{expected[2]}"


@pytest.mark.parametrize(
    "text",
    [
        "hf://a/m.gguf",
        "hf://a/b/m.bin",
        "hf:/a/b/m.gguf",
        "hf://a/b/../m.gguf",
        "hf://a/b@/m.gguf",
        "hf://a/b//m.gguf",
        "hf://a/b/m.gguf\n",
        "hf://../b/m.gguf",
        "hf://a/b@../m.gguf",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(QuernError, match=r"write hf://owner/name/file\.gguf"):
        hub.address(text)


@given(st.text(alphabet="hf:/ab.@-\n", max_size=24).map(lambda text: f"hf:{text}.gguf"))
def test_no_address_leaves_the_folder(text):
    try:
        path = hub.address(text).below("hub")
    except QuernError:
        return
    assert ".." not in path.split("/")


@pytest.fixture
def server(tmp_path, monkeypatch):
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        whole = write_model(tmp_path / "m.gguf").read_bytes()
        parts = {f"q/m-0000{i}-of-00002.gguf": whole[i:] for i in (1, 2)}
        server.repositories["owner/name"] = {"m.gguf": whole, "README.md": b"-"} | parts
        yield server


def fetch(folder, address, **options):
    named = {
        "--address": address,
        "--output": folder / address.rpartition("/")[2],
        "--facts": folder / "facts.json",
        "--log": folder / "log",
    }
    return subprocess.Popen(
        [sys.executable, HOUSE / "scripts/fetch_model.py", *itertools.chain(*named.items())],
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def fails(folder, address):
    process = fetch(folder, address)
    said = process.communicate()[1]
    assert process.returncode == 1 and "Traceback" not in said
    assert not list(folder.glob("*.gguf")) and not (folder / "facts.json").exists()
    return said


def test_a_file_its_facts_and_no_token(server, tmp_path):
    folder = tmp_path / "out"
    process = fetch(folder, "hf://owner/name@v1/m.gguf")
    assert process.wait() == 0, process.stderr.read()
    content = server.repositories["owner/name"]["m.gguf"]
    assert (folder / "m.gguf").read_bytes() == content
    facts = files.read_json(folder / "facts.json")
    assert facts["address"] == "hf://owner/name@v1/m.gguf" and facts["commit"] == COMMIT
    expected = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert facts["files"] == {"m.gguf": expected}
    assert {path.name for path in folder.iterdir()} == {"m.gguf", "facts.json", "log"}
    assert f"Bearer {TOKEN}" in {token for *_, token in server.asked}
    assert not any(TOKEN.encode() in path.read_bytes() for path in folder.iterdir())


def test_all_files_of_a_model_in_several(server, tmp_path):
    folder = tmp_path / "out"
    process = fetch(folder, "hf://owner/name/q/m-00001-of-00002.gguf")
    assert process.wait() == 0, process.stderr.read()
    for i in (1, 2):
        name = f"m-0000{i}-of-00002.gguf"
        assert (folder / name).read_bytes() == server.repositories["owner/name"][f"q/{name}"]
    assert len(files.read_json(folder / "facts.json")["files"]) == 2


def test_killed_it_goes_on_where_it_stopped(server, tmp_path):
    """The server stalls in the middle of the body, and the run is killed."""
    content = os.urandom(30 << 20)
    server.repositories["owner/name"]["m.gguf"] = content
    server.stalls_after = 20 << 20
    folder = tmp_path / "out"
    process = fetch(folder, "hf://owner/name/m.gguf", start_new_session=True)
    deadline = time.monotonic() + 60
    while not any(p.stat().st_size > 0 for p in folder.rglob("m.gguf")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "m.gguf").exists()
    server.stalls_after, server.asked[:] = None, []
    process = fetch(folder, "hf://owner/name/m.gguf")
    assert process.wait() == 0, process.stderr.read()
    assert (folder / "m.gguf").read_bytes() == content
    ranges = [asked[2] for asked in server.asked if asked[0] == "GET" and "resolve" in asked[1]]
    assert ranges and all(found and found != "bytes=0-" for found in ranges)


def test_another_content_than_listed_is_removed(server, tmp_path):
    server.listed["m.gguf"] = "1" * 64
    said = fails(tmp_path / "out", "hf://owner/name/m.gguf")
    assert "arrived with the hash" in said and "it was removed" in said
    assert not list((tmp_path / "out").rglob("m.gguf"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf://owner/other/m.gguf", "no such repository"),
        ("hf://owner/name@v2/m.gguf", "no such branch, tag or commit"),
        ("hf://owner/name/n.gguf", "has no file n.gguf at main; it has m.gguf, q/m-00001"),
        ("hf://owner/gated/m.gguf", "let you in"),
    ],
)
def test_what_the_hub_does_not_give(server, tmp_path, address, expected):
    server.repositories["owner/gated"] = {"m.gguf": b""}
    server.gated.add("owner/gated")
    said = fails(tmp_path / "out", address)
    assert expected in said and TOKEN not in said


def test_no_network(server, tmp_path):
    server.shutdown()
    server.server_close()
    said = fails(tmp_path / "out", "hf://owner/name/m.gguf")
    assert "cannot be fetched" in said and "Run again" in said
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
