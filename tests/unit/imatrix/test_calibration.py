"""What a configuration says of calibrations."""

import pytest

from quern.imatrix.calibration import Calibration, Selection, calibrations_of
from quern.tokens.derivation import Derivation

TOP = {"evaluation": "pool", "windows": 4, "which": "highest", "recipe": "Q2_K"}


def calibrations(**entries):
    imatrix = {"n_ctx": 256, "windows": 9, "output_weight": False}
    return calibrations_of({"corpora": {"wiki": {}}, "imatrix": imatrix, "calibrations": entries})


def test_each_corpus_stands_for_its_pool():
    (found,) = calibrations().values()
    assert found == Calibration("wiki", 256, 9)
    assert not found.is_derived


def test_what_is_left_out_is_as_in_imatrix():
    found = calibrations(
        long={"corpus": "wiki", "n_ctx": 4096, "windows": None},
        mixed={"corpus": "wiki", "order": "shuffled-tokens", "seed": 3},
        top={"corpus": "wiki", "select": TOP},
    )
    assert found["long"] == Calibration("wiki", 4096, None)
    assert found["mixed"] == Calibration("wiki", 256, 9, order="shuffled-tokens", seed=3)
    assert found["top"] == Calibration("wiki", 256, None, select=Selection(**TOP))


def test_what_has_tokens_of_its_own():
    made = [{"order": "documents"}, {"random": "words"}, {"select": Selection(**TOP)}]
    assert all(Calibration("wiki", **fields).is_derived for fields in made)
    assert not Calibration("wiki", 4096, 7).is_derived


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"order": "documents", "random": "words", "windows": 3}, "order and random do not go"),
        ({"random": "words"}, "say how many windows"),
        ({"select": Selection(**TOP), "windows": 3}, "take away windows"),
        ({"select": Selection("pool", 3)}, "select needs a recipe for the highest"),
        ({"select": Selection("pool", 3, "random", "Q2_K")}, "and none for random ones"),
    ],
)
def test_what_does_not_go_together_is_said(fields, said):
    assert said in Calibration("wiki", **fields).objection


@pytest.mark.parametrize(
    "fields",
    [
        {"order": "documents"},
        {"random": "words", "windows": 3},
        {"select": Selection(**TOP)},
        {"select": Selection("pool", 3, "random")},
    ],
)
def test_what_goes_together_is_not_objected_to(fields):
    assert not Calibration("wiki", **fields).objection


def test_only_random_windows_depend_on_how_many_there_were():
    top = Calibration("wiki", 256, select=Selection(**TOP))
    some = Calibration("wiki", 256, seed=2, select=Selection("pool", 4, "random"))
    assert top.derivation(40) == Derivation(256, 4, which="highest")
    assert some.derivation(40) == Derivation(256, 4, which="random", among=40, seed=2)
    assert Calibration("wiki", 256, 9, order="documents").derivation() == Derivation(
        256, 9, "documents"
    )
