"""What makes results stale: the content of users' files."""

import hashlib
import json
import os

from conftest import command, fails_with
from quern import content


def test_content_follows_the_bytes_and_not_the_time(tmp_path):
    file, cache = tmp_path / "f", tmp_path / "cache.json"
    file.write_text("one")
    first = content.ContentHashes(cache).of(file)
    os.utime(file, (1, 1))
    assert content.ContentHashes(cache).of(file) == first
    file.write_text("two")
    os.utime(file, (1, 1))
    os.truncate(file, 2)
    assert content.ContentHashes(cache).of(file) != first
    cache.write_text("{damaged")
    assert content.ContentHashes(cache).of(tmp_path / "absent") == "missing"


def test_a_large_file_has_the_same_hash(tmp_path, monkeypatch):
    file = tmp_path / "f"
    file.write_bytes(os.urandom(100_000))
    monkeypatch.setattr(content, "LARGE", 10)
    monkeypatch.setattr(content, "_BLOCK", 4096)
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    assert content.ContentHashes(tmp_path / "cache.json").of(file) == expected


def test_a_command_hashes_before_the_workflow_asks(tmp_path):
    file, cache = tmp_path / "f", tmp_path / "cache.json"
    file.write_text("one")
    assert command("hashed", "--files", file, "--cache", cache).returncode == 0
    known = json.loads(cache.read_text())[str(file)]
    assert known["sha256"] == content.ContentHashes(cache).of(file)
    absent = command("hashed", "--files", tmp_path / "absent", "--cache", cache)
    fails_with(absent, "absent does not exist")
