"""Whether files of results are what was written."""
