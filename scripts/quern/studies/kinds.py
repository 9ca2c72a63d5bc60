"""The kinds of studies, and what a configuration asks of them.

A new kind is a line here and one in `tables`, its two files, and its section of the schema.
"""

from collections.abc import Callable, Mapping

from . import context, datasets, order, subsampling
from .plan import Plan

KINDS: dict[str, Callable[[str, Mapping, Mapping], Plan]] = {
    "context": context.plan,
    "datasets": datasets.plan,
    "order": order.plan,
    "subsampling": subsampling.plan,
}


def plans(config: Mapping) -> dict[str, Plan]:
    """The plans of all studies of a configuration, by name.

    Raises:
        QuernError: a study is impossible; the sentence names its key.
    """
    return {
        name: KINDS[settings["kind"]](name, settings, config)
        for name, settings in config["studies"].items()
    }
