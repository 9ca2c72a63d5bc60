"""Compiled searches.

`arguments` describes what they take; read it first. `exact` finds the best scale of a block.
`single`, `joint` and `offset` round the types with one scale, with factors for sub-blocks, and with
minima too. `cumulative` and `gradient` are two searches that were proposed for llama.cpp;
`proposals` rounds by them. `blocks` is what all share, and `codebooks` tells how the nearest level
of a table is found. `lanes` and `offset_lanes` hold the vector loops, written with `vectors`.
`similarity` is the loop of the pictures.
"""
