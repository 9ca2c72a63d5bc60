"""Fixtures: small models, real text, and commands run as a user runs them."""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from models import write_model
from quern import files, gguf_files
from quern.llama import Model
from quern.tokens import windows

HOUSE = Path(__file__).parent.parent
# The commands that tests start need not compile the library anew each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
DEMO = HOUSE / "resources/demo/demo-f16.gguf"


@functools.cache
def _warm() -> subprocess.Popen:
    """A process that has imported what scripts import, see `warm`."""
    program = [sys.executable, HOUSE / "tests/warm.py"]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.stdin.close)
    return process


def command(name: str, *arguments) -> subprocess.CompletedProcess:
    """Run a script of the house; arguments as on the command line."""
    script = str(HOUSE / "scripts" / f"{name}.py")
    warm, words = _warm(), [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as streams:
        request = {"script": script, "arguments": words, "folder": os.getcwd()}
        request |= {"environment": dict(os.environ), "streams": streams}
        print(json.dumps(request), file=warm.stdin, flush=True)
        code = int(warm.stdout.readline())
        out, err = (Path(streams, name).read_text() for name in ("out", "err"))
    return subprocess.CompletedProcess([script, *words], code, out, err)


def fails_with(result: subprocess.CompletedProcess, *words: str) -> None:
    """Assert that a command ended in one clear sentence with these words."""
    assert result.returncode == 1, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("quern ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert "defect" not in lines[0], lines[0]
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Documents of real English, each once."""
    return list(dict.fromkeys(topics[name].strip() for name in sorted(topics)))


@pytest.fixture(scope="session")
def made(tmp_path_factory, texts):
    """A folder with small models (dense, mixture of experts), their JSON, a text, its tokens."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "text.txt").write_text("\n\n".join(texts[:12]))
    for name, options in {"dense": {}, "moe": {"experts": 4, "dead_expert": 2}}.items():
        path = write_model(folder / f"{name}.gguf", **options)
        info = gguf_files.model_info(path)
        files.write_json(folder / f"{name}.json", info.as_dict())
        with Model(path, load="vocab") as model:
            windows.tokenize_text(
                model, info.tokenizer_sha256, folder / "text.txt", folder / f"{name}.h5"
            )
    return folder
