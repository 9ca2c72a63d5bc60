"""What a data source plugin inherits: a user's own Python file that finds samples.

A plugin is a file with one class:

    from quern.plugin_base import DataSourcePluginBase

    class Letters(DataSourcePluginBase):
        schema = {"content": "letter.body"}

        def load_data(self, lang, num_samples=200, skip_samples=0):
            return read_my_letters(lang)[skip_samples : skip_samples + num_samples]

This module is Python's standard library only, so that a plugin may be tried out anywhere. A plugin
that says `from plugin_base import DataSourcePluginBase` is understood as well.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable


class DataSourcePluginBase(ABC):
    """A source of samples, by language.

    Attributes:
        name: what the plugin calls itself; free for its own use, such as a data set's name.
        kwargs: the source's `options` of the configuration.
        schema: `content` is the dotted path of the text in a record.
    """

    schema = {"content": "text"}  # noqa: RUF012 - a plugin may write it as an attribute of either

    def __init__(self, name: str = "", **kwargs):
        self.name, self.kwargs = name, kwargs
        if "schema" in kwargs:
            self.schema = kwargs["schema"]

    @abstractmethod
    def load_data(self, lang: str, num_samples: int = 200, skip_samples: int = 0) -> Iterable[dict]:
        """Records `skip_samples` to `skip_samples` + `num_samples` - 1 of a language.

        Called again with larger `skip_samples` until there is enough; so the order of records must
        be the same every time. Fewer records than asked for mean that there are no more.
        """

    def get_content(self, record: dict) -> str | list[dict] | None:
        """The text of a record, or a list of messages, each with `role` and `content`.

        None or empty where it has none; the record is left out.

        Raises:
            LookupError: the record has nothing at the path that `schema` gives.
        """
        return at_path(record, self.schema["content"])


def _is_index(key: str, length: int) -> bool:
    return key.isascii() and key.isdecimal() and int(key) < length


def at_path(record, path: str):
    """What lies at a dotted path, such as `conversation.0.text`, of nested dicts and lists.

    A key of the record that has dots itself comes first.

    Raises:
        LookupError: there is nothing; its text says what there is instead.
    """
    value = record
    is_name = isinstance(record, dict) and path in record
    for key in [path] if is_name else path.split("."):
        if isinstance(value, list | tuple) and _is_index(key, len(value)):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            raise LookupError(f"no field {path}; it has {_names(record)}")
    return value


def _names(record) -> str:
    if isinstance(record, dict):
        return ", ".join(map(str, record)) or "no fields"
    return f"the type {type(record).__name__}"
