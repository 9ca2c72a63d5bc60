"""What makes results stale: code that a script reaches by its imports."""

import pytest

from quern import fingerprint


@pytest.fixture
def house(tmp_path):
    library = tmp_path / "lib"
    library.mkdir()
    (tmp_path / "run.py").write_text('"""Doc."""\nfrom lib import a\nimport numpy\n')
    (library / "__init__.py").write_text('__version__ = "1"\n')
    (library / "a.py").write_text("from .b import f\n\ndef g():\n    return f()\n")
    (library / "b.py").write_text("def f():\n    return 1\n")
    (library / "other.py").write_text("x = 1\n")
    return tmp_path


def code(house):
    fingerprint.code.cache_clear()
    return fingerprint.code(house / "run.py")


@pytest.mark.parametrize(
    ("file", "content", "changes"),
    [
        ("run.py", '"""Other words."""\n# a comment\nfrom lib import a\nimport numpy\n', False),
        ("run.py", "from lib import a\nimport numpy\nprint(a)\n", True),
        ("lib/b.py", "def f():\n    return 2\n", True),
        ("lib/b.py", 'def f():\n    """Says so."""\n    return 1  # one\n', False),
        ("lib/other.py", "x = 2\n", False),
        ("lib/__init__.py", '__version__ = "2"\n', False),
        ("lib/__init__.py", "y = 1\n", True),
    ],
)
def test_code(house, file, content, changes):
    before = code(house)
    (house / file).write_text(content)
    assert (code(house) != before) is changes


def test_the_folder_does_not_count(house, tmp_path_factory):
    import shutil

    moved = shutil.copytree(house, tmp_path_factory.mktemp("other") / "place")
    assert code(house) == code(moved)
