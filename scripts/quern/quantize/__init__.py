"""Quantizing: recipes, and how each is carried out."""
