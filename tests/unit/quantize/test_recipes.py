"""Recipes have names that cannot collide, and reach a command as they are."""

import argparse
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quern import QuernError, command
from quern.quantize.recipes import (
    BY_LLAMA,
    Recipe,
    carried_out_by_llama,
    recipes_of,
    with_roundings,
)


def recipes(*sweeps):
    sweeps = [{"imatrix": ["none"], "rounding": ["ggml"], **s} for s in sweeps]
    known = {
        "calibrations": {},
        "corpora": {"wiki": {}},
        "imatrix": {"files": {"theirs": "x.gguf"}},
    }
    return recipes_of(known | {"quantize": sweeps})


def test_recipe_names_read_as_a_sentence():
    found = recipes(
        {"types": ["Q4_K_M", "Q2_K"], "imatrix": ["none", "wiki"]},
        {"types": ["Q4_0"], "pure": True, "variant": "pure", "imatrix": ["wiki"]},
    )
    assert list(found) == ["Q4_K_M", "Q4_K_M+wiki", "Q2_K", "Q2_K+wiki", "Q4_0.pure+wiki"]
    assert found["Q4_0.pure+wiki"] == Recipe("Q4_0", variant="pure", imatrix="wiki", pure=True)
    assert list(recipes({"types": ["Q2_K"], "imatrix": ["theirs"]})) == ["Q2_K+theirs"]


def test_roundings_are_an_axis_that_starts_from_llamas_own():
    found = recipes(
        {"types": ["Q4_0"], "imatrix": ["wiki"], "rounding": ["ggml", "exact"]},
        {"types": ["IQ4_NL"], "rounding": ["gradient"], "variant": "pure", "pure": True},
    )
    assert list(found) == ["Q4_0+wiki", "Q4_0~exact+wiki", "IQ4_NL.pure~gradient"]
    assert found["Q4_0~exact+wiki"].unrounded == found["Q4_0+wiki"]
    plain = carried_out_by_llama(found)
    assert list(plain) == ["Q4_0+wiki", "IQ4_NL.pure"]
    assert plain["IQ4_NL.pure"] == Recipe("IQ4_NL", variant="pure", pure=True)
    assert list(with_roundings(found)) == ["Q4_0+wiki", "Q4_0~exact+wiki"]


def test_a_variant_is_a_label():
    """It changes a recipe's name and not what it depends on."""
    one, other = Recipe("Q4_0", variant="a", pure=True), Recipe("Q4_0", variant="b", pure=True)
    assert one.name != other.name and one.as_dict() == other.as_dict()


def test_two_recipes_of_one_name_are_refused():
    with pytest.raises(QuernError, match="give this entry a variant"):
        recipes({"types": ["Q4_0"]}, {"types": ["Q4_0"], "pure": True})


def test_an_unknown_imatrix_is_refused():
    with pytest.raises(QuernError, match=r"quantize\.0\.imatrix: wikki is no corpus"):
        recipes({"types": ["Q4_0"], "imatrix": ["wikki"]})


PATTERNS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(
    st.builds(
        Recipe,
        st.sampled_from(["Q4_0", "Q4_K_M"]),
        pure=st.booleans(),
        output_type=st.none() | st.just("Q8_0"),
        token_embedding_type=st.none() | st.just("Q6_K"),
        tensor_types=st.lists(st.tuples(PATTERNS, st.just("Q6_K"))).map(tuple),
    )
)
def test_a_command_reads_the_recipe_that_its_line_says(recipe):
    """Whatever the patterns: dashes in front, spaces, quotes, line ends, dollars, backticks."""
    p = argparse.ArgumentParser()
    command.add_options(p, Recipe, BY_LLAMA)
    line = shlex.split(command.flags(recipe.options(BY_LLAMA)))
    assert Recipe.of_arguments(p.parse_args(line)) == recipe


def test_a_tensor_type_without_a_pattern_is_refused():
    p = argparse.ArgumentParser()
    command.add_options(p, Recipe, BY_LLAMA)
    with pytest.raises(QuernError, match="Q6_K is not of the form PATTERN=TYPE"):
        Recipe.of_arguments(p.parse_args(["--type", "Q4_0", "--tensor-types", "Q6_K"]))


def test_fixed_types_that_a_mix_cannot_have_are_said():
    (recipe,) = recipes(
        {"mix": {"size": "4 bpw", "fixed": {"attn_v": "Q6_K", "ffn": "Q8_0"}}}
    ).values()
    assert recipe.cannot_fix({"blk.0.attn_v.weight": 256, "blk.0.ffn_up.weight": 96}) == ""
    said = recipe.cannot_fix({"blk.0.attn_v.weight": 96, "blk.0.ffn_up.weight": 96})
    assert said.startswith("blk.0.attn_v.weight cannot become Q6_K; its rows of 96 weights")
    assert "ffn matches no tensor" in recipe.cannot_fix({"blk.0.attn_v.weight": 256})
    with pytest.raises(QuernError, match="to IQ1_S only with an imatrix"):
        recipes({"mix": {"size": "4 bpw", "fixed": {"attn_v": "IQ1_S"}}})
