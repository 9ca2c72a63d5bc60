"""Quern's library: measure, calibrate and quantize GGUF language models.

A room holds the modules of one stage. `llama` is the only door to llama.cpp. Nothing here knows of
Snakemake.
"""

__version__ = "0.1.0"


class QuernError(Exception):
    """Something the user can mend; its text is one sentence that says what and how."""


class RecipeError(QuernError):
    """Sound inputs and a sound machine cannot make what a recipe asks for: this is its result."""
