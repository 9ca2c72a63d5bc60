"""The tokens of documents one by one: mixed in proportion, in an order, through a chat template.

Documents are tokenized into a spool on disk. To mix sources, or for windows in random order, the
tokens of each source are cut into windows. Their order is computed from numbers alone; then the
windows are copied into the token file. Each window begins with BOS, so no context is lost where
the source changes, and each window is of one source. A document's tokens are those of its text and
of the empty line after it, or of what the chat template makes of it.
"""

import hashlib
import json
import logging
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from .. import QuernError, files
from ..corpus import report
from ..gguf_files import ModelInfo
from ..llama import VERSION, Model
from . import windows
from .chat import ChatTemplate
from .order import interleave, shuffled
from .windows import TokenWriter

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("quern.mixture")

COLUMNS = ("source", "tokens", "weight", "left", "refused", "first_refused")
BETWEEN = b"\n\n"  # documents, as in the text of a part
MOST_REFUSED = 0.5  # of the documents; a template that refuses more is not for this corpus
NAMED = 5  # refused documents of a source that the log names


@dataclass(frozen=True)
class Mixing:
    """How a part's documents become one stream of tokens.

    Attributes:
        weights: the share of each source; empty for documents as they come.
        window: tokens per window where windows are put in an order; 0 for one stream.
        random: windows are in random order within their source, not in that of the documents.
        seed: decides that order.
        special: parse special tokens in the text.
        template: render each document through it; None for plain text.
    """

    weights: dict[str, float] = field(default_factory=dict)
    window: int = 0
    random: bool = False
    seed: int = 0
    special: bool = False
    template: ChatTemplate | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the part's text, as it is, gives the same stream."""
        return not (self.weights or self.window or self.template)

    def sha256(self, text_sha256: str) -> str:
        """Hash of the text and of what is made of it."""
        template = self.template.sha256 if self.template else None
        weights = list(self.weights.values())
        facts = [text_sha256, weights, self.window, self.random, self.seed, template]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def plan_of(corpus: dict, part: str, n_ctx: int, template: ChatTemplate | None) -> Mixing:
    """The plan for a part of a corpus, from its `corpus.json`.

    Args:
        n_ctx: tokens per window.

    Raises:
        QuernError: a source with a weight has nothing in the part, or conversations were kept for a
            template and there is none.
    """
    if corpus.get("chat_template") and template is None:
        raise QuernError(
            f"corpus {corpus['corpus']} was built with --chat-template, which keeps the roles of "
            "conversations in the text; give --chat-template here too, or build it without."
        )
    weights = {}
    for label, source in corpus["sources"].items():
        if source["weight"] is None or source["part"] not in ("", part):
            continue
        if source[part]["documents"] == 0:
            raise QuernError(
                f"source {label}: nothing of it is in the {part} of corpus {corpus['corpus']}, "
                "so it cannot have its share; give it more text, or change evaluation_characters."
            )
        weights[label] = source["weight"]
    random_windows = part == "pool" and corpus["order"] == "random-windows"
    return Mixing(
        weights=weights,
        window=n_ctx if random_windows or weights else 0,
        random=random_windows,
        seed=corpus["seed"],
        special=template is not None,
        template=template,
    )


def write_tokens(
    model: Path,
    info: ModelInfo,
    text: Path,
    output: Path,
    *,
    documents: Path | None = None,
    corpus: Path | None = None,
    n_ctx: int = 512,
    special: bool = False,
    chat_template: bool = False,
    neutralize: bool = False,
) -> tuple[dict, list[dict]]:
    """Tokenize a part of a corpus, or any text, into `output` (HDF5).

    Returns:
        Facts of the tokens, and a row for each source. The facts hold no names of sources, which
        are labels: what is computed from the tokens depends on the facts.

    Args:
        documents: the corpus's table, to know each token's source.
        corpus: the corpus's `corpus.json`, to mix its sources as it says.
        n_ctx: tokens per window that is mixed.
        special: parse special tokens in the text, instead of taking them as text.
        chat_template: render each document through the model's own, and parse special tokens.
        neutralize: let texts of special tokens within messages stay texts.

    Raises:
        QuernError: as for `plan_of`, `windows.tokenize_text` and `tokenize_documents`.
    """
    table = windows.read_documents(documents, text)
    template = ChatTemplate.read(model, neutralize=neutralize) if chat_template else None
    if corpus is None:
        plan = Mixing(special=special or chat_template, template=template)
    else:
        facts = files.read_json(corpus)
        report.require_whole(facts, text, documents)
        plan = plan_of(facts, text.stem, n_ctx, template)
        plan = replace(plan, special=plan.special or special)
    left, rendered = {}, Rendered()
    with Model(model, load="vocab") as tokenizer:
        by = tokenizer, info.tokenizer_sha256
        if plan.is_plain:
            windows.tokenize_text(*by, text, output, table, special=plan.special)
        elif table is None:
            raise QuernError("mixing and chat templates need --documents.")
        else:
            left = tokenize_documents(*by, text, output, table, plan, rendered)
    tokens = windows.read_tokens(output)
    facts = {
        "tokens": tokens.count,
        "bos": tokens.bos,
        "text_sha256": tokens.text_sha256,
        "tokenizer_sha256": tokens.tokenizer_sha256,
        "special": plan.special,
        "llama_cpp_python": VERSION,
        "mixed_windows": plan.window,
        "chat_template": template
        and {
            "sha256": template.sha256,
            "text": template.source,
            "refused": rendered.refused.total(),
            "mentions": rendered.mentions,
        },
    }
    rows = [
        {
            "source": name,
            "tokens": count,
            "weight": plan.weights.get(name),
            "left": left.get(name, 0),
            "refused": rendered.refused[name],
            "first_refused": rendered.first.get(name, ""),
        }
        for name, count in tokens.by_source().items()
    ]
    return facts, rows


@dataclass
class Rendered:
    """What became of documents in a chat template.

    Attributes:
        refused: how many of each source the template refused, or printed nothing for.
        first: the first of each, its number and why.
        mentions: how many name a control token, which their text becomes unless neutralized.
    """

    refused: Counter = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    mentions: int = 0

    def refuse(self, source: str, number: int, reason: str) -> None:
        """Note a document that has no tokens, and why."""
        self.refused[source] += 1
        self.first.setdefault(source, f"document {number}: {reason}")
        if self.refused[source] <= NAMED:
            log.warning("source %s: document %d: %s", source, number, reason)

    def end(self, documents: int, neutralized: bool) -> None:
        """Say what there is to say.

        Raises:
            QuernError: too many documents were refused.
        """
        refused = self.refused.total()
        if refused > MOST_REFUSED * documents:
            source, first = next(iter(self.first.items()))
            raise QuernError(
                f"the chat template refuses {refused} of {documents} documents, or prints nothing "
                f"for them: source {source}: {first}"
            )
        if refused:
            log.warning("%d of %d documents are left out", refused, documents)
        if self.mentions and not neutralized:
            log.warning(
                "%d documents name control tokens, and that text becomes the token, as it does in "
                "use; neutralize_special keeps it as text",
                self.mentions,
            )


def tokenize_documents(
    model: Model,
    tokenizer_sha256: str,
    text: Path,
    output: Path,
    documents: "pd.DataFrame",
    plan: Mixing,
    rendered: Rendered | None = None,
) -> dict[str, int]:
    """Tokenize the documents of a text into `output` as the plan says.

    Args:
        documents: where each begins (`offset`, bytes), its `bytes`, its `source` (categorical).
        rendered: takes what became of them in the plan's chat template.

    Returns:
        Tokens of each source that the proportions left over.

    Raises:
        QuernError: the template fails for too many, or no source has as much as one window.
    """
    names = list(documents.source.cat.categories)
    groups = documents.source.cat.codes.to_numpy()
    if plan.weights:  # then windows are cut from each source by itself
        in_groups = np.argsort(groups, kind="stable")
        documents, groups = documents.iloc[in_groups], groups[in_groups]
    with tempfile.TemporaryFile(dir=output.parent) as spool:
        counts = _spool(model, text, documents, plan, spool, rendered or Rendered())
        begins = np.cumsum(counts) - counts
        start, sizes, group = begins, counts, groups
        if plan.window:
            width = plan.window - bool(model.add_bos)
            start, sizes, group = _windows(begins, counts, groups, width, names, plan)
        order = np.arange(len(start))
        if plan.weights:
            weights = np.array([plan.weights[name] for name in names])
            order = interleave(sizes, group, weights)
        sha256 = plan.sha256(files.sha256(text))
        with TokenWriter(output, model, tokenizer_sha256, sha256, names, plan.special) as writer:
            writer.attributes["n_ctx"] = plan.window
            bos = np.array([model.bos] * bool(plan.window and model.add_bos), np.int32)
            _copy(spool, start[order], sizes[order], begins, groups, bos, writer)
    used = np.bincount(group[order], sizes[order], minlength=len(names))
    left = np.bincount(groups, counts, minlength=len(names)) - used
    if plan.random and not plan.weights:
        return {}  # windows reach across sources; only an unfinished one is left over
    return {name: int(n) for name, n in zip(names, left, strict=True)}


def _spool(model, text, documents, plan, spool, rendered) -> np.ndarray:
    """Write each document's tokens to the spool; how many there are, int64 [documents]."""
    render = plan.template.renderer() if plan.template else None
    counts = np.empty(len(documents), np.int64)
    places = zip(documents.offset, documents.bytes, documents.source, strict=True)
    total = int(documents.bytes.sum())
    with (
        open(text, "rb") as file,
        tqdm(total=total, unit="B", unit_scale=True, desc="tokenize", disable=None) as bar,
    ):
        for i, (offset, size, source) in enumerate(places):
            file.seek(offset)
            content = file.read(size)
            bar.update(size)
            if render:
                document = content.decode()
                rendered.mentions += bool(plan.template.mentions(document))
                try:
                    content = render(document).encode()
                except QuernError as error:
                    content, reason = b"", str(error)
                else:
                    reason = "the chat template prints nothing."
                if not content.strip():
                    rendered.refuse(source, int(documents.index[i]), reason)
                    content = b""
            else:
                content += BETWEEN
            tokens = model.tokenize(content, special=plan.special)
            spool.write(tokens.tobytes())
            counts[i] = len(tokens)
    if render:
        rendered.end(len(documents), plan.template.neutralize)
    return counts


def _windows(begins, counts, groups, width, names, plan):
    """Whole windows of `width` tokens: their begins in the spool, sizes and groups.

    Where sources have weights, each is cut by itself, else the whole stream. A window may then
    reach across sources, and its group does not matter.
    """
    if plan.weights:
        edges = np.flatnonzero(np.diff(groups, prepend=-1, append=-1))
        spans = [(begins[a], begins[b - 1] + counts[b - 1], groups[a]) for a, b in pairwise(edges)]
    else:
        spans = [(0, counts.sum(), 0)]
    start, group = [], []
    for first, last, number in spans:
        whole = int(last - first) // width
        name = names[number] if plan.weights else ""
        if whole == 0:
            raise QuernError(
                f"source {name}: its {last - first} tokens are too few for a window of {width}; "
                "give it more text or use a smaller n_ctx."
            )
        order = shuffled(whole, plan.seed, str(number)) if plan.random else np.arange(whole)
        start.append(first + width * order)
        group.append(np.full(whole, number))
    start, group = np.concatenate(start), np.concatenate(group)
    return start, np.full(len(start), width), group


def _copy(spool, start, sizes, begins, groups, bos, writer: TokenWriter) -> None:
    """Copy stretches of the spool, `bos` before each, with the source of each token."""
    tokens, labels, waiting = [], [], 0
    for first, size in zip(start.tolist(), sizes.tolist(), strict=True):
        spool.seek(4 * first)
        own = np.frombuffer(spool.read(4 * size), np.int32)
        low, high = np.searchsorted(begins, [first, first + size - 1], side="right") - 1
        if (groups[low : high + 1] == groups[low]).all():
            label = np.full(size, groups[low])
        else:
            label = groups[np.searchsorted(begins, np.arange(first, first + size), "right") - 1]
        if len(bos):
            own = np.concatenate([bos, own])
            label = np.concatenate([label[:1], label])
        tokens.append(own)
        labels.append(label.astype(np.uint8))
        waiting += len(own)
        if waiting > 1 << 20:
            writer.append(np.concatenate(tokens), np.concatenate(labels))
            tokens, labels, waiting = [], [], 0
    if waiting:
        writer.append(np.concatenate(tokens), np.concatenate(labels))
