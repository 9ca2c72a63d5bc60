"""Rules files import what they use, and say which other rules files they need."""

import ast
import builtins
import re
import symtable
from types import SimpleNamespace

import pytest
from snakemake.parser import parse
from snakemake.sourcecache import SourceCache, infer_source_file

from conftest import HOUSE

# What Snakemake itself puts into every rules file.
SNAKEMAKES = {
    *("workflow", "rules", "checkpoints", "config", "output", "shell"),
    *("ancient", "directory", "expand", "local", "report", "subpath", "temp", "unpack"),
}
INCLUDED = re.findall(r'^include: "rules/(\w+)\.smk"', (HOUSE / "Snakefile").read_text(), re.M)


def used_globally(table):
    """Names that a piece of code, or a function in it, takes from the file that it stands in."""
    is_file = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (is_file or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from used_globally(inner)


class Augmented(ast.NodeTransformer):
    """Makes of `x += y` an expression, since it uses what is there and defines nothing."""

    def visit_AugAssign(self, node):
        if not isinstance(node.target, ast.Name):
            return node
        value = ast.Name(node.target.id, ast.Load())
        return ast.Expr(ast.BinOp(value, node.op, node.value))


class RulesFile:
    """A rules file by its names: those that it defines, imports, uses, and the files it needs."""

    def __init__(self, name, cache):
        path = HOUSE / f"rules/{name}.smk"
        workflow = SimpleNamespace(sourcecache=cache)
        code, _ = parse(infer_source_file(str(path)), workflow, linemap={})
        tree = ast.parse(code)
        last = ast.get_docstring(tree).splitlines()[-1]
        self.needs = re.fullmatch(r"Needs: (.+)\.", last)[1].replace("nothing", "").split(", ")
        self.needs = [need for need in self.needs if need]
        table = symtable.symtable(ast.unparse(Augmented().visit(tree)), name, "exec")
        symbols = table.get_symbols()
        self.imports = {symbol.get_name() for symbol in symbols if symbol.is_imported()}
        self.defines = {symbol.get_name() for symbol in symbols if symbol.is_assigned()}
        self.uses = set(used_globally(table)) - SNAKEMAKES - vars(builtins).keys()
        # Rules are named as well, by `use rule`, `rules` and `checkpoints`.
        text = path.read_text()
        self.defines |= set(re.findall(r"^((?:rule|checkpoint) \w+):", text, re.M))
        self.uses |= {f"rule {rule}" for rule in re.findall(r"^use rule (\w+)", text, re.M)}
        self.uses |= {f"rule {rule}" for rule in re.findall(r"\brules\.(\w+)", text)}
        self.uses |= {f"checkpoint {rule}" for rule in re.findall(r"\bcheckpoints\.(\w+)", text)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The rules files by name, in the order in which they are read."""
    cache = SourceCache(tmp_path_factory.mktemp("cache"))
    return {name: RulesFile(name, cache) for name in INCLUDED}


def test_every_rules_file_is_included():
    assert sorted(INCLUDED) == sorted(path.stem for path in (HOUSE / "rules").glob("*.smk"))


@pytest.mark.parametrize("name", INCLUDED)
def test_a_rules_file_needs_what_it_says(files, name):
    """Nothing else, and only files that are read before it."""
    file = files[name]
    earlier = INCLUDED[: INCLUDED.index(name)]
    assert file.needs == [other for other in earlier if other in file.needs]
    foreign = file.uses - file.defines - file.imports
    of_needs = {need: foreign & files[need].defines for need in file.needs}
    assert not foreign.difference(*of_needs.values()), "defined in no file that it needs"
    assert not [need for need, names in of_needs.items() if not names], "needed and not used"


@pytest.mark.parametrize("name", INCLUDED)
def test_a_rules_file_imports_what_it_uses(files, name):
    assert files[name].imports <= files[name].uses
