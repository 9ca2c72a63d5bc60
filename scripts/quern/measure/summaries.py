"""The summary of figures per position, which is believed beside the figures that it is of."""

from pathlib import Path

from .. import QuernError, files
from .window_store import WindowStore


def read(summary: Path, positions: Path, **origin) -> dict:
    """The JSON of a comparison or a perplexity.

    Args:
        positions: the figures that it sums up (HDF5).
        origin: attributes that these must have, such as `quantized_sha256`.

    Raises:
        QuernError: a file is missing or damaged, or they are not of one measurement.
    """
    result = files.read_json(summary)
    with WindowStore.open(positions) as store:
        own, windows = store.attributes, int(store.done.sum())
    if result.get("provenance") != own or result.get("windows") != windows:
        raise QuernError(f"{summary} is not of {positions}; delete both and run again.")
    if differing := [key for key, value in origin.items() if own.get(key) != value]:
        raise QuernError(
            f"{positions} is of another model or text ({', '.join(differing)}); delete it and "
            f"{summary}, and run again."
        )
    return result
