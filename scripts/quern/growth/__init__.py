"""Growth: an imatrix is made from more and more data until that no longer pays."""
