"""What others may read of a configuration: no secrets, and of this machine's files the names alone.

The schema says which is which: `writeOnly` marks secrets, `format: path` marks files.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema

_ON_THE_HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_CACHED = re.compile(r"models--(.+?)--(.+)")
_ON_A_MACHINE = re.compile(r"~?/|\.\.?[/\\]|[A-Za-z]:[/\\]|\\\\|file:")
_PATTERN = set("*?[{")


def configuration(config: Mapping, schema: Mapping) -> dict:
    """A configuration as others may read and repeat it.

    Files that have one name in several folders are told apart by folders `2`, `3`, ...

    Args:
        config: it agrees with the schema.
    """
    shown, names = copy.deepcopy(dict(config)), {}
    marks = _marked(config, schema)
    for *outer, last in filter(marks.get, _places(config)):
        place = shown
        for key in outer:
            place = place[key]
        if marks[(*outer, last)] == "secret":
            del place[last]
        elif not _is_of_the_hub(place, last):
            place[last] = _distinct(place[last], names)
    return shown


def file_name(path: str) -> str:
    """A file's name without its folders; an address without what only its owner should know.

    Of folders those stay that are patterns, as in `{lang}/*.txt`.
    """
    if "://" in path:
        address = urlsplit(path)
        bare = address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment="")
        return file_name(address.path) if address.scheme == "file" else bare.geturl()
    *folders, last = re.split(r"[/\\]+", path.rstrip("/\\"))
    return "/".join([*(folder for folder in folders if _PATTERN & set(folder)), last])


def bare(text: str) -> str:
    """A text as it is, or the name alone where it is a path on somebody's machine."""
    return file_name(text) if _ON_A_MACHINE.match(text) else text


def hub_repository(path: Path) -> str:
    """OWNER/NAME of a file in the Hub's cache on this machine; empty of any other."""
    found = (_CACHED.fullmatch(part) for part in path.absolute().parts)
    return next((f"{own[1]}/{own[2]}" for own in found if own), "")


def _places(tree: Mapping | list, keys: tuple = ()) -> Iterator[tuple]:
    """The keys of all that stands in a tree of mappings and lists, in order."""
    for key, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
        yield (*keys, key)
        if isinstance(value, Mapping | list):
            yield from _places(value, (*keys, key))


def _marked(config: Mapping, schema: Mapping) -> dict[tuple, str]:
    """By the keys of each secret and each path, which of both it is."""
    # jsonschema knows which part of a schema a value meets; what it takes for errors are the marks.
    marks = {
        "writeOnly": _mark(lambda is_secret, _: is_secret),
        "format": _mark(lambda kind, value: kind == "path" and isinstance(value, str)),
    }
    validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, marks)
    found = [own for e in validator(schema).iter_errors(config) for own in (e, *e.context)]
    names = {"writeOnly": "secret", "format": "path"}
    return {tuple(e.absolute_path): names[e.validator] for e in found if e.validator in marks}


def _mark(is_meant):
    def mark(_, said, value, __) -> Iterator[jsonschema.ValidationError]:
        if is_meant(said, value):
            yield jsonschema.ValidationError("")

    return mark


def _is_of_the_hub(source: Mapping | list, key) -> bool:
    """Whether this is a data set by its name on the Hub, or names files in one."""
    if not isinstance(source, Mapping) or source.get("kind") != "dataset":
        return False
    name = source.get("path", "")
    if not _ON_THE_HUB.fullmatch(name) or Path(name).exists():
        return False
    return "://" not in source[key] and not {"", "~", ".."} & set(re.split(r"[/\\]", source[key]))


def _distinct(path: str, names: dict[str, list[str]]) -> str:
    """A file's name, in a numbered folder where others had it before; `names` keeps them."""
    name = file_name(path)
    before = names.setdefault(name, [])
    if path not in before:
        before.append(path)
    place = before.index(path)
    return f"{place + 1}/{name}" if place else name
