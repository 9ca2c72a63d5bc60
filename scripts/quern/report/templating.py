"""How pages are made of templates."""

from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def environment() -> jinja2.Environment:
    """The house's templates: what is put into them is text, and a missing name an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def text(name: str) -> str:
    """A style or a script, as it is."""
    return (TEMPLATES / name).read_text(encoding="utf-8")
