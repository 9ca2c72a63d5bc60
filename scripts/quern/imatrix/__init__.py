"""Importance matrices: collected in shards, merged, read and written, described."""
