"""Samples from data sets (through the `datasets` library), from OSCAR, and from users' plugins."""

import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from .. import QuernError, plugin_base
from ..command import reason
from .readers import as_text, columns_of, text_of
from .sources import Source, oscar_files

log = logging.getLogger("quern.fetched")

TOGETHER = 1000  # records that a plugin is asked for at once


def texts(source: Source, start: int, wanted: int | None) -> Iterator[tuple[int, str]]:
    """Numbers and texts of a source's records, from record `start` on; the text may be empty.

    Args:
        start: counted after the `skip` records that the source passes over.
        wanted: how many texts will be taken; None for all.

    Raises:
        QuernError: the source cannot be read, or a record has no text where it should be.
    """
    if source.kind == "plugin":
        return _plugin_texts(source, start, wanted)
    return _dataset_texts(source, start)


# --- data sets ------------------------------------------------------------------------------


def _dataset_texts(source: Source, start: int) -> Iterator[tuple[int, str]]:
    # Here, because it takes seconds. A token is found by the library, in the environment.
    import datasets

    datasets.disable_progress_bars()
    path, data_files = source.path, source.data_files
    if source.kind == "oscar":
        path, data_files = "json", oscar_files(source)
    try:
        data = datasets.load_dataset(
            path,
            source.configuration,
            data_files=data_files,
            split=source.split,
            revision=source.revision,
            streaming=source.streaming,
        )
        if data.column_names:  # other columns need not be decoded: sound, pictures
            data = data.select_columns(columns_of(source, data.column_names, source.path))
        passed = source.skip + start
        beyond = not source.streaming and passed >= len(data)  # skip would raise
        records = iter(()) if beyond else iter(data.skip(passed))
    except QuernError:
        raise
    except Exception as error:  # the library raises many kinds
        what = f"datasets cannot load {source.path}: {reason(error)}"
        if source.streaming and "[" in source.split:
            what += f". A part of a split, such as {source.split}, needs streaming: false"
        raise source.fails(what) from None
    number = start
    while True:
        try:
            record = next(records, None)
        except Exception as error:
            where = f"sample {source.skip + number} of {source.path}"
            raise source.fails(f"{where} cannot be read: {reason(error)}") from None
        if record is None:
            return
        yield number, text_of(source, record, f"sample {source.skip + number} of {source.path}")
        number += 1


# --- plugins --------------------------------------------------------------------------------


def _plugin_texts(source: Source, start: int, wanted: int | None) -> Iterator[tuple[int, str]]:
    plugin = load_plugin(source)
    number, taken = start, 0
    while wanted is None or taken < wanted:
        asked = TOGETHER if wanted is None else min(TOGETHER, wanted - taken)
        records = _loaded(source, plugin, asked, number)
        for record in records:
            text = _content(source, plugin, record, number)
            taken += bool(text.strip())
            yield number, text
            number += 1
        if len(records) < asked:
            return


def _loaded(source: Source, plugin, asked: int, number: int) -> list:
    """The next records of a plugin, at most `asked`."""
    call = f"load_data({source.language!r}, {asked}, {source.skip + number})"
    with _Blamed(source, call):
        found = plugin.load_data(
            source.language, num_samples=asked, skip_samples=source.skip + number
        )
        if found is None or isinstance(found, str | bytes | dict):
            kind = type(found).__name__
            raise source.fails(f"{call} of {source.path} gave {kind} instead of a list of records")
        records = []
        for record in found:
            records.append(record)
            if len(records) > asked:
                raise source.fails(f"{call} of {source.path} gave more than {asked} records")
    return records


def _content(source: Source, plugin, record, number: int) -> str:
    """The text of a plugin's record; empty where it has none."""
    where = f"record {source.skip + number} of {source.path}"
    with _Blamed(source, "get_content"):
        try:
            text = plugin.get_content(record)
        except LookupError as error:
            raise source.fails(f"{where} has {error}") from None
    beside = record if isinstance(record, dict) else {}
    return as_text(source, text, f"what get_content gave for {where}", beside)


class _Blamed:
    """Turns what a plugin raises into a sentence that names it; the log has the traceback."""

    def __init__(self, source: Source, call: str):
        self._source, self._call = source, call

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if isinstance(error, Exception) and not isinstance(error, QuernError):
            log.info("plugin %s", self._source.path, exc_info=error)
            what = f"{kind.__name__}: {reason(error)}"
            raise self._source.fails(f"{self._call} of {self._source.path} raised {what}") from None


def load_plugin(source: Source) -> plugin_base.DataSourcePluginBase:
    """An object of the class in a plugin's file, made with the source's options.

    Raises:
        QuernError: the file is missing or raises, or has no such class, or it is not a plugin's.
    """
    path = Path(source.path)
    if not path.is_file():
        raise source.fails(f"the plugin {path} does not exist")
    sys.modules.setdefault("plugin_base", plugin_base)  # plugins written for the guide's tool
    sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location("quern_plugin", path)
    module = importlib.util.module_from_spec(spec)
    with _Blamed(source, "importing the class"):
        spec.loader.exec_module(module)
    known = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, plugin_base.DataSourcePluginBase)
        and value is not plugin_base.DataSourcePluginBase
    ]
    if source.plugin_class not in known:
        found = ", ".join(known) or "none"
        raise source.fails(
            f"{path} has no class {source.plugin_class} that inherits DataSourcePluginBase; "
            f"its plugins are: {found}"
        )
    with _Blamed(source, f"{source.plugin_class}()"):
        return getattr(module, source.plugin_class)(**source.options)
