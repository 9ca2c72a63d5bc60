"""Check a configuration against its schema, and say which line of which file is wrong."""

import copy
import difflib
import math
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import yaml

from . import QuernError


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


def _is_finite_number(_, instance) -> bool:
    is_number = isinstance(instance, int | float) and not isinstance(instance, bool)
    return is_number and math.isfinite(instance)


_Validator = jsonschema.validators.extend(
    _with_defaults(jsonschema.Draft202012Validator),
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("number", _is_finite_number),
)


def check(config: dict, schema: dict, sources: Sequence[Path]) -> None:
    """Check `config` (the merged `sources`, last wins) and fill in the schema's defaults.

    Raises:
        QuernError: it names the key, what is wrong, and the file and line where it stands.
    """
    error = jsonschema.exceptions.best_match(_Validator(schema).iter_errors(config))
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
    elif error.validator == "pattern" and "description" in error.schema:
        message = f"{error.instance!r} is no such name. {error.schema['description'].rstrip('.')}"
    raise wrong(keys, message, sources)


def wrong(keys: Sequence, message: str, sources: Sequence[Path]) -> QuernError:
    """An error that names a key of the configuration, and the file and line where it stands."""
    name = ".".join(map(str, keys)) or "the configuration"
    end = "" if message.endswith("?") else "."
    return QuernError(f"{_locate(list(keys), sources)}{name}: {message}{end}")


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
        node = yaml.compose(Path(path).read_text())
        line = _line(node, keys)
        if line:
            return f"{path}, line {line}: "
    return ""


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
