"""The card's head, from metadata that a stranger wrote."""

import pytest
import yaml

from models import write_model
from quern import gguf_files
from quern.release import card

NASTY = {
    "general.basename": "<b>",
    "general.license": "my\n---\n# licence: [1] <img src=x>",
    "general.license.link": "javascript://alert(1)",
    "general.languages": "no",
    "general.tags": "a: b\u2028---\x1b[31m",
    "general.source.url": "https://huggingface.co/a/b](https://x.example)|<img>",
    "general.author": "x | y",
}


def front(tmp_path, **metadata):
    path = write_model(tmp_path / "m.gguf", metadata=metadata)
    return card.front_matter(gguf_files.open_gguf(path))


def test_a_strangers_metadata_are_values_of_the_head(tmp_path):
    found = front(tmp_path, **NASTY)
    assert found == {
        "library_name": "gguf",
        "pipeline_tag": "text-generation",
        "license": "other",
        "license_name": "my --- # licence: [1] <img src=x>",
        "language": ["no"],
        "tags": ["gguf", "quern", "a: b ---[31m"],
    }
    header = yaml.safe_dump(found, sort_keys=False, allow_unicode=True)
    assert yaml.safe_load(header) == found and "---" not in header.splitlines()


@pytest.mark.parametrize(
    ("link", "shown"),
    [("LICENSE", "LICENSE"), ("/home/me/LICENSE", "LICENSE"), ("https://x.example/l", None)],
)
def test_a_license_of_its_own(tmp_path, link, shown):
    metadata = {"general.license": "llama3.3-community", "general.license.link": link}
    found = front(tmp_path, **metadata)
    assert found["license"] == "other" and found["license_name"] == "llama3.3-community"
    assert found["license_link"] == (shown or link)


def test_the_model_that_it_was_made_of(tmp_path):
    found = front(tmp_path, **{"general.source.url": "https://huggingface.co/owner/name.1/"})
    assert found["base_model"] == "owner/name.1"
