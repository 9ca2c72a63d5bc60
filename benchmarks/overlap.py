"""How many near-duplicates and quotations are found, by how much of the text is changed.

Out: a Markdown table. Half of the demo's text, in pieces, is for evaluation. The pool is the other
half, and each piece for evaluation with a share of its words replaced by words of other pieces: by
itself, and inside eight pieces of the pool.
"""

import argparse
import json
import random

import record
from peer import DEMO_TEXT

from quern.corpus.overlap import Overlap


def pieces(length: int) -> list[str]:
    """The demo's text, in pieces of about so many characters."""
    found = []
    for line in DEMO_TEXT.read_text().splitlines():
        words = json.loads(line)["text"].split()
        text = " ".join(words)
        found += [text[i : i + length] for i in range(0, len(text) - length, length)]
    return found


def changed(text: str, share: float, words: list[str], rng: random.Random) -> str:
    """The text with a share of its words replaced by others."""
    return " ".join(rng.choice(words) if rng.random() < share else word for word in text.split())


def main(arguments):
    rng = random.Random(arguments.seed)
    texts = pieces(arguments.length)
    rng.shuffle(texts)
    evaluation, others = texts[: len(texts) // 2], texts[len(texts) // 2 :]
    words = " ".join(others).split()
    overlap = Overlap([text.encode() for text in evaluation], arguments.similarity)

    def found(pool):
        return sum(overlap.match(text.encode()) is not None for text in pool) / len(pool)

    lines = [
        f"{len(evaluation)} pieces of {arguments.length} characters; "
        f"{found(others):.1%} of the {len(others)} others are found.\n",
        "| words replaced | found by itself | found in 8 others |\n| ---: | ---: | ---: |",
    ]
    for share in (0, 0.01, 0.02, 0.05, 0.1, 0.2):
        copies = [changed(text, share, words, rng) for text in evaluation]
        inside = [" ".join([*rng.sample(others, 4), t, *rng.sample(others, 4)]) for t in copies]
        lines.append(f"| {share:.0%} | {found(copies):.1%} | {found(inside):.1%} |")
    record.show("\n".join(lines), "corpora", "overlap", record=arguments.record)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--length", type=int, default=2000, help="characters of a piece")
    p.add_argument("--similarity", type=float, default=0.7)
    p.add_argument("--seed", type=int, default=0)
    record.add_option(p)
    main(p.parse_args())
