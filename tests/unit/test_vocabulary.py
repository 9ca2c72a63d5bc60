"""Which tokens two vocabularies share: padding, added metadata, and what truly differs."""

import pytest

from models import write_model
from quern import QuernError, vocabulary

SMALL = {"n_embd": 32, "n_ff": 32, "n_layer": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabularies")

    def make(name, **options):
        path = folder / f"{name}.gguf"
        return path if path.exists() else write_model(path, **SMALL, **options)

    return make


def test_the_same_vocabulary_needs_no_words(model):
    assert vocabulary.common(model("plain"), model("plain")) == (300, "")


def test_padding_on_either_side(model):
    plain, padded = model("plain"), model("padded", padding=20)
    count, said = vocabulary.common(plain, padded)
    assert count == 300 and "the baseline has 0 more, this file 20" in said
    count, said = vocabulary.common(padded, plain)
    assert count == 300 and "the baseline has 20 more, this file 0" in said


def test_unused_tokens_of_other_texts_are_padding(model):
    other = model("unused", renamed={290: "[PAD]"})
    assert vocabulary.common(model("plain"), other).count == 290


def test_added_metadata_is_said(model):
    count, said = vocabulary.common(model("plain"), model("scores", scores=True))
    assert (count, said) == (300, "Only one of both vocabularies has scores.")


def test_the_first_token_that_differs_is_named(model):
    other = model("renamed", renamed={70: "seventy", 90: "ninety"})
    with pytest.raises(QuernError, match=r"token 70 differs by its text \('.' and 'seventy'\)"):
        vocabulary.common(model("plain"), other)
