"""What a result depends on besides its input files: the code that made it, a file's content."""

import ast
import functools
import hashlib
import importlib.metadata
import json
from pathlib import Path

from . import files


@functools.cache
def code(script: Path) -> str:
    """A hash of the code a script runs: its own and that of every local module it imports.

    Found by following the import statements, so nobody has to list them. Comments, formatting,
    docstrings and the version number do not count. llama-cpp-python counts by its version.
    """
    script = Path(script)
    seen: dict[Path, str] = {}
    waiting, llama = [script], False
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        tree = ast.parse(path.read_text())
        seen[path] = ast.dump(_bare(tree))
        for name in _imports(tree, path, script.parent):
            llama |= name.split(".")[0] == "llama_cpp"
            waiting += _files_of(name, script.parent)
    digest = hashlib.sha256()
    for path in sorted(seen):
        digest.update(f"{path.relative_to(script.parent)}\n{seen[path]}\n".encode())
    if llama:
        digest.update(importlib.metadata.version("llama-cpp-python").encode())
    return digest.hexdigest()[:16]


def _imports(tree: ast.AST, path: Path, root: Path):
    """Dotted names of everything a module imports, relative imports resolved."""
    package = path.parent.relative_to(root).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _files_of(name: str, root: Path) -> list[Path]:
    """The local files that importing a dotted name runs: the module and its packages."""
    parts = name.split(".")
    found = []
    for i in range(1, len(parts) + 1):
        path = root.joinpath(*parts[:i])
        found += [p for p in (path / "__init__.py", path.with_suffix(".py")) if p.is_file()]
    return found


def _bare(tree: ast.Module) -> ast.Module:
    """The tree without docstrings and without `__version__`."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [n for n in body if not _is_docstring(n) and not _is_version(n)]
    return tree


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_version(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"


class ContentHashes:
    """SHA-256 of users' files, kept in a JSON file and taken anew when size or time differ."""

    def __init__(self, cache: Path):
        self._cache = cache
        try:
            self._known = json.loads(cache.read_text())
        except (OSError, ValueError):  # missing or damaged: it is only a cache
            self._known = {}

    def of(self, path: Path) -> str:
        """Hash of a file's content, or `missing`."""
        path = Path(path)
        if not path.is_file():
            return "missing"
        stat = path.stat()
        entry = self._known.get(str(path))
        if entry and entry["bytes"] == stat.st_size and entry["mtime_ns"] == stat.st_mtime_ns:
            return entry["sha256"]
        entry = {
            "bytes": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "sha256": files.sha256(path),
        }
        self._known[str(path)] = entry
        files.write_json(self._cache, self._known)
        return entry["sha256"]
