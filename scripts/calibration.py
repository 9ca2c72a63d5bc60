"""Make calibration tokens from a pool: another order, some of its windows, or random text. In:
GGUF, the pool's tokens; as needed its text, documents, comparison. Out: tokens (HDF5), facts
(JSON)."""

from dataclasses import asdict
from pathlib import Path

from quern import command, files
from quern.gguf_files import ModelInfo
from quern.llama import Model, Way, computed_by
from quern.tokens import derived
from quern.tokens.derivation import Derivation
from quern.tokens.windows import read_tokens


def main(arguments):
    derivation = Derivation(**command.options_of(arguments, Derivation))
    info, pool = ModelInfo.read(arguments.info), read_tokens(arguments.tokens)
    pool.require_tokenizer(info.tokenizer_sha256)
    is_sampled = derivation.random == "samples"
    way = Way(**command.options_of(arguments, Way))
    with Model(arguments.model, way, load="mapped" if is_sampled else "vocab") as model:
        content = derived.contents(
            derivation, model, pool, arguments.text, arguments.documents, arguments.comparison
        )
        done = asdict(derivation)
        if is_sampled:
            done |= {"model_sha256": info.sha256, "computed_by": computed_by(way.gpus)}
        facts = derived.write(arguments.output, model, pool, derivation, content, done)
    files.write_json(arguments.facts, facts)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--tokens", type=Path, required=True, help="HDF5 of the pool, from tokens.py")
    p.add_argument("--text", type=Path, help="the pool's text, for orders of documents, and words")
    p.add_argument("--documents", type=Path, help="CSV from corpus.py, for orders of documents")
    p.add_argument(
        "--comparison", type=Path, help="CSV from compare.py, for the highest and lowest"
    )
    command.add_options(p, Derivation)
    command.add_compute(p)
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    p.add_argument("--facts", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
