"""However a command ends, it ends in a sentence; and its child never outlives it."""

import json
import os
import re
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
    def start(body, *options, **more):
        program = tmp_path / "grind.py"
        program.write_text(PROGRAM.format(body=body))
        return subprocess.Popen(
            [sys.executable, program, HOUSE / "scripts", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    return start


def test_no_sentence_and_no_log_repeats_what_is_secret(start, tmp_path):
    """Of a plugin's options every text is, also where it is a part of an address."""
    options = {"key": "sk-1/2+3456", "deep": [{"pin": 12345678, "pem": "line one\nline two"}]}
    secrets = {"QUERN_OPTIONS_1A": json.dumps(options), "HF_TOKEN": "hf_secret"}
    said = "sk-1/2+3456 sk-1%2F2%2B3456 12345678 line two hf_secret x\x1by"
    process = start(
        f"raise ValueError({said!r})", "--log", tmp_path / "log", env=os.environ | secrets
    )
    _, errors = process.communicate(timeout=30)
    for text in (errors, (tmp_path / "log").read_text()):
        assert "*** *** *** *** ***" in text and "\x1b" not in text
        assert not re.search("sk-1|3456|line two|hf_sec", text)


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
        ("os.kill(os.getpid(), 7)", 1, ["SIGBUS", "a disk is full", "grind.py"]),
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_ends_with_the_snakemake_that_started_it(start, tmp_path, number):
    """Between them stands a shell, which lives on."""
    snakemake = subprocess.Popen(["sleep", "60"])
    environment = os.environ | {"QUERN_SNAKEMAKE": str(snakemake.pid)}
    body = "print(os.getpid(), flush=True); time.sleep(60)"
    process = start(body, env=environment)
    child = int(process.stdout.readline())
    snakemake.send_signal(number)
    snakemake.wait()
    assert process.wait(timeout=10) == 1
    assert not alive(child)
    assert "stopped by SIGTERM" in process.stderr.read()


def test_a_snakemake_that_never_was_ends_nothing(start):
    process = start("print('done')", env=os.environ | {"QUERN_SNAKEMAKE": "999999999"})
    assert process.wait(timeout=10) == 0


def test_a_secret_is_shown_nowhere(start, tmp_path):
    body = "raise ValueError(f'no {os.environ[\"HF_TOKEN\"]} here')"
    environment = os.environ | {"HF_TOKEN": "hf_abcdef123"}
    process = start(body, "--log", tmp_path / "log", env=environment)
    process.wait(timeout=10)
    shown = process.stderr.read() + process.stdout.read() + (tmp_path / "log").read_text()
    assert "ValueError" in shown and "no *** here" in shown
    assert "hf_abcdef123" not in shown


def test_a_warning_stands_on_the_screen_and_in_the_log(start, tmp_path):
    """But not what llama.cpp says at each load."""
    body = (
        "import logging; [logging.getLogger(n).warning('of %s', n) "
        "for n in ('quern.corpus', 'quern.llama', 'quern.llama.cpp')]"
    )
    _, shown = start(body, "--log", tmp_path / "log").communicate(timeout=30)
    told = re.findall(r"WARNING (.*)", (tmp_path / "log").read_text())
    assert told == ["of quern.corpus", "of quern.llama", "of quern.llama.cpp"]
    assert re.findall(r"WARNING (.*)", shown) == told[:2]


def test_a_full_disk_is_one_sentence(start, tmp_path):
    """No traceback of the logging module, though the log cannot be written either."""
    body = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
        "from quern import files; files.write_json(Path('x.json'), {'a': 'b' * 5000})"
    )
    process = start(body, "--log", tmp_path / "log", cwd=tmp_path)
    assert process.wait(timeout=10) == 1
    lines = process.stderr.read().splitlines()
    assert lines == [
        "quern grind: File too large x.json; make room and run again, what was computed is kept."
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grind.py", "log"]


def test_too_few_addresses_are_one_sentence():
    """BLAS waits for memory for ever where there is too little."""
    line = f"'{sys.executable}' '{HOUSE}/scripts/model.py' --model x --output y"
    process = subprocess.run(
        f"ulimit -v 600000; exec {line}",
        shell=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert process.returncode == 1
    assert "its address space is limited to 585 MiB (ulimit -v)" in process.stderr


@pytest.mark.parametrize(
    ("body", "code"), [("abort()", 0), ("kill(os.getpid(), 9)", 1), ("kill(os.getpid(), 7)", 1)]
)
def test_a_crash_may_be_a_result_and_a_kill_is_none(tmp_path, body, code):
    program = PROGRAM.format(body=f"os.{body}").replace(
        "p.parse_args())", "p.parse_args(), lambda a, s: bool(Path('why').write_text(s)))"
    )
    (tmp_path / "grind.py").write_text(program)
    line = [sys.executable, "grind.py", HOUSE / "scripts"]
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == code
    assert (tmp_path / "why").exists() == (code == 0)
    assert "quern grind: " in result.stderr
