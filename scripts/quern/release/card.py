"""The model card: front matter for the Hugging Face Hub, and what a reader wants to know."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml

from .. import __version__, markdown, published, sizes
from ..gguf_files import GgufFile, field

TEMPLATE = Path(__file__).parent / "templates/card.md"
# What the Hub takes for a license, one a line; others have to be called `other`, with a name.
# Source: huggingface.co/docs/hub/repositories-licenses.
LICENSES = Path(__file__).parent / "templates/licenses.txt"
_ON_THE_HUB = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+)/?", re.ASCII)


@dataclass(frozen=True)
class Row:
    """A recipe as the card tells of it.

    Attributes:
        labels: name, type, imatrix, rounding.
        files: their names; several where the file was split.
        figures: of each text, those of its comparison, by the text's name.
        base: the type that llama-quantize is called with.
        memory: the first context of what memory.py wrote; None where it was not computed.
        speed: median, low and high in tokens/s, by test at depth 0; empty where nothing was timed,
            or on a busy machine.
        by_stock: whether stock llama.cpp makes the same from the recipe's map.
    """

    labels: dict
    bytes: int
    bits_per_weight: float
    files: list[str]
    figures: dict[str, dict]
    base: str
    memory: dict | None
    speed: dict[str, dict]
    by_stock: bool


def front_matter(
    reader: GgufFile,
    *,
    base_model: str | None = None,
    quantized_by: str | None = None,
    license: str | None = None,
    tags: tuple[str, ...] = (),
) -> dict:
    """What the Hub reads of the card, from a model's metadata and what the user says instead.

    The base model is the one that was quantized: `general.source` or `general.repo_url`, and not
    `general.base_model`, which names the one that it was itself made from.
    """
    found = {"library_name": "gguf", "pipeline_tag": "text-generation"}
    if own := base_model or source_repository(reader):
        found |= {"base_model": own, "base_model_relation": "quantized"}
    if quantized_by:
        found["quantized_by"] = quantized_by
    found |= _license(reader, license)
    if languages := _listed(reader, "general.languages"):
        found["language"] = languages
    others = _listed(reader, "general.tags")
    return found | {"tags": list(dict.fromkeys(["gguf", "quern", *tags, *others]))}


def title(reader: GgufFile, otherwise: str) -> str:
    """What a model calls itself, on one line."""
    return published.bare(markdown.line(str(field(reader, "general.name", "")))) or otherwise


def _listed(reader: GgufFile, key: str) -> list[str]:
    """The texts of a list in the metadata, which some write as one text."""
    found = field(reader, key, [])
    lines = (markdown.line(str(one)) for one in ([found] if isinstance(found, str) else found))
    return [one for one in lines if one]


def source_repository(reader: GgufFile) -> str | None:
    """OWNER/NAME on the Hub of the model that a GGUF was converted from, where it says so."""
    for key in ("source.repo_url", "source.url", "repo_url", "url"):
        if found := _ON_THE_HUB.fullmatch(str(field(reader, f"general.{key}", ""))):
            return found[1]
    return None


def _license(reader: GgufFile, given: str | None) -> dict:
    name = markdown.line(given or str(field(reader, "general.license", "")))
    if not name:
        return {}
    if name.lower() in {*LICENSES.read_text(encoding="utf-8").split()} - {"other"}:
        return {"license": name.lower()}
    link = markdown.line(str(field(reader, "general.license.link", "")))
    is_link = link.startswith(("https://", "http://")) or "://" not in link
    known = {
        "license_name": markdown.line(str(field(reader, "general.license.name", "")))
        or name.lower(),
        "license_link": published.file_name(link) if link and is_link else "",
    }
    return {"license": "other"} | {key: value for key, value in known.items() if value}


def render(front: dict, **content) -> str:
    """The card (Markdown); `content` is what the template names."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    environment.filters |= {"size": sizes.shown, "text": markdown.escaped, "word": shlex.quote}
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(front=header, base=front.get("base_model"), quern=__version__, **content)
