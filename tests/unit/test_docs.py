"""Documents name what there is: rules, files, options, keys, rooms, origins of figures."""

import ast
import copy
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import jsonschema
import pytest
import yaml
from unit.test_rooms import LIBRARY, MAY_IMPORT

from conftest import HOUSE, command
from quern import configuration, files
from quern.checks import whole
from quern.quantize.recipes import recipes_of

FOLDERS = "benchmarks|config|docs|envs|plugins|profiles|resources|rules|scripts|tests"
PAGES = HOUSE / "docs/measurements"
SCHEMA = yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text())


def tracked(*endings):
    """The project's own files of these endings."""
    skipped = {".venv", "results", ".snakemake", ".git"}
    for path in sorted(HOUSE.rglob("*")):
        if path.suffix in endings and not skipped & set(path.relative_to(HOUSE).parts):
            yield path


# What a release contains is a template, whose links are the release's. The changelog is history.
DOCUMENTS = [
    path for path in tracked(".md") if "templates" not in path.parts and path.stem != "CHANGELOG"
]
NAMES = [path.relative_to(HOUSE).as_posix() for path in DOCUMENTS]
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
each_page = pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda p: p.stem)


def blocks_in(text):
    """Indented code blocks of a document; lines that a backslash continues are joined."""
    blocks = re.findall(r"(?<=\n\n)(?: {4,}.*\n|\n(?= {4}))+", text)
    return [re.sub(r"\\\n\s*", "", block) for block in blocks]


def code_of(text):
    """Code blocks and spans of a document, each a text."""
    return blocks_in(text) + re.findall(r"`+([^`]+)`+", re.sub(r"(?m)^ {4,}.*$", "", text))


def rows_of(text, first):
    """Cells of each row of the table whose header begins with `first`; bare of their marks."""
    table = re.search(rf"^\| {re.escape(first)} \|.*\n\|[-:| ]+\|\n((?:\|.*\n)+)", text, re.M)
    assert table, f"there is no table whose first column is {first}"
    cells = (re.split(r"(?<!\\)\|", line)[1:-1] for line in table[1].splitlines())
    return [[cell.strip() for cell in row] for row in cells]


# --- rules -----------------------------------------------------------------------------------

READER = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ResourceSettings
with SnakemakeApi() as api:
    cores = ResourceSettings(cores=64)
    workflow = api.workflow(resource_settings=cores, snakefile=Path(sys.argv[1]))._workflow
    print(json.dumps({rule.name: {
        "threads": rule.resources["_cores"].raw,
        "gpu": "gpu" in rule.resources,
        "command": rule.shellcmd or "",
        "target": not rule.wildcard_names and not rule.output,
        "makes": bool(rule.wildcard_names),
    } for rule in workflow.rules}))
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """What Snakemake knows of each rule, on a machine of 64 cores."""
    folder = tmp_path_factory.mktemp("rules")
    for name in ("config", "resources"):
        (folder / name).symlink_to(HOUSE / name)
    line = [sys.executable, "-c", READER, HOUSE / "Snakefile"]
    result = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_documented_rules_take_a_gpu_and_no_others(rules):
    takes = {name for name, rule in rules.items() if rule["gpu"]}
    assert takes == {name for name, rule in rules.items() if "--gpus" in rule["command"]}
    listed = defaultdict(set)
    for path in DOCUMENTS:
        for name in re.findall(r"\b(\w+):gpu=", path.read_text()):
            listed[path.relative_to(HOUSE).as_posix()].add(name)
    assert listed["profiles/README.md"] == takes
    for path, names in listed.items():
        assert names <= takes, path
    for path in [*tracked(".yaml"), *DOCUMENTS]:
        names = re.findall(r"^#?\s*(\w+): \{ gpu: ", path.read_text(), re.M)
        assert set(names) <= takes, path


def test_the_documented_threads_are_those_of_the_rules(rules):
    text = (HOUSE / "profiles/README.md").read_text()
    said = {
        name: int(threads) if threads.isdigit() else None
        for threads, names, *_ in rows_of(text, "threads")
        for name in re.findall(r"`(\w+)`", names)
    }
    assert said == {name: r["threads"] for name, r in rules.items() if r["threads"] != 1}


def test_the_documented_targets_are_those_that_there_are(rules):
    targets = {name for name, rule in rules.items() if rule["target"]} - {"all"}
    rows = rows_of((HOUSE / "docs/results.md").read_text(), "target")
    assert {row[0].strip("`") for row in rows} == targets


@each_document
def test_commands_name_targets_and_files_that_there_are(path, rules):
    without_value = {"-n", "-F", "--unlock"}
    # They take all words that follow, a target too.
    greedy = {"--configfile", "--set-resources", "--set-threads", "--config", "--resources"}
    for code in code_of(path.read_text()):
        for line in re.findall(r"\bsnakemake (.*)", code):
            option = ""
            for word in re.sub(r"\s#.*|'[^']*'", "", line).split():
                if re.fullmatch(r"config/\S+", word):
                    assert (HOUSE / word).is_file(), f"{word} in: {line}"
                elif re.fullmatch(r"[a-z_]+", word) and not (option and option not in greedy):
                    assert word in rules and not rules[word]["makes"], f"{word} in: {line}"
                    assert not option, f"{option} takes {word} for a value in: {line}"
                if word.startswith("-"):
                    option = "" if word in without_value else word
                elif option not in greedy:
                    option = ""


def test_profiles_group_rules_that_there_are(rules):
    groups = yaml.safe_load((HOUSE / "profiles/slurm/config.yaml").read_text())["groups"]
    assert {group.split("=")[0] for group in groups} <= rules.keys()


def test_captions_are_those_that_rules_name():
    text = "".join(path.read_text() for path in tracked(".smk"))
    stages = re.findall(r'\bshown\(\s*"[^"]+",\s*"(\w+)"', text)
    named = {f"{stage}.rst" for stage in [*stages, "document"]}
    assert named == {path.name for path in (HOUSE / "rules/captions").iterdir()}


# --- rooms -----------------------------------------------------------------------------------


def test_the_table_of_rooms_is_what_the_test_of_imports_allows():
    text = (HOUSE / "docs/architecture.md").read_text()
    none = {"root": set(), "no room": set()}
    for name, idea, may_import in rows_of(text, "room"):
        room = name.strip("`").replace("the root", "")
        allowed = none.get(may_import, set(re.findall(r"`(\w+)`", may_import)))
        assert allowed == MAY_IMPORT[room], name
        for word in re.findall(r"`([\w/]+)`", idea):
            place = LIBRARY / room / word
            assert place.is_dir() or place.with_suffix(".py").is_file(), f"{word} of {name}"
    assert {row[0].strip("`") for row in rows_of(text, "room")} - {"the root"} == (
        MAY_IMPORT.keys() - {""}
    )


def test_the_sections_of_rooms_are_rooms():
    text = (HOUSE / "docs/architecture.md").read_text()
    for heading in re.findall(r"^## (`.*`)$", text, re.M):
        assert set(re.findall(r"`(\w+)`", heading)) <= MAY_IMPORT.keys(), heading


# --- files, links, commands ------------------------------------------------------------------


def anchors_of(path):
    """The anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"(?m)^ {4}.*$", "", path.read_text())
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_document
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        linked = (path.parent / place).resolve() if place else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), target


SOURCES = [*DOCUMENTS, *tracked(".py", ".smk", ".yaml", ".sh", ".toml"), HOUSE / "Snakefile"]


def test_files_that_are_named_exist():
    """In documents, comments and docstrings; a `*` or `{` in a name stands for others."""
    pattern = re.compile(rf"(?<![\w/.\]])((?:{FOLDERS})/[\w./-]*\w(?:\.\w+)?/?)(?![\w*{{<-])")
    # Tests make files of these names in folders of their own.
    skipped = {"config/mine.yaml", "scripts/c.py", "scripts/quern/y.py"}
    skipped.add("scripts/quern/rounding/kernels/__pycache__")  # there when loops are compiled
    for path in SOURCES:
        if "tests" in path.relative_to(HOUSE).parts:
            continue
        for name in pattern.findall(path.read_text()):
            assert (HOUSE / name).exists() or name in skipped, f"{name}, named in {path}"


def options_of_benchmark(path):
    """Options that a program takes, by its source."""
    tree = ast.walk(ast.parse(path.read_text()))
    names = {c.value for c in tree if isinstance(c, ast.Constant) and isinstance(c.value, str)}
    return {name for name in names if name.startswith("--")} | {"--record"}


@each_document
def test_options_of_commands_exist(path):
    for code in code_of(path.read_text()):
        for name, line in re.findall(r"(?:scripts/|^)(\w+)\.py\b(.*)", code):
            place = HOUSE / f"scripts/{name}.py"
            if options := set(re.findall(r"(?<=\s)--[\w-]+", line)):
                known = set(re.findall(r"--[\w-]+", command(name, "--help").stdout))
                assert place.is_file() and options <= known, f"{name}.py {line}"
        for name, line in re.findall(r"benchmarks/(\w+)\.py\b(.*)", code):
            place = HOUSE / f"benchmarks/{name}.py"
            options = set(re.findall(r"(?<=\s)--[\w-]+", line))
            assert place.is_file() and options <= options_of_benchmark(place), f"{name}.py {line}"


@each_document
def test_modules_and_programs_that_are_named_exist(path):
    here = {file.name for file in tracked(".py", ".smk")}
    # llama.cpp's own program, and a user's plugin.
    others = {"convert_hf_to_gguf.py", "letters.py"}
    for span in re.findall(r"`([^`\n]+)`", path.read_text()):
        if re.fullmatch(r"[\w/]+\.(py|smk)", span):
            assert span.split("/")[-1] in here | others, span


@each_document
def test_makefile_targets_exist(path):
    known = set(re.findall(r"^([\w-]+):", (HOUSE / "Makefile").read_text(), re.M))
    for code in code_of(path.read_text()):
        assert set(re.findall(r"^\s*make ([\w-]+)", code, re.M)) <= known, code


def test_check_looks_at_the_documented_endings():
    text = (HOUSE / "docs/results.md").read_text()
    sentence = re.search(r"files that end in ([^:]*?)\. [A-Z]", text, re.S)[1]
    assert set(re.findall(r"`(\.\w+)`", sentence)) == {*whole._CHECKS, *files.SUMMED}


# --- the README ------------------------------------------------------------------------------


def test_the_readme_is_a_page_and_names_the_test_command_of_ci():
    text = (HOUSE / "README.md").read_text()
    assert len(text.splitlines()) <= 90
    last = (HOUSE / ".ci/run").read_text().splitlines()[-1]
    assert f"    {last}\n" in text
    for page in (HOUSE / "docs").glob("*.md"):
        assert f"docs/{page.name}" in text, page.name


def test_the_readme_s_figures_are_those_of_the_demo_s_page():
    path = HOUSE / "config/config.yaml"
    config = yaml.safe_load(path.read_text())
    configuration.check(config, copy.deepcopy(SCHEMA), [path])
    names = recipes_of(config)
    page = {row[0]: row for row in rows_of((PAGES / "demo.md").read_text(), "recipe")}
    assert set(page) == set(names)
    for name, bits, mean, *_ in rows_of((HOUSE / "README.md").read_text(), "recipe"):
        row = page[name.strip("`")]
        assert float(bits) == float(row[4])
        shown = [f"{float(value):.5f}" for value in (row[5], *row[6].split(" – "))]
        assert re.findall(r"[\d.]+", mean) == shown, name


@pytest.mark.parametrize("name", ["mixes", "compensated", "rounding"])
def test_types_in_tables_are_those_of_the_configuration(name):
    sweeps = yaml.safe_load((HOUSE / f"config/{name}.yaml").read_text())["quantize"]
    types = {kind for sweep in sweeps for kind in sweep.get("types", ())}
    column = {"mixes": 1, "compensated": 0, "rounding": 0}[name]
    text = (PAGES / f"{name}.md").read_text()
    if name == "rounding":
        text = text[text.index("## What it does to KLD") :]
    found = {row[column] for row in rows_of(text, {"mixes": "model"}.get(name, "type"))}
    assert found <= types and (name == "rounding" or found == types)


def test_versions_are_those_of_the_lock_file():
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", (HOUSE / "requirements.txt").read_text(), re.M))
    locked = {name.lower().replace("-", "_"): version for name, version in locked.items()}
    for path in [*(p for p in DOCUMENTS if p.parent != PAGES), *tracked(".def")]:
        for name, version in re.findall(r"([\w-]+)==([\d.]+\d)", path.read_text()):
            assert locked[name.lower().replace("-", "_")] == version, path
    major, minor = re.search(r'"py(\d)(\d+)"', (HOUSE / "pyproject.toml").read_text()).groups()
    assert f"Python {major}.{minor} or newer" in (HOUSE / "README.md").read_text()


# --- the configuration -----------------------------------------------------------------------


def keys_in(schema):
    """All keys that a part of the schema allows, at any depth."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for value in schema.values():
            yield from keys_in(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from keys_in(value)


def test_the_guide_has_a_section_for_each_of_the_schema_s_and_names_its_keys():
    guide = (HOUSE / "config/README.md").read_text()
    sections = re.split(r"^## `(\w+)`$", guide, flags=re.M)[1:]
    texts = dict(zip(sections[::2], sections[1::2], strict=True))
    assert list(texts) == list(dict.fromkeys(texts)) and set(texts) == set(SCHEMA["properties"])
    known = set(keys_in(SCHEMA))
    for section, text in texts.items():
        for key in keys_in(SCHEMA["properties"][section]):
            assert re.search(rf"\b{key}\b", text), f"{key} of {section}"
        for cell in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|.*\|.*\|", text, re.M):
            assert set(re.findall(r"`(\w+)`", cell)) <= known, cell


@each_document
def test_configurations_that_are_shown_are_valid(path):
    for block in blocks_in(path.read_text()):
        if not re.match(rf"\s*(?:{'|'.join(SCHEMA['properties'])}):(?:\s|$)", block):
            continue
        for key, value in yaml.safe_load(block).items():
            part = {"$defs": SCHEMA["$defs"]} | SCHEMA["properties"].get(key, {"not": {}})
            for error in jsonschema.Draft202012Validator(part).iter_errors(value):
                # Of an example, only what is there is judged.
                assert error.validator in ("required", "oneOf", "anyOf", "if"), error.message


@each_document
def test_keys_that_are_named_are_keys_of_the_schema(path):
    if "measurements" in path.parts:
        return
    known = set(keys_in(SCHEMA)) | {"slurm_extra", "gpu", "resources", "threads"}
    for span in re.findall(r"`([a-z_]+): [^`]+`", path.read_text()):
        assert span in known | set(SCHEMA["properties"]), span


# --- measurements ----------------------------------------------------------------------------

ORIGIN = re.compile(
    r"Commit `([0-9a-f]{7,40})`(?: with uncommitted changes)?, \d{4}-\d\d-\d\d\. "
    r"Machine: [^;]+, \d+ cores, [^;]+; llama-cpp-python [\d.]+, numpy [\d.]+\.\n"
)
BLOCK = re.compile(r"<!-- benchmark (\w+)([\w ]*) -->\n(.*?)<!-- end of ([\w ]+) -->", re.S)


def test_the_table_of_measurements_is_that_of_the_pages():
    rows = rows_of((PAGES / "README.md").read_text(), "page")
    named = [re.search(r"\]\((\w[\w-]*)\.md\)", row[0])[1] for row in rows]
    assert sorted(named) == sorted(
        page.stem for page in PAGES.glob("*.md") if page.stem != "README"
    )
    for row in rows:
        assert re.search(
            r"`[^`]*(benchmarks/\w+\.py|snakemake|make demo|scripts/)[^`]*`|by hand", row[2]
        )


@each_page
def test_a_page_says_where_its_figures_are_from(page):
    text = page.read_text()
    if page.stem == "README":
        return
    head, *sections = re.split(r"^## ", text, flags=re.M)
    assert ORIGIN.search(text), "no line says commit, day and machine"
    if not ORIGIN.search(head):
        for section in sections:
            measured = re.search(r"^\|", section, re.M) and not section.startswith("How it was")
            assert not measured or ORIGIN.search(section), section.split("\n")[0]


def blocks_of(page):
    """The marked blocks of a page: name of the program, name of the block, text."""
    for program, table, text, end in BLOCK.findall(page.read_text()):
        assert end == program + table, f"{page.stem}: {program}{table} ends as {end}"
        yield program, program + table, text


@each_page
def test_a_block_names_its_benchmark_commit_and_machine(page):
    text = page.read_text()
    assert text.count("<!-- ") == 2 * len(BLOCK.findall(text)), "a block does not end"
    for program, name, inside in blocks_of(page):
        assert (HOUSE / f"benchmarks/{program}.py").is_file(), name
        assert ORIGIN.match(inside), name


def test_each_benchmark_s_tables_have_their_block():
    wanted = {
        (call.args[1].value, call.args[2].value)
        for path in (HOUSE / "benchmarks").glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "record.show"
    }
    found = {(page.stem, name) for page in PAGES.glob("*.md") for _, name, _ in blocks_of(page)}
    assert found == wanted


def test_commits_of_measurements_exist():
    def git(*words):
        line = ["git", "-C", str(HOUSE), *words]
        return subprocess.run(line, capture_output=True, text=True)

    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("this is no whole clone")
    pages = PAGES.glob("*.md")
    named = {c for p in pages for c in re.findall(r"`([0-9a-f]{7})`", p.read_text())}
    objects = subprocess.run(
        ["git", "-C", str(HOUSE), "cat-file", "--batch-check"],
        input="".join(f"{commit}^{{commit}}\n" for commit in sorted(named)),
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert named and "missing" not in objects, objects


def test_tables_and_pictures_beside_the_pages_are_named_there():
    text = "".join(page.read_text() for page in PAGES.glob("*.md"))
    for path in PAGES.iterdir():
        if Path(path).suffix in (".csv", ".png"):
            assert path.name in text, path.name
