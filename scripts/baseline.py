"""Store the unquantized model's output at each scored position. In: GGUF, tokens. Out: baseline
store (HDF5), facts.

An interrupted run goes on at the next window when it is started again.
"""

from pathlib import Path

from quern import command, files
from quern.gguf_files import ModelInfo, require_unquantized
from quern.llama import Way
from quern.measure import baseline
from quern.tokens.windows import read_tokens
from quern.tokens.work import Work
from quern.tuning.taken import taken_up


def main(arguments):
    info = ModelInfo.read(arguments.info)
    require_unquantized(info, arguments.model)
    work = Work(arguments.model, info, read_tokens(arguments.tokens), arguments.n_ctx)
    usual = Way(**command.options_of(arguments, Way))
    way = taken_up(arguments.tuning, usual, model_sha256=info.sha256, n_ctx=work.n_ctx)
    with work.opened(way) as model:
        facts = baseline.write_baseline(
            *(model, work, arguments.output),
            scored=arguments.scored,
            store=arguments.store,
            logits_type=arguments.logits_type,
            limit=arguments.windows,
            first=getattr(arguments, "from"),
            last=arguments.to,
        )
    files.write_json(arguments.facts, facts)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="unquantized GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--tokens", type=Path, required=True, help="HDF5 from tokens.py")
    p.add_argument("--n-ctx", type=int, default=512, help="tokens per window")
    p.add_argument(
        "--scored",
        choices=("half", "all"),
        default="half",
        help="positions that are scored: the second half of each window, or all",
    )
    p.add_argument(
        "--store",
        choices=baseline.STORES,
        default="auto",
        help="what to keep; auto: hidden states if they are proved to give the logits, else logits",
    )
    p.add_argument(
        "--logits-type",
        choices=baseline.LOGITS_TYPES,
        default="float32",
        help="how logits are kept; float16 halves the store and rounds them",
    )
    p.add_argument("--windows", type=int, help="use at most this many windows of the text")
    command.add_window_range(p)
    command.add_compute(p)
    command.add_tuning(p)
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    p.add_argument("--facts", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
