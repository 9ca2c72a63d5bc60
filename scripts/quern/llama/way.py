"""How a model is run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """How a model is run, under llama.cpp's names and with its defaults, but for `threads`.

    Attributes:
        n_batch: tokens of a decode call, a multiple of those of a graph; no digit depends on it.
        n_ubatch: tokens of a graph; results depend on it in their last digits.
        threads: CPU threads, of all contexts together.
        contexts: how many decode windows side by side, where their logits fit; None leaves it to
            `Model.usual_contexts`.
        gpus: 0 keeps the model on the CPU; more puts as much of it on GPUs as fits, or as many
            layers as LLAMA_ARG_N_GPU_LAYERS says.
    """

    n_batch: int = 2048
    n_ubatch: int = 512
    threads: int = 1
    contexts: int | None = None
    gpus: int = 0

    def graphs(self, n_ctx: int) -> list[int]:
        """Tokens of each graph of a window."""
        batches = [min(self.n_batch, n_ctx - i) for i in range(0, n_ctx, self.n_batch)]
        return [min(self.n_ubatch, n - i) for n in batches for i in range(0, n, self.n_ubatch)]


ONE_THREAD = Way()
