"""What the formulas copy from stages, whose modules load more than the rules should."""

import numpy as np

from quern.cost import stages
from quern.llama import Way, model
from quern.measure import baseline, comparison, divergence
from quern.mix import errors, search


def test_constants_are_those_of_the_stages():
    assert stages.LOGITS_BYTES == model.LOGITS_BYTES
    assert stages.GPU_LOGITS_BYTES == model.GPU_LOGITS_BYTES
    assert stages.SMALL_MODEL == model.SMALL_MODEL
    assert Way().n_ubatch == stages.GRAPH
    assert stages.PRODUCT_BYTES == baseline.PRODUCT_BYTES
    assert stages.NOISE_WINDOWS == comparison.NOISE_WINDOWS
    assert stages.ROWS == errors.ROWS
    assert stages.RIVALS == search.RIVALS


def test_a_position_has_its_figures_and_its_source():
    figures = [*divergence.FIGURES.values(), np.uint8]
    assert sum(np.dtype(kind).itemsize for kind in figures) == stages.POSITION_BYTES
