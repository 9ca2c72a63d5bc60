"""The rooms of the library: who may import whom."""

import ast
from collections import Counter
from itertools import chain

import pytest

from conftest import HOUSE

LIBRARY = HOUSE / "scripts/quern"
ROOMS = sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py"))
MAY_IMPORT = {
    "": set(),
    "cost": set(),
    "corpus": set(),
    "llama": set(),
    "models": set(),
    "rounding": set(),
    "tokens": {"corpus", "llama"},
    "measure": {"tokens", "llama"},
    "imatrix": {"tokens", "llama"},
    "moments": {"tokens", "llama"},
    "quantize": {"imatrix", "llama", "rounding", "moments"},
    "mix": {"quantize", "imatrix", "moments", "llama", "rounding", "measure", "tokens"},
    "memory": {"llama"},
    "speed": {"llama"},
    "tuning": {"llama", "speed"},
    "growth": {"measure"},
    "report": {"measure", "memory", "speed"},
    "studies": {"quantize", "imatrix", "measure", "tokens", "report"},
    "release": {"measure", "quantize", "memory", "speed"},
    "checks": {"corpus", "measure", "imatrix", "models", "release"},
}
MODULES = sorted(path.relative_to(LIBRARY) for path in LIBRARY.rglob("*.py"))


def room_of(module):
    return module.parts[0] if len(module.parts) > 1 else ""


def imports_of(module):
    """Dotted names of what a module imports; its own library's from its root on."""
    package = ("quern", *module.parts[:-1])
    for node in ast.walk(ast.parse((LIBRARY / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def local_imports(module):
    """The modules of the library that a module imports."""
    found = set()
    for name in imports_of(module):
        parts = name.split(".")
        if parts[0] != "quern":
            continue
        while len(parts) > 1:
            path = LIBRARY.joinpath(*parts[1:])
            if path.with_suffix(".py").is_file():
                found.add(path.with_suffix(".py").relative_to(LIBRARY))
                break
            if (path / "__init__.py").is_file():
                found.add((path / "__init__.py").relative_to(LIBRARY))
                break
            parts.pop()
    return found - {module}


def test_every_room_is_known():
    assert set(ROOMS) == MAY_IMPORT.keys() - {""}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_import_runs_back_up(module):
    room = room_of(module)
    rooms = {room_of(other) for other in local_imports(module)}
    assert rooms <= {"", room} | MAY_IMPORT[room]


def test_there_is_no_circle():
    done, path = set(), []

    def visit(module):
        assert module not in path, f"circle: {' → '.join(map(str, [*path, module]))}"
        if module in done:
            return
        path.append(module)
        for other in sorted(local_imports(module)):
            # A room's docstring imports nothing; a face imports its room, and not the reverse.
            if other.name != "__init__.py" or other.parent != module.parent:
                visit(other)
        done.add(path.pop())

    for module in MODULES:
        visit(module)


def test_a_room_s_init_holds_a_docstring_alone():
    faces = {"", "llama", "rounding"}
    for module in MODULES:
        if module.name == "__init__.py" and module.parent.as_posix() not in faces | {"."}:
            body = ast.parse((LIBRARY / module).read_text()).body
            assert len(body) == 1 and isinstance(body[0], ast.Expr), module


def test_no_two_classes_have_one_name():
    found = Counter(
        node.name
        for module in MODULES
        for node in ast.parse((LIBRARY / module).read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    assert not {name for name, count in found.items() if count > 1}


def test_only_llama_opens_llama_cpp_and_nothing_knows_of_snakemake():
    for module in MODULES:
        names = {name.split(".")[0] for name in imports_of(module)}
        assert "snakemake" not in names, module
        assert room_of(module) == "llama" or not names & {"llama_cpp", "ctypes"}, module


def test_each_rule_s_script_is_a_command_of_the_house():
    scripts = {path.name for path in (HOUSE / "scripts").glob("*.py")}
    used = chain.from_iterable(
        path.read_text().split('script_path("')[1:] for path in (HOUSE / "rules").glob("*.smk")
    )
    named = {part.split('"')[0] for part in used}
    assert named <= scripts
    by_hand = {"import_base.py", "check.py", "tensor_types.py", "records.py"}
    assert scripts - named == by_hand
