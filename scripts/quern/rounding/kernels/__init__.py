"""Compiled searches.

`exact` finds the best scale of a block. `single`, `joint` and `offset` round the types with one
scale, with factors for sub-blocks, and with minima too. `cumulative` and `gradient` are two
proposals from the field, which `proposals` carries out. `blocks` is what all share. Vector
instructions are written in `lanes` and `offset_lanes`, by means of `vectors`. `similarity` is the
loop of the pictures.
"""
