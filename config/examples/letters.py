"""An example of a data source plugin: letters of a language from a file of JSON lines.

    python scripts/fetch.py --datasource-plugin config/examples/letters.py --plugin-class Letters \\
        --langs en es --num-samples 100
"""

import json
from itertools import islice
from pathlib import Path

from quern.plugin_base import DataSourcePluginBase


class Letters(DataSourcePluginBase):
    """Reads `{folder}/{lang}.jsonl`, whose records hold the text at `letter.body`."""

    schema = {"content": "letter.body"}  # noqa: RUF012

    def load_data(self, lang, num_samples=200, skip_samples=0):
        """Records `skip_samples` to `skip_samples` + `num_samples` - 1 of a language."""
        path = Path(self.kwargs.get("folder", "letters")) / f"{lang}.jsonl"
        with open(path) as lines:
            return [
                json.loads(line) for line in islice(lines, skip_samples, skip_samples + num_samples)
            ]
