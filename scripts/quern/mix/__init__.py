"""Mixes: the best type for each tensor at a given size.

`damage` measures what the error of each tensor costs, `errors` how large the error of each type is,
`solve` chooses types for a budget, `proof` measures what was chosen beside stock mixes. `search`
brings them together. The method: a tensor's share of the divergence is proportional to its squared
error, weighed by the imatrix, and the shares of different tensors add up.
"""
