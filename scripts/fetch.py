"""Fetch samples from data sets, OSCAR or a plugin, and keep them. In: a config, a source, or a
plugin's file. Out: Parquet parts a source and language, and a JSON file that lists them. Samples
that are there are not fetched again."""

import argparse
import json
import os
from pathlib import Path

import yaml

from quern import QuernError, command
from quern.corpus import sample_store, sources


def main(arguments):
    found = [sources.with_content(source) for source in asked(arguments)]
    if not found:
        raise QuernError("no source is to be fetched; all are local files.")
    for source in found:
        if arguments.count_only:
            there = sample_store.count(source, arguments.output)
            wanted = "all" if source.samples is None else source.samples
            print(f"{source.label}: {there} there, {wanted} asked for")
        else:
            print(sample_store.fetch(source, arguments.output))


def asked(arguments) -> list[sources.Source]:
    """The sources that the arguments name, and that are to be fetched."""
    try:
        entries = list(entries_of(arguments))
        for entry in entries:
            os.environ.update(sources.hidden(entry)[1])  # so that no message repeats what is secret
        found = [source for entry in entries for source in sources.expand(entry)]
    except (ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError) as error:
        raise QuernError(f"the sources cannot be understood ({error}).") from None
    return [source for source in found if source.kind in sources.FETCHED]


def entries_of(arguments):
    """The sources as they stand in a config."""
    if arguments.config:
        config = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
        for corpus in config["corpora"].values():
            yield from corpus["sources"]
    elif arguments.source:
        yield sources.revealed(json.loads(arguments.source))
    elif arguments.datasource_plugin:
        yield {
            "name": arguments.name or arguments.datasource_plugin.stem,
            "kind": "plugin",
            "path": str(arguments.datasource_plugin),
            "class": arguments.plugin_class,
            "languages": arguments.langs,
            "samples": arguments.num_samples,
            "skip": arguments.skip_samples,
        }
    else:
        raise QuernError("say what to fetch: --config, --source or --datasource-plugin.")


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--config", type=Path, metavar="YAML", help="all sources of a config's corpora")
    p.add_argument("--source", metavar="JSON", help="one source as in the config")
    p.add_argument("--datasource-plugin", type=Path, metavar="FILE", help="a plugin's file")
    p.add_argument("--plugin-class", default="DataSourcePlugin", metavar="NAME", help="its class")
    p.add_argument("--langs", nargs="+", default=[], metavar="LANG", help="the plugin's languages")
    p.add_argument("--num-samples", type=int, default=200, help="samples a language")
    p.add_argument("--skip-samples", type=int, default=0, help="records to skip first")
    p.add_argument("--name", default=argparse.SUPPRESS, help="source's name (default: the file's)")
    p.add_argument("--count-only", action="store_true", help="only print what is there")
    p.add_argument(
        "--output", type=Path, default=Path("results/raw"), metavar="FOLDER", help="where to write"
    )
    p.set_defaults(name=None)
    command.run(main, p.parse_args())
