"""Tokenize a text with a model's tokenizer. In: GGUF, text. Out: tokens (HDF5), facts (JSON)."""

from pathlib import Path

from quern import files, stage, windows
from quern.gguf_files import ModelInfo
from quern.llama import VERSION, Model


def main(arguments):
    info = ModelInfo.read(arguments.info)
    with Model(arguments.model, vocab_only=True) as model:
        windows.tokenize(
            model,
            info.tokenizer_sha256,
            arguments.text,
            arguments.output,
            windows.read_documents(arguments.documents, arguments.text),
            special=arguments.special,
        )
    tokens = windows.read_tokens(arguments.output)
    facts = {
        "tokens": tokens.count,
        "bos": tokens.bos,
        "text_sha256": tokens.text_sha256,
        "tokenizer_sha256": tokens.tokenizer_sha256,
        "special": arguments.special,
        "llama_cpp_python": VERSION,
    }
    files.write_json(arguments.facts, facts)


if __name__ == "__main__":
    p = stage.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--text", type=Path, required=True, help="UTF-8 text")
    p.add_argument("--documents", type=Path, help="CSV from corpus.py, to know each token's source")
    p.add_argument(
        "--special", action="store_true", help="parse special tokens instead of taking them as text"
    )
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    p.add_argument("--facts", type=Path, required=True, help="JSON to write")
    stage.run(main, p.parse_args())
