"""Documents of every kind of file, and what is wrong with a source."""

import pytest

from quern import QuernError
from quern.corpus.sources import expand


def test_one_source_a_language():
    entry = {"name": "s", "path": "t/{lang}/*.txt", "languages": ["en", "de"], "weight": 3}
    found = expand(entry)
    assert [(s.label, s.path, s.weight) for s in found] == [
        ("s/en", "t/en/*.txt", 1.5),
        ("s/de", "t/de/*.txt", 1.5),
    ]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "it has no path"),
        ({"path": "f", "languages": ["en", "de"]}, "{lang} says nowhere which files"),
        ({"path": "f/{lang}"}, "there are no languages"),
        ({"kind": "plugin", "path": "p.py"}, "kind plugin needs languages"),
        ({"kind": "oscar", "languages": ["en"]}, "kind oscar needs the number of samples"),
        ({"path": "f", "samples": 3}, "are for what is fetched"),
        ({"path": "f", "wieght": 3}, "wieght"),
    ],
)
def test_keys_that_do_not_go_together(entry, words):
    with pytest.raises(QuernError) as error:
        expand({"name": "s"} | entry)
    assert str(error.value).startswith("source s: ") and words in str(error.value)
