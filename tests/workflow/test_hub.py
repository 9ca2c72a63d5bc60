"""A model of a hub, from its address to a comparison."""

import json

import pytest
from hub_server import serving

from .conftest import CONFIG, build


@pytest.fixture
def house(tmp_path, finished, monkeypatch):
    """A house whose model is on a hub, in two recipes."""
    with serving() as server:
        content = (finished.folder / "input/tiny.gguf").read_bytes()
        server.repositories["owner/name"] = {"tiny.gguf": content}
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        house = build(tmp_path / "house")
        (house.folder / "input").symlink_to(finished.folder / "input")
        models = {"tiny": "hf://owner/name/tiny.gguf"}
        house.configure(CONFIG | {"models": models, "quantize": [{"types": ["Q8_0"]}]})
        yield house, server


def test_fetched_once_and_compared_like_a_file(house, finished):
    house, server = house
    result = "results/tiny/compare/Q8_0/topics.json"
    jobs = house.run(result)
    assert jobs["fetch_model"] == 1
    ours, theirs = (json.loads((h.folder / result).read_text()) for h in (house, finished))
    assert ours["all"] == theirs["all"]
    asked = len(server.asked)
    assert house.would_run(result) == {}
    (house.folder / "results/hub/owner/name/main/tiny.gguf").touch()
    assert house.would_run(result) == {}
    assert len(server.asked) == asked  # no network while the workflow is read
