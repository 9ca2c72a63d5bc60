"""Tokenize a text with a model's tokenizer. In: GGUF, text; a corpus's table and facts, to mix its
sources. Out: tokens (HDF5), facts (JSON)."""

from dataclasses import replace
from pathlib import Path

from quern import QuernError, chat, files, mixture, stage, windows
from quern.gguf_files import ModelInfo
from quern.llama import VERSION, Model


def main(arguments):
    tokenizer = ModelInfo.read(arguments.info).tokenizer_sha256
    documents = windows.read_documents(arguments.documents, arguments.text)
    template = chat.ChatTemplate.read(arguments.model) if arguments.chat_template else None
    plan = plan_of(arguments, template)
    left = {}
    with Model(arguments.model, vocab_only=True) as model:
        if plan.is_plain:
            windows.tokenize(
                model,
                tokenizer,
                arguments.text,
                arguments.output,
                documents,
                special=arguments.special,
            )
        elif documents is None:
            raise QuernError("mixing and chat templates need --documents.")
        else:
            left = mixture.tokenize(
                model, tokenizer, arguments.text, arguments.output, documents, plan
            )
    tokens = windows.read_tokens(arguments.output)
    facts = {
        "tokens": tokens.count,
        "bos": tokens.bos,
        "text_sha256": tokens.text_sha256,
        "tokenizer_sha256": tokens.tokenizer_sha256,
        "special": arguments.special or plan.special,
        "llama_cpp_python": VERSION,
        "mixed_windows": plan.window,
        "chat_template": {"sha256": template.sha256, "text": template.source} if template else None,
        "sources": {
            name: {"tokens": count, "weight": plan.weights.get(name), "left": left.get(name, 0)}
            for name, count in tokens.by_source().items()
        },
    }
    files.write_json(arguments.facts, facts)


def plan_of(arguments, template) -> mixture.Plan:
    """How the text's documents become one stream of tokens."""
    if arguments.corpus is None:
        return mixture.Plan(special=template is not None or arguments.special, template=template)
    corpus = files.read_json(arguments.corpus)
    plan = mixture.plan_of(corpus, arguments.text.stem, arguments.n_ctx, template)
    return replace(plan, special=plan.special or arguments.special)


if __name__ == "__main__":
    p = stage.parser(__doc__)
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
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    p.add_argument("--facts", type=Path, required=True, help="JSON to write")
    stage.run(main, p.parse_args())
