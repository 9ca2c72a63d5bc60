"""However a command ends, it ends in a sentence; and its child never outlives it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from conftest import HOUSE

PROGRAM = """
import os, sys, time; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from quern import QuernError, command
def main(arguments):
    {body}
p = command.parser("test")
p.add_argument("house", type=Path)
p.add_argument("--input", type=Path, default=Path(__file__))
command.run(main, p.parse_args())
"""


@pytest.fixture
def start(tmp_path):
    def start(body, *options):
        program = tmp_path / "grind.py"
        program.write_text(PROGRAM.format(body=body))
        return subprocess.Popen(
            [sys.executable, program, HOUSE / "scripts", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("print('done')", 0, []),
        ("raise QuernError('the corn is wet.')", 1, ["quern grind: the corn is wet."]),
        ("open('/no/such/file')", 1, ["No such file or directory /no/such/file"]),
        ("1 / 0", 1, ["a defect in Quern: ZeroDivisionError"]),
        ("os.kill(os.getpid(), 11)", 1, ["crashed with SIGSEGV", "grind.py"]),
        ("os.abort()", 1, ["crashed with SIGABRT", "grind.py"]),
        ("os.kill(os.getpid(), 9)", 1, ["SIGKILL", "memory"]),
    ],
)
def test_how_a_command_ends(start, body, code, words):
    process = start(body)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    for word in words:
        assert word in errors


def test_the_sentence_is_in_the_log_too(start, tmp_path):
    start("raise QuernError('the corn is wet.')", "--log", tmp_path / "x/y.log").wait()
    assert "the corn is wet." in (tmp_path / "x/y.log").read_text()


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_dies_with_its_parent(start, number):
    process = start("print(os.getpid(), flush=True); time.sleep(60)")
    child = int(process.stdout.readline())
    process.send_signal(number)
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)
    assert process.wait(10) != 0
