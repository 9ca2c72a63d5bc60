"""Check a configuration against its schema, and say which line of which file is wrong."""

import copy
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jsonschema
import yaml

from . import QuernError
from .forms import is_finite_number
from .sizes import Size


def _with_defaults(validator_class):
    """A validator that also fills in the schema's defaults (python-jsonschema's own recipe)."""
    validate_properties = validator_class.VALIDATORS["properties"]

    def fill(validator, properties, instance, schema):
        if validator.is_type(instance, "object"):
            for key, subschema in properties.items():
                if "$ref" in subschema:
                    subschema = validator._resolver.lookup(subschema["$ref"]).contents | subschema
                if "default" in subschema:
                    instance.setdefault(key, copy.deepcopy(subschema["default"]))
        yield from validate_properties(validator, properties, instance, schema)

    return jsonschema.validators.extend(validator_class, {"properties": fill})


# What the schema calls a format, which its reader refuses by a sentence.
_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("size", raises=QuernError)
def _is_size(value) -> bool:
    return not isinstance(value, str | int) or bool(Size.parse(value))


@_FORMATS.checks("bytes", raises=QuernError)
def _is_bytes(value) -> bool:
    return not isinstance(value, str | int) or Size.parse_bytes(value) > 0


_Validator = jsonschema.validators.extend(
    _with_defaults(jsonschema.Draft202012Validator),
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("number", is_finite_number),
)


def check(
    config: dict, schema: dict, sources: Sequence[Path], overrides: Mapping | None = None
) -> None:
    """Check `config` (the merged `sources`, last wins) and fill in the schema's defaults.

    Args:
        overrides: what was given on the command line. Values within arrive as texts there; those
            that can only mean a number, true, false or null are replaced in `config`.

    Raises:
        QuernError: it names the key, what is wrong, and the file and line where it stands.
    """
    for path in sources:
        _require_one_meaning(path)
    for keys, value in _numbers(config):
        if abs(value) >= _LARGEST:
            said = f"it has more than {_MOST_DIGITS} digits, which nothing here needs; write fewer"
            raise wrong(keys, said, sources, overrides)
    validator = _Validator(schema, format_checker=_FORMATS)
    if overrides:
        _convert(config, validator, overrides)
    error = jsonschema.exceptions.best_match(validator.iter_errors(config))
    if error is None:
        return
    keys, message = list(error.absolute_path), error.message
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        stranger = next(k for k in error.instance if k not in known)
        keys.append(stranger)
        message = f"unknown key {stranger!r}; known are {', '.join(known)}"
    elif error.validator == "not":
        message = f"the name {error.instance!r} is reserved"
    elif error.validator == "enum":
        message = unknown(error.instance, error.validator_value)
    elif error.validator == "anyOf" and {e.validator for e in error.context} == {"enum"}:
        message = unknown(error.instance, [v for e in error.context for v in e.validator_value])
    elif error.validator == "pattern" and "description" in error.schema:
        message = f"{error.instance!r} is no such name. {error.schema['description'].rstrip('.')}"
    elif error.validator == "format":
        message = str(error.cause).rstrip(".")
    elif error.schema.get("writeOnly"):
        message = f"it may be secret and is not repeated here; it must be {error.validator_value}"
    elif error.validator == "type":
        message += _how_to_write(error.instance, error.validator_value)
    raise wrong(keys, message, sources, overrides)


def _numbers(tree, keys: tuple = ()):
    """The whole numbers in a tree of mappings and lists, each with its keys."""
    if isinstance(tree, int):
        yield keys, tree
    elif isinstance(tree, Mapping | list):
        for key, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from _numbers(value, (*keys, key))


def _how_to_write(value, types: str | list[str]) -> str:
    """How to write in YAML what was meant, where that can be told."""
    types = [types] if isinstance(types, str) else types
    if isinstance(value, str) and {"number", "integer"} & set(types):
        number = _number(value)
        return "" if number is None else f"; it is text in YAML, write {number!r}"
    if not isinstance(value, str | list | dict | None) and "string" in types:
        return f"; write it in quotes, since YAML reads {type(value).__name__} here"
    return ""


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _convert(config: dict, validator, overrides: Mapping) -> None:
    """Replace texts from the command line that must be something else, and can only be that."""
    for error in [e for e in _all_errors(validator, config) if e.validator == "type"]:
        *parents, last = keys = list(error.absolute_path) or [None]
        if not isinstance(error.instance, str) or not _has(overrides, keys):
            continue
        meant = yaml.safe_load(error.instance)
        meant = _number(meant) if isinstance(meant, str) else meant
        if meant is not None or error.instance in ("null", "~"):
            place = config
            for key in parents:
                place = place[key]
            place[last] = meant


def _all_errors(validator, config):
    for error in validator.iter_errors(config):
        yield error
        yield from error.context


def _has(tree, keys: Sequence) -> bool:
    """Whether a tree of mappings has these keys, or a part of them that ends in a list."""
    for key in keys:
        if isinstance(tree, Mapping) and key in tree:
            tree = tree[key]
        else:
            return isinstance(tree, list)
    return True


_MOST_DIGITS = 15
_LARGEST = 10**_MOST_DIGITS
_OCTAL = re.compile(r"[-+]?0[0-9_]+$")
_BASE_60 = re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+$")


def _require_one_meaning(path: Path) -> None:
    """Refuse YAML that says something else than it seems to.

    Raises:
        QuernError: a key occurs twice, or a number is in base 8 or 60.
    """
    nodes, seen = [_composed(path)], set()
    while nodes:
        node = nodes.pop()
        if node is None or id(node) in seen:  # an alias is the same node
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.value in lines and key.tag != "tag:yaml.org,2002:merge":
                    raise QuernError(
                        f"{path}: the key {key.value} stands in line {lines[key.value]} and again "
                        f"in line {line}, and only one would count; put them together."
                    )
                lines[str(key.value)] = line
                nodes += [key, value]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif _is_odd_number(node):
            raise QuernError(
                f"{path}, line {node.start_mark.line + 1}: {node.value} is "
                f"{yaml.safe_load(node.value)} in YAML; write it without leading zeros or colons, "
                "or in quotes."
            )


def _is_odd_number(node: yaml.ScalarNode) -> bool:
    """Whether a number is written in base 8 or 60."""
    is_plain = node.tag == "tag:yaml.org,2002:int" and node.style is None
    return is_plain and bool(_OCTAL.match(node.value) or _BASE_60.match(node.value))


class Demands:
    """What a configuration must fulfil and no schema can say.

    Each of its functions raises QuernError where it is not so, with the key, the file and the line.

    Args:
        sources: the files of the configuration, the last of which wins.
        overrides: values that were given by hand.
    """

    def __init__(self, sources: Sequence[Path], overrides: Mapping | None = None):
        self._places = sources, overrides

    def __call__(self, condition, keys: Sequence, message: str) -> None:
        """Refuse what stands at these keys for a reason."""
        if not condition:
            raise wrong(keys, message, *self._places)

    def known(self, keys: Sequence, name: str, known: Sequence) -> None:
        """Refuse a name that is not among those that are known."""
        self(name in known, keys, unknown(name, known))

    def distinct(self, keys: Sequence, others: Sequence[str]) -> None:
        """Refuse a name that can be taken for one of these, or one of these for it."""
        said = f"this name and {', '.join(others)} can be confused in names of files; give one of "
        self(not others, keys, f"{said}them a dash in place of the dot")

    def name(self, keys: Sequence, path: str | Path) -> None:
        """Refuse a path that Snakemake or a command would take for something else."""
        said = "has braces, which stand for wildcards in Snakemake; rename it, or link to it"
        self(not set("{}") & set(str(path)), keys, f"{path} {said}")
        self(not str(path).startswith("-"), keys, f"{path} looks like an option; write ./{path}")

    def file(self, keys: Sequence, path: str | Path) -> None:
        """Refuse a file that is not there, or which cannot be named in a rule."""
        self.name(keys, path)
        self(Path(path).is_file(), keys, f"{path} does not exist, or is no file")

    def reads(self, keys: Sequence, function: Callable, *arguments):
        """What a function makes of these arguments; its QuernError is about these keys."""
        try:
            return function(*arguments)
        except QuernError as error:
            raise wrong(keys, str(error).rstrip("."), *self._places) from None


def wrong(
    keys: Sequence, message: str, sources: Sequence[Path], overrides: Mapping | None = None
) -> QuernError:
    """An error that names a key of the configuration, and the file and line where it stands."""
    name = ".".join(map(str, keys)) or "the configuration"
    end = "" if message.endswith("?") else "."
    by_hand = keys and _has(overrides or {}, keys)
    place = "--config: " if by_hand else _locate(list(keys), sources)
    return QuernError(f"{place}{name}: {message}{end}")


def unknown(name, known: Sequence) -> str:
    """That a name is not among those that are known, with those that are meant most likely."""
    spelt = {str(other).casefold(): str(other) for other in known}
    sought = str(name).casefold()
    close = [sought] if sought in spelt else difflib.get_close_matches(sought, spelt, 3, 0.7)
    if close:
        return f"there is no {name!r}; did you mean {' or '.join(spelt[c] for c in close)}?"
    return f"there is no {name!r}; there are {', '.join(map(str, known))}"


def _locate(keys: list, sources: Sequence[Path]) -> str:
    """`file, line N: ` of a key in the last source that has it; empty where none has."""
    for path in reversed(sources):
        line = _line(_composed(path), keys)
        if line:
            return f"{path}, line {line}: "
    return ""


def _composed(path: Path):
    """A file as YAML nodes, which know their lines."""
    try:
        return yaml.compose(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise QuernError(f"{path} is nested too deeply; close its brackets.") from None


def _line(node, keys: list) -> int | None:
    line = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            entry = next(((k, v) for k, v in node.value if k.value == str(key)), None)
            if entry is None:
                return None
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        else:
            return None
    return line
