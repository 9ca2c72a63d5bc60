"""Measuring: what the baseline says, how far a quantized model strays from it, with intervals."""
