"""Tokenize a text with a model's tokenizer. In: GGUF, text; a corpus's table and facts, to mix its
sources. Out: tokens (HDF5), facts (JSON), sources (CSV)."""

import csv
from pathlib import Path

from quern import command, files
from quern.gguf_files import ModelInfo
from quern.tokens.mixture import COLUMNS, write_tokens


def main(arguments):
    facts, rows = write_tokens(
        arguments.model,
        ModelInfo.read(arguments.info),
        arguments.text,
        arguments.output,
        documents=arguments.documents,
        corpus=arguments.corpus,
        n_ctx=arguments.n_ctx,
        special=arguments.special,
        chat_template=arguments.chat_template,
        neutralize=arguments.neutralize_special,
    )
    if arguments.sources:
        with (
            files.replacing(arguments.sources) as temporary,
            open(temporary, "w", encoding="utf-8") as file,
        ):
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
    files.write_json(arguments.facts, facts)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--text", type=Path, required=True, help="UTF-8 text")
    p.add_argument("--documents", type=Path, help="CSV from corpus.py, to know each token's source")
    p.add_argument("--corpus", type=Path, help="JSON from corpus.py, to mix sources as it says")
    p.add_argument("--n-ctx", type=int, default=512, help="tokens per window that is mixed")
    p.add_argument(
        "--special", action="store_true", help="parse special tokens instead of taking them as text"
    )
    p.add_argument(
        "--chat-template",
        action="store_true",
        help="render each document through the model's chat template, and parse special tokens",
    )
    p.add_argument(
        "--neutralize-special",
        action="store_true",
        help="keep the text of a special token within a message as text: a character of no width "
        "is put into it",
    )
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    p.add_argument("--facts", type=Path, required=True, help="JSON to write")
    p.add_argument("--sources", type=Path, help="CSV to write, a row for each source")
    command.run(main, p.parse_args())
