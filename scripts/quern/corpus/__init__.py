"""Corpora: sources of documents, samples that are kept, documents split in two parts."""
