"""Tokens: a corpus's parts in a model's own tokens, cut into windows, mixed, perhaps as a chat."""
