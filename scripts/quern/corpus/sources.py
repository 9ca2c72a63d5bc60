"""What a source of documents is: a part of a configuration, one `Source` a language.

Sources that must be fetched first (data sets, OSCAR, plugins) are described here as well, and where
their samples are kept. `fetched` reads them; `sample_store` keeps what was read, which is then a
source of kind `raw`.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path

from .. import QuernError, files
from ..command import OPTIONS

FETCHED = ("dataset", "oscar", "plugin")
MOST_SOURCES = 256  # a token's source is one byte
PLACEHOLDER = "{lang}"
OSCAR = "hf://datasets/oscar-corpus/OSCAR-2301"
_IN_FORM = re.compile(r"\{([^{}]+)\}")
_IDENTITY = (
    "kind", "path", "field", "language", "skip", "configuration", "split", "revision",
    "data_files", "plugin_class", "options", "content",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where documents of one language (or of none in particular) come from.

    Attributes:
        name: appears in reports.
        path: a file or a glob pattern; a data set's name or folder; a plugin's file.
        kind: one of `readers.READERS` or of `FETCHED`; by the file's ending where it is empty.
        field: the dotted path of the text in a record, or a form of several: `{a}\\n\\n{b}`.
        separator: cuts a text file into documents; the whole file is one where it is empty.
        part: `evaluation` or `pool` for a source that goes there whole; split where empty.
        language: what `{lang}` in a path stands for; part of the source's label.
        weight: its share of the tokens, relative to the other sources; None for as it comes.
        samples, skip: how many samples are fetched, None for all, and how many are passed over.
        configuration, split, revision, data_files, streaming: as for `datasets.load_dataset`.
        plugin_class, options: the class in a plugin's file, and what it is made with.
        content: hashes of the local files behind a fetched source.
    """

    name: str
    path: str = ""
    kind: str = ""
    field: str = "text"
    separator: str = ""
    part: str = ""
    language: str = ""
    weight: float | None = None
    samples: int | None = None
    skip: int = 0
    configuration: str | None = None
    split: str = "train"
    revision: str | None = None
    data_files: str | None = None
    streaming: bool = True
    plugin_class: str = "DataSourcePlugin"
    options: dict = dataclasses.field(default_factory=dict)
    content: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name, with the language where there is one."""
        return f"{self.name}/{self.language}" if self.language else self.name

    @property
    def is_form(self) -> bool:
        """Whether `field` puts the text of several fields together."""
        return bool(_IN_FORM.search(self.field))

    @property
    def fields(self) -> list[str]:
        """The dotted paths that `field` names."""
        return _IN_FORM.findall(self.field) or [self.field]

    def filled_in(self, texts: dict[str, str]) -> str:
        """The form with these texts of its fields."""

        def text(found: re.Match) -> str:
            return texts[found[1]]

        return _IN_FORM.sub(text, self.field)

    def fails(self, what: str) -> QuernError:
        """An error that names the source."""
        return QuernError(f"source {self.label}: {what}.")


def expand(entry: dict) -> list[Source]:
    """A source of the configuration as one `Source` a language.

    Raises:
        QuernError: a key does not go with the kind, or one is missing.
    """
    entry = dict(entry)
    languages = entry.pop("languages", None) or [""]
    try:
        source = Source(**{"plugin_class" if k == "class" else k: v for k, v in entry.items()})
    except TypeError as error:
        raise QuernError(f"source {entry.get('name', entry)}: {error}.") from None
    if source.kind == "oscar":
        source = replace(source, path=source.path or OSCAR)
        source = replace(source, field="content" if source.field == "text" else source.field)
    if not source.path:
        raise source.fails("it has no path")
    if source.kind in ("oscar", "plugin") and not languages[0]:
        raise source.fails(f"kind {source.kind} needs languages, such as [en, de]")
    if source.kind == "oscar" and source.samples is None:
        raise source.fails("kind oscar needs the number of samples; all of it is terabytes")
    local = source.kind not in (*FETCHED, "raw")
    if local and (source.samples is not None or source.skip):
        raise source.fails("samples and skip are for what is fetched, not for local files")
    texts = (source.path, source.configuration or "", source.split, source.data_files or "")
    named = source.kind in ("oscar", "plugin") or any(PLACEHOLDER in text for text in texts)
    if len(languages) > 1 and not named:
        raise source.fails(f"of several languages, but {PLACEHOLDER} says nowhere which files")
    if not languages[0] and any(PLACEHOLDER in text for text in texts):
        raise source.fails(f"{PLACEHOLDER} stands for a language, but there are no languages")
    weight = source.weight / len(languages) if source.weight else source.weight
    return [_of_language(replace(source, weight=weight), language) for language in languages]


def require_sense(sources: Sequence[Source]) -> None:
    """Refuse sources that make no corpus together.

    Raises:
        QuernError: there are too many, or some have weights and others none.
    """
    labels = {source.label for source in sources}
    if len(labels) > MOST_SOURCES:
        raise QuernError(
            f"{len(labels)} sources are more than the {MOST_SOURCES} that can be told apart; "
            "put several files under one pattern."
        )
    bare = [source for source in sources if source.weight is None]
    if bare and len(bare) < len(sources):
        raise bare[0].fails("it has no weight, but others have; give every source one, or none")


def hidden(entry: dict) -> tuple[dict, dict[str, str]]:
    """A source without what its plugin is made with, which may be secret, and the environment that
    holds it instead; `revealed` puts it back."""
    if not entry.get("options"):
        return entry, {}
    content = json.dumps(entry["options"], sort_keys=True, default=str)
    name = OPTIONS + hashlib.sha256(content.encode()).hexdigest()[:12].upper()
    return entry | {"options": {OPTIONS: name}}, {name: content}


def revealed(entry: dict) -> dict:
    """A source with its plugin's options, as they were before `hidden`.

    Raises:
        QuernError: the environment does not hold them.
    """
    name = (entry.get("options") or {}).get(OPTIONS)
    if name is None:
        return entry
    if name not in os.environ:
        raise QuernError(
            f"source {entry.get('name')}: its options are not in the environment ({name}); let "
            "jobs inherit the environment of the Snakemake that sends them."
        )
    return entry | {"options": json.loads(os.environ[name])}


def entry_of(source: Source) -> dict:
    """A source of one language as the configuration would have it, the inverse of `expand`."""
    entry = {f.name: getattr(source, f.name) for f in dataclasses.fields(Source)}
    language = entry.pop("language")
    entry["class"] = entry.pop("plugin_class")
    return entry | {"languages": [language] if language else None}


def _of_language(source: Source, language: str) -> Source:
    def filled(text):
        return text.replace(PLACEHOLDER, language) if text else text

    return replace(
        source,
        language=language,
        path=filled(source.path),
        configuration=filled(source.configuration),
        split=filled(source.split),
        data_files=filled(source.data_files),
    )


# --- samples that are fetched ------------------------------------------------------------------


def matching(path: str) -> list[Path]:
    """The file of this name, or all files that the pattern matches, in order."""
    if Path(path).is_file():
        return [Path(path)]
    return sorted(p for p in map(Path, glob(path, recursive=True)) if p.is_file())


def oscar_files(source: Source) -> str:
    """OSCAR's files of a language: JSON lines in one folder each, as OSCAR 23.01 has them."""
    return f"{source.path}/{source.language}_meta/*.jsonl*"


def local_files(source: Source) -> list[Path]:
    """The files on this machine behind a source that is fetched; none where it is remote."""
    if source.kind == "oscar":
        patterns = [oscar_files(source)]
    else:
        patterns = [source.path, f"{source.path}/**/*", source.data_files or ""]
    return sorted({path for pattern in patterns for path in matching(pattern)})


def with_content(source: Source, sha256: Callable[[Path], str] = files.sha256) -> Source:
    """The source, with the hashes of the files on this machine behind it."""
    return replace(source, content=tuple(sha256(path) for path in local_files(source)))


def identity(source: Source) -> dict:
    """All that decides what a source's samples are; options by their hash: some are secret."""
    found = {key: getattr(source, key) for key in _IDENTITY}
    found["packed"] = "json, with tools"  # how conversations lie in the samples
    if source.options:
        content = json.dumps(source.options, sort_keys=True, default=str)
        found["options"] = hashlib.sha256(content.encode()).hexdigest()
    return found


def folder_name(source: Source) -> str:
    """Where the samples lie: of the path, language, and a hash of `identity`."""
    digest = hashlib.sha256(json.dumps(identity(source), sort_keys=True).encode()).hexdigest()
    place = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source.path).stem)[:40].strip(".-")
    return "-".join(filter(None, [place, source.language, digest[:12]]))


def facts_name(source: Source) -> str:
    """The file that lists as many samples as the source asks for, beside its parts."""
    return f"{folder_name(source)}/{'all' if source.samples is None else source.samples}.json"
