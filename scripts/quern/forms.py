"""JSON whose content is possible: a stage that reads it knows its form, as a JSON Schema."""

import math
from pathlib import Path

import jsonschema

from . import QuernError, files

TEXT = {"type": "string"}
SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
NUMBER = {"type": "number"}  # and finite
POSITIVE = {"type": "number", "exclusiveMinimum": 0}
NOT_NEGATIVE = {"type": "number", "minimum": 0}
COUNT = {"type": "integer", "minimum": 1}
COUNT_OR_NONE = {"type": "integer", "minimum": 0}
REMEDY = "delete it and run again"
_SHOWN = 200  # characters of what is wrong, at most


def record(**forms: dict) -> dict:
    """An object that has these keys, and perhaps others."""
    return {"type": "object", "required": list(forms), "properties": forms}


def named(form: dict) -> dict:
    """An object whose keys are names."""
    return {"type": "object", "minProperties": 1, "additionalProperties": form}


def some(form: dict) -> dict:
    """A list that is not empty."""
    return {"type": "array", "minItems": 1, "items": form}


def is_finite_number(_, value) -> bool:
    """Whether a value is a number to jsonschema: neither true nor false, infinite nor NaN."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (isinstance(value, int) or math.isfinite(value))


_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("number", is_finite_number),
)


def read(path: Path, form: dict) -> dict:
    """Read a JSON file that `files.write_json` wrote, and whose content has this form.

    Raises:
        QuernError: as `files.read_json`; or it lacks a key or holds what cannot be.
    """
    found = files.read_json(path)
    require(path, found, form)
    return found


def require(path: Path, content: dict, form: dict, remedy: str = REMEDY) -> None:
    """Refuse content of a file that has not this form.

    Raises:
        QuernError: the sentence names the key.
    """
    if error := jsonschema.exceptions.best_match(_Validator(form).iter_errors(content)):
        keys = "".join(f"{key}: " for key in error.absolute_path)
        raise impossible(path, f"{keys}{error.message[:_SHOWN]}", remedy)


def impossible(path: Path, said: str, remedy: str = REMEDY) -> QuernError:
    """An error that says what cannot be in a file."""
    return QuernError(f"{path} holds what cannot be ({said}); {remedy}.")
