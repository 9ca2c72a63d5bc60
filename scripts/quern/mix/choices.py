"""Which types each tensor of a mix may have, and the bytes of each."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gguf.gguf_reader import ReaderTensor

from .. import QuernError, llama
from ..quantize import patterns

ALIGNMENT = 32  # bytes to which tensors are padded in a file (GGUF's default)
FLOATS = ("F32", "F16", "BF16")
# Types with tables of points, which are slow to decode on a CPU.
TABLES = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")
# Those that are chosen from where nothing is said: fast or compact ones of their sizes.
TYPES = (
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"),
    *("IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS"),
)


@dataclass(frozen=True)
class Tensor:
    """A tensor of a mix.

    Attributes:
        columns, rows: its shape, the rows of all experts.
        source: its type in the unquantized model.
        types: those that it may have.
    """

    name: str
    columns: int
    rows: int
    source: str
    types: tuple[str, ...]

    @property
    def weights(self) -> int:
        """How many it has."""
        return self.columns * self.rows

    def bytes_as(self, kind: str) -> int:
        """Bytes in a file of this type, with what pads them."""
        block, size = llama.block_size(kind)
        return padded(self.weights // block * size)


def padded(size: int) -> int:
    """Bytes up to where the next tensor begins."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def needs_importances(kind: str) -> bool:
    """Whether ggml cannot quantize to a type without importances."""
    return kind.startswith(("IQ1", "IQ2_X"))


def free_tensors(
    tensors: Mapping[str, ReaderTensor],
    planned: Mapping[str, str],
    types: Sequence[str] = TYPES,
    *,
    importances: Collection[str] = (),
    fixed: Mapping[str, str] | None = None,
    fast_on_cpu: bool = False,
) -> list[Tensor]:
    """The tensors whose types are chosen, in the model's order.

    Args:
        tensors: of the unquantized model.
        planned: the types that llama.cpp would give in some stock mix; what keeps its type there is
            not quantized.
        types: to choose from; a float type is added where a tensor's rows allow none of them.
        importances: names of tensors that have some.
        fixed: types by pattern; the first that matches counts.
        fast_on_cpu: leave out types with tables of points.

    Raises:
        QuernError: a pattern matches no tensor, or a fixed type does not fit.
    """
    patterns_of = list((fixed or {}).items())
    by_tensor = patterns.matched(patterns_of, list(planned))
    found = []
    for name, kind in planned.items():
        tensor, first = tensors[name], by_tensor.get(name)
        source = tensor.tensor_type.name
        if kind == source and not first:
            continue
        columns = int(tensor.shape[0])
        rows = int(tensor.n_elements) // columns
        if first:
            own = [(fixed or {})[first[0]]]
        else:
            own = [
                t
                for t in types
                if not (needs_importances(t) and name not in importances)
                and not (fast_on_cpu and t in TABLES)
            ]
        own = [t for t in own if columns % llama.block_size(t)[0] == 0]
        if first and not own:
            raise QuernError(
                f"fixed: {name} cannot become {(fixed or {})[first[0]]}; its rows of {columns} "
                "weights are no whole blocks of it."
            )
        kept = source if source in FLOATS else "F16"
        found.append(Tensor(name, columns, rows, source, tuple(own) or (kept,)))
    return found
