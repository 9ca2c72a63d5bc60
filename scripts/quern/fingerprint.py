"""What a result depends on besides its input files: the code that made it."""

import ast
import functools
import hashlib
import importlib.metadata
from pathlib import Path


@functools.cache
def code(script: Path, root: Path | None = None) -> str:
    """A hash of the code a script runs: its own and that of every local module it imports.

    It follows the import statements, so nobody has to list the modules. Comments, formatting,
    docstrings and the version number do not count. llama-cpp-python counts by its version.

    Args:
        root: where local modules are imported from; the script's folder where it is None.
    """
    script = Path(script)
    root = root or script.parent
    seen: dict[Path, str] = {}
    waiting, llama = [script], False
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen[path], statements = _parsed(path.read_bytes())
        for name in _imported(statements, path.parent.relative_to(root).parts):
            llama |= name.split(".")[0] == "llama_cpp"
            waiting += _files_of(name, root)
    digest = hashlib.sha256()
    for path in sorted(seen):
        digest.update(f"{path.relative_to(root)}\n{seen[path]}\n".encode())
    if llama:
        digest.update(importlib.metadata.version("llama-cpp-python").encode())
    return digest.hexdigest()[:16]


@functools.cache
def _parsed(source: bytes) -> tuple[str, list[tuple[int, str, list[str]]]]:
    """What counts of a module, and its import statements: level, module, names."""
    tree = ast.parse(source)
    statements = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            statements += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            statements.append((node.level, node.module or "", [a.name for a in node.names]))
    return ast.dump(_bare(tree)), statements


def _imported(statements: list[tuple[int, str, list[str]]], package: tuple[str, ...]):
    """Dotted names of all that a module of a package imports, relative imports resolved."""
    for level, module, names in statements:
        above = package[: len(package) + 1 - level] if level else ()
        base = ".".join([*above, *filter(None, [module])])
        yield base
        yield from (f"{base}.{name}" for name in names)


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
