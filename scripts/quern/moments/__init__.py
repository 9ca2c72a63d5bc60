"""Second moments of the inputs of matrix products, Σ x xᵀ, of which an imatrix is the diagonal."""
