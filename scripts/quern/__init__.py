"""Quern's library: measure, calibrate and quantize GGUF language models.

One module a room. `llama` is the only door to llama.cpp; nothing here knows of Snakemake.
"""

__version__ = "0.1.0"


class QuernError(Exception):
    """Something the user can mend; its text is one sentence that says what and how."""
