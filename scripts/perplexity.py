"""Measure perplexity alone. In: GGUF, tokens. Out: each token's log-likelihood (HDF5), figures
(JSON).

No baseline is needed. An interrupted run goes on at the next window when it is started again.
"""

from pathlib import Path

from quern import command, files, vocabulary
from quern.gguf_files import ModelInfo
from quern.llama import Way
from quern.measure import perplexity
from quern.tokens.windows import read_tokens
from quern.tokens.work import Work


def main(arguments):
    if reason := files.failure(arguments.info):  # there is nothing to measure
        files.write_failure(arguments.summary, reason, arguments.output)
        return
    cut = perplexity.Cut(**command.options_of(arguments, perplexity.Cut))
    info, tokens = ModelInfo.read(arguments.info), read_tokens(arguments.tokens)
    shared = None
    if arguments.tokenized_for and tokens.tokenizer_sha256 != info.tokenizer_sha256:
        shared = vocabulary.common(arguments.tokenized_for, arguments.model)
    work = Work(arguments.model, info, tokens, cut.n_ctx, cut.stride, shared)
    with work.opened(Way(**command.options_of(arguments, Way))) as model:
        perplexity.measure(model, work, arguments.output, cut.windows)
    found = perplexity.summarize(arguments.output)
    files.write_json(arguments.summary, found)
    if "log" not in arguments:  # by hand
        interval = found.get("no_interval", "[{low:.4f}, {high:.4f}]")
        form = "PPL = {value:.4f} ± {plus_minus:.5f}  " + interval
        print(form.format(**found["figures"]["ppl"]))


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF file, quantized or not")
    p.add_argument(
        "--info", type=Path, required=True, help="its JSON, from model.py or quantize.py"
    )
    p.add_argument("--tokens", type=Path, required=True, help="HDF5 from tokens.py")
    p.add_argument(
        "--tokenized-for",
        type=Path,
        metavar="MODEL",
        help="the GGUF that the tokens were made for, if its vocabulary may differ by padding",
    )
    command.add_options(p, perplexity.Cut)
    command.add_compute(p)
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    p.add_argument("--summary", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
