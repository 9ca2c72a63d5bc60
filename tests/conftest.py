"""Fixtures: small models, real text, and commands run as a user runs them."""

import os
import subprocess
import sys
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


def command(name: str, *arguments) -> subprocess.CompletedProcess:
    """Run a script of the house; arguments as on the command line."""
    script = HOUSE / "scripts" / f"{name}.py"
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)], capture_output=True, text=True
    )


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
        with Model(path, vocab_only=True) as model:
            windows.tokenize_text(
                model, info.tokenizer_sha256, folder / "text.txt", folder / f"{name}.h5"
            )
    return folder
