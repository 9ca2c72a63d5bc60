"""Whole files or none, JSON, hashes, shards."""

import ast
import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import HOUSE
from quern import QuernError, files
from quern.checks import whole

CONTENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def names(folder):
    """Of files, without those of their hashes."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".sha256")


def test_what_was_written_replaces_the_file(tmp_path):
    path = tmp_path / "new/folder/x.txt"
    for content in ("old", "new"):
        with files.replacing(path) as temporary:
            assert temporary.parent == path.parent and temporary.suffix == ".txt"
            temporary.write_text(content)
            assert not path.exists() or path.read_text() == "old"
        assert path.read_text() == content
        assert names(path.parent) == ["x.txt"]


@pytest.mark.parametrize(("name", "is_summed"), [("x.csv", True), ("x.gguf", False)])
def test_a_table_has_its_hash_beside_it(tmp_path, name, is_summed):
    for content in (b"old", b"new"):
        with files.replacing(tmp_path / name) as temporary:
            temporary.write_bytes(content)
    expected = f"{hashlib.sha256(b'new').hexdigest()}  {name}\n"
    found = [path.read_text() for path in tmp_path.glob(".*")]
    assert found == ([expected] if is_summed else [])


def write_killed(path, renames):
    """Replace a file in a process that is killed before one of its renames; whether it was."""
    if not (child := os.fork()):
        rename, left = os.replace, iter(range(renames))

        def replace(*names):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(*names)

        os.replace = replace
        with files.replacing(path) as temporary:
            temporary.write_text("new")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("there_before", [True, False])
def test_killed_at_any_rename_a_table_is_whole(tmp_path, there_before):
    for renames in range(4):
        path = tmp_path / f"{renames}" / "x.csv"
        if there_before:
            with files.replacing(path) as temporary:
                temporary.write_text("old")
        was_killed = write_killed(path, renames)
        assert was_killed == (renames < 3)
        if renames < 2 and not there_before:
            assert not path.exists()
        else:
            assert files.read_summed(path) == (b"old" if renames < 2 else b"new")
            assert whole.check(path)
        with files.replacing(path) as temporary:
            temporary.write_text("next")
        assert files.read_summed(path) == b"next"
        assert sorted(p.name for p in path.parent.iterdir()) == [".x.csv.sha256", "x.csv"]
        path.write_text("old, but not whole")
        with pytest.raises(QuernError, match=r"x\.csv is not what was written"):
            files.read_summed(path)
        files.sum_path(path).unlink()
        with pytest.raises(QuernError, match=r"no hash beside it \(\.x\.csv\.sha256\)"):
            files.read_summed(path)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("there_before", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_an_exception_leaves_everything_as_it_was(tmp_path, error, there_before, begun):
    path = tmp_path / "x.txt"
    if there_before:
        path.write_text("old")
    with pytest.raises(error), files.replacing(path) as temporary:
        if begun:
            temporary.write_text("half")
        raise error
    assert names(tmp_path) == (["x.txt"] if there_before else [])
    assert not there_before or path.read_text() == "old"


def test_a_block_that_writes_nothing_fails_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), files.replacing(path):
        pass
    assert path.read_text() == "old" and names(tmp_path) == ["x.txt"]


def test_files_that_are_replaced_together_stay_together_where_one_fails(tmp_path):
    for name in ("a.csv", "a.txt"):
        (tmp_path / name).write_text("old")
    with (
        pytest.raises(ValueError, match="half way"),
        files.replacing(tmp_path / "a.csv") as a,
        files.replacing(tmp_path / "a.txt") as b,
    ):
        a.write_text("new")
        b.write_text("new")
        raise ValueError("half way")
    assert names(tmp_path) == ["a.csv", "a.txt"]
    assert {(tmp_path / name).read_text() for name in names(tmp_path)} == {"old"}


@settings(max_examples=50)
@given(content=st.dictionaries(st.text(), CONTENTS))
def test_json_is_read_back_and_the_same_content_is_the_same_bytes(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "json"
    files.write_json(folder / "a.json", content)
    found = files.read_json(folder / "a.json")
    as_it_is = json.loads((folder / "a.json").read_bytes())
    assert found == content == {k: v for k, v in as_it_is.items() if k != "content_sha256"}
    files.write_json(folder / "b.json", found)
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()


def test_a_missing_or_damaged_json_is_named(tmp_path):
    path = tmp_path / "some.json"
    with pytest.raises(QuernError, match=r"some\.json does not exist"):
        files.read_json(path)
    files.write_json(path, {"a": [1, 2, {"b": "ä"}]})
    whole = path.read_bytes()
    for content in (b"", whole[:9], whole[: len(whole) // 2], whole + b"}", b"\xff\xfe{}"):
        path.write_bytes(content)
        with pytest.raises(QuernError, match=r"some\.json is not valid JSON"):
            files.read_json(path)


def test_json_without_its_hash_or_with_another_is_damaged(tmp_path):
    path = tmp_path / "some.json"
    files.write_json(path, {"a": 1})
    whole = json.loads(path.read_text())
    del whole["content_sha256"]
    for content in (whole, whole | {"content_sha256": "0" * 64}):
        path.write_text(json.dumps(content))
        with pytest.raises(QuernError, match=r"some\.json"):
            files.read_json(path)


@pytest.mark.parametrize("size", [0, 1, 1 << 18, (1 << 18) + 1])
def test_the_hash_is_that_of_the_content(tmp_path, size):
    content = bytes(i * i % 251 for i in range(size))
    (tmp_path / "x").write_bytes(content)
    assert files.sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_what_has_no_hash_is_named(tmp_path):
    with pytest.raises(QuernError, match=r"nothing\.gguf cannot be read: No such file"):
        files.sha256(tmp_path / "nothing.gguf")
    with pytest.raises(QuernError, match="cannot be read: Is a directory"):
        files.sha256(tmp_path)


def test_a_model_of_several_shards_is_all_of_them_in_order():
    found = files.shards(Path("folder/x-00001-of-00003.gguf"))
    assert found == [Path(f"folder/x-0000{i}-of-00003.gguf") for i in (1, 2, 3)]
    assert len(files.shards(Path("x-00001-of-00012.gguf"))) == 12


@pytest.mark.parametrize("name", ["x.gguf", "x-1-of-3.gguf", "x-00001-of-00003.gguf.json"])
def test_a_model_of_another_name_is_one_file(name):
    assert files.shards(Path("folder") / name) == [Path("folder") / name]


def opened_by_locale(path):
    """Lines that open a file as text and do not say how it is encoded."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call):
            is_method = isinstance(node.func, ast.Attribute)
            name = node.func.attr if is_method else getattr(node.func, "id", "")
            is_open = name == "open" and not is_method and "b" not in ast.unparse(node.args[1:])
            said = {keyword.arg for keyword in node.keywords}
            if (is_open or name in ("read_text", "write_text")) and "encoding" not in said:
                yield f"{path.name}:{node.lineno}"


def test_every_text_is_opened_as_utf_8():
    folders = (HOUSE / "scripts", HOUSE / "plugins")
    assert not [line for f in folders for p in f.rglob("*.py") for line in opened_by_locale(p)]
