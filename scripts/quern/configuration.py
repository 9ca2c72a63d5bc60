"""Check a configuration against its schema, and say which line of which file is wrong."""

import copy
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


_Validator = _with_defaults(jsonschema.Draft202012Validator)


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
        unknown = next(k for k in error.instance if k not in known)
        keys.append(unknown)
        message = f"unknown key {unknown!r}; known are {', '.join(known)}"
    elif error.validator == "not":
        message = f"the name {error.instance!r} is reserved"
    where = _locate(keys, sources)
    name = ".".join(map(str, keys)) or "the configuration"
    raise QuernError(f"{where}{name}: {message}.")


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
