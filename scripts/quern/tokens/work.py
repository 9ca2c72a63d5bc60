"""A model and the windows that it decodes: checked in one place, whatever is made of them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import QuernError
from ..gguf_files import ModelInfo, beyond_training, require_positions
from ..llama import ONE_THREAD, Model, Way
from ..vocabulary import Common
from .windows import Tokens, Windows

log = logging.getLogger("quern.work")


def share(count: int, part: tuple[int, int]) -> range:
    """The numbers of the k-th, from 1, of n equal parts of so many things; `part` is (k, n)."""
    begin, end = (number * count // part[1] for number in (part[0] - 1, part[0]))
    return range(begin, end)


@dataclass(frozen=True)
class Work:
    """Windows of a text, for a model to decode.

    The log says where they are longer than those that the model was trained on.

    Attributes:
        model: the GGUF file.
        info: what is known of it.
        tokens: the text's.
        n_ctx: tokens per window.
        stride: tokens from the beginning of a window to that of the next; n_ctx where it is None.
        shared: the tokens that the model has in common with the one that the text was tokenized
            for; None where that has the same tokenizer.

    Raises:
        QuernError: the tokens are another tokenizer's, a window has more positions than the model
            learned, the stride does not fit it, or the text has fewer than two.
    """

    model: Path
    info: ModelInfo
    tokens: Tokens
    n_ctx: int = 512
    stride: int | None = None
    shared: Common | None = None

    def __post_init__(self):
        if self.stride is not None and not 0 < self.stride < self.n_ctx:
            raise QuernError(
                f"a stride of {self.stride} does not fit windows of {self.n_ctx}; give 1 to "
                "n_ctx - 1."
            )
        if self.shared is None:
            self.tokens.require_tokenizer(self.info.tokenizer_sha256)
        elif self.shared.said:
            log.warning("%s: %s", self.model, self.shared.said)
        require_positions(self.info, self.n_ctx, self.model)
        self.count()
        if self.beyond_training:
            log.warning("%s", self.beyond_training)

    @property
    def beyond_training(self) -> str:
        """That its windows are longer than those the model was trained on, or nothing."""
        return beyond_training(self.info, self.n_ctx)

    @property
    def origin(self) -> dict[str, str | int]:
        """What every result records of it."""
        return {
            "model_sha256": self.info.sha256,
            "text_sha256": self.tokens.text_sha256,
            "n_ctx": self.n_ctx,
        }

    def count(self, limit: int | None = None) -> int:
        """How many windows the text has, at most `limit`.

        Raises:
            QuernError: there are fewer than two, or the text was cut into others already.
        """
        if self.stride:
            return self.tokens.n_overlapping(self.n_ctx, self.stride, limit)
        return self.tokens.n_windows(self.n_ctx, limit)

    def windows(self, numbers: Sequence[int]) -> Windows:
        """The windows of these numbers, read when they are sliced."""
        return self.tokens.windows(self.n_ctx, numbers, self.stride)

    def opened(self, way: Way = ONE_THREAD, load: str = "mapped") -> Model:
        """The model, with room for such windows; to be closed by `with`."""
        return Model(self.model, way, n_ctx=self.n_ctx, load=load)
