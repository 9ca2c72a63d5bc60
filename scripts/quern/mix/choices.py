"""Which types each tensor of a mix may have, and the bytes of each."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .. import RecipeError
from ..ggml_types import CHOSEN, TENSOR_TYPES, needs_importances
from ..gguf_files import GgufTensor
from ..gguf_header import ALIGNMENT
from ..quantize import patterns
from ..quantize.tensor_types import KEPT


@dataclass(frozen=True)
class FreeTensor:
    """A tensor of a mix.

    Attributes:
        columns, rows: its shape, the rows of all experts.
        types: those that it may have.
    """

    name: str
    columns: int
    rows: int
    types: tuple[str, ...]

    @property
    def weights(self) -> int:
        """How many it has."""
        return self.columns * self.rows

    def bytes_as(self, kind: str) -> int:
        """Bytes in a file of this type, with what pads them."""
        return padded(TENSOR_TYPES[kind].bytes_of(self.weights))


def padded(size: int) -> int:
    """Bytes up to where the next tensor begins."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def free_tensors(
    tensors: Mapping[str, GgufTensor],
    planned: Mapping[str, str],
    types: Sequence[str] = CHOSEN,
    *,
    importances: Collection[str] = (),
    unused: Collection[str] = (),
    fixed: Mapping[str, str] | None = None,
    fast_on: str = "any",
) -> list[FreeTensor]:
    """The tensors whose types are chosen, in the model's order.

    Args:
        tensors: of the unquantized model.
        planned: the types that llama.cpp would give in some stock mix; what keeps its type there is
            not quantized.
        types: to choose from; a tensor whose rows allow none of them keeps its own.
        importances: names of tensors that have some.
        unused: names of tensors that no graph reads, whose types are the planned ones.
        fixed: types by pattern; the first that matches counts.
        fast_on: `cpu` leaves out types with tables of points.

    Raises:
        RecipeError: a pattern matches no tensor, a fixed type does not fit or lacks importances, or
            llama.cpp keeps the tensor as it is.
    """
    fixed = fixed or {}
    by_tensor = patterns.matched(list(fixed.items()), list(planned))
    found = []
    for name, kind in planned.items():
        tensor, source = tensors[name], tensors[name].tensor_type.name
        wanted = fixed[by_tensor[name][0]] if name in by_tensor else ""
        if kind == source:
            if wanted not in ("", source):
                raise RecipeError(f"fixed: {name} cannot become {wanted}; {KEPT}.")
            continue
        if wanted and needs_importances(wanted, name) and name not in importances:
            raise RecipeError(
                f"fixed: {name} cannot become {wanted}, which needs importances, and there are "
                "none of it; choose another type."
            )
        columns = int(tensor.shape[0])
        allowed = [
            t
            for t in types
            if not (needs_importances(t, name) and name not in importances)
            and not (fast_on == "cpu" and TENSOR_TYPES[t].has_table)
        ]
        own = [wanted] if wanted else [kind] if name in unused else allowed
        own = [t for t in own if TENSOR_TYPES[t].fits(columns)]
        if wanted and not own:
            raise RecipeError(
                f"fixed: {name} cannot become {wanted}; its rows of {columns} weights are no whole "
                "blocks of it."
            )
        rows = int(tensor.n_elements) // columns
        found.append(FreeTensor(name, columns, rows, tuple(own) or (source,)))
    return found
