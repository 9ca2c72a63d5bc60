"""What is known of ggml's types, a row each: those of tensors, and those of llama-quantize's files.

All else that depends on a type is a filter of these two tables, but for the blocks' bytes and the
searches, which are in `rounding.layouts` and `rounding.grids`. The order of rows is the order in
which types are tried and named. tests/unit/test_ggml_types.py holds both tables against llama.cpp.
"""

from dataclasses import dataclass

from . import QuernError

NOWHERE, IN_BLOCKS, EVERYWHERE = "nowhere", "in blocks", "everywhere"


@dataclass(frozen=True)
class TensorType:
    """A type of a tensor.

    Attributes:
        name: ggml's, in capitals.
        weights, bytes: of a block (ggml/src/ggml-common.h).
        ns: nanoseconds of a core that llama.cpp takes to quantize a weight to it, see `cost.rates`.
        importances: where it is only quantized with importances. llama.cpp refuses IQ3_XXS without
            in the blocks alone (src/llama-quant.cpp); of others, some abort in the output matrix.
        has_table: whether codes are looked up in a table of points, which is slow on a CPU.
        is_chosen: whether mixes choose from it where nothing is said: it is fast or compact for its
            size.
        is_probe: whether damage is measured in it; the first whose blocks fit a tensor's rows is.
        is_published: whether models are trained and published with such weights, and exist in no
            wider type.
        is_target: whether weights can be brought to it.
        numbers: numpy's name of the numbers that it stores as they are; bfloat16 as its bits.
        file: the type of llama-quantize for a file that mostly consists of it, if named otherwise.
    """

    name: str
    weights: int
    bytes: int
    ns: float = 0.0
    importances: str = NOWHERE
    has_table: bool = False
    is_chosen: bool = False
    is_probe: bool = False
    is_published: bool = False
    is_target: bool = True
    numbers: str = ""
    file: str = ""

    @property
    def is_float(self) -> bool:
        """Whether its weights are floats, so that it is not quantized."""
        return bool(self.numbers) and not self.numbers.startswith("int")

    def fits(self, columns: int) -> bool:
        """Whether rows of so many weights are whole blocks."""
        return columns % self.weights == 0

    def bytes_of(self, weights: int) -> int:
        """The bytes of so many weights, whole blocks."""
        return weights // self.weights * self.bytes

    @property
    def seconds(self) -> float:
        """Of a core, for a weight that llama.cpp quantizes to it."""
        return self.ns * 1e-9


@dataclass(frozen=True)
class QuantizationType:
    """A type of a whole file, as llama-quantize names it.

    Attributes:
        bits: per weight of a file, as llama.cpp's quantize.cpp gives them for Llama 3 8B; a small
            model, which is mostly embeddings, has more.
        base: the tensor type of those weights that it gives no other.
        needs_imatrix: whether llama.cpp refuses to make it without one (src/llama-quant.cpp).
        is_rival: whether mixes are proved beside it.
    """

    name: str
    bits: float
    base: str
    needs_imatrix: bool = False
    is_rival: bool = False

    @property
    def tensor_type(self) -> TensorType:
        """Its base."""
        return TENSOR_TYPES[self.base]


class _Rows(dict):
    """Rows by name; one that is not there is an error in a sentence."""

    def __missing__(self, name: str):
        raise QuernError(f"llama.cpp knows no type {name}; known are {', '.join(self)}.")


TENSOR_TYPES: dict[str, TensorType] = _Rows(
    (row.name, row)
    for row in (
        TensorType("F64", 1, 8, numbers="float64", is_target=False),
        TensorType("F32", 1, 4, ns=1, numbers="float32"),
        TensorType("F16", 1, 2, ns=1, numbers="float16"),
        TensorType("BF16", 1, 2, ns=1, numbers="uint16"),
        TensorType("I8", 1, 1, numbers="int8", is_target=False),
        TensorType("I16", 1, 2, numbers="int16", is_target=False),
        TensorType("I32", 1, 4, numbers="int32", is_target=False),
        TensorType("I64", 1, 8, numbers="int64", is_target=False),
        TensorType("Q2_K", 256, 84, ns=180, is_chosen=True),
        TensorType("Q3_K", 256, 110, ns=100, is_chosen=True, is_probe=True, file="Q3_K_S"),
        TensorType("Q4_K", 256, 144, ns=130, is_chosen=True, file="Q4_K_S"),
        TensorType("Q5_K", 256, 176, ns=150, is_chosen=True, file="Q5_K_S"),
        TensorType("Q6_K", 256, 210, ns=50, is_chosen=True),
        TensorType("Q8_0", 32, 34, ns=4, is_chosen=True),
        TensorType("Q4_0", 32, 18, ns=35, is_chosen=True, is_probe=True),
        TensorType("Q4_1", 32, 20, ns=35, is_chosen=True),
        TensorType("Q5_0", 32, 22, ns=35, is_chosen=True),
        TensorType("Q5_1", 32, 24, ns=35, is_chosen=True),
        TensorType("IQ1_S", 256, 50, 2000, EVERYWHERE, has_table=True),
        TensorType("IQ1_M", 256, 56, 2000, EVERYWHERE, has_table=True),
        TensorType("IQ2_XXS", 256, 66, 1000, EVERYWHERE, has_table=True),
        TensorType("IQ2_XS", 256, 74, 1000, EVERYWHERE, has_table=True, is_chosen=True),
        TensorType("IQ2_S", 256, 82, 1000, EVERYWHERE, has_table=True, is_chosen=True),
        TensorType("IQ3_XXS", 256, 98, 500, IN_BLOCKS, has_table=True, is_chosen=True),
        TensorType("IQ3_S", 256, 110, 500, has_table=True, is_chosen=True),
        TensorType("IQ4_NL", 32, 18, ns=300, is_chosen=True),
        TensorType("IQ4_XS", 256, 136, ns=300, is_chosen=True),
        TensorType("TQ1_0", 256, 54, ns=120),
        TensorType("TQ2_0", 256, 66, ns=120),
        TensorType("MXFP4", 32, 17, ns=120, is_published=True, file="MXFP4_MOE"),
        TensorType("NVFP4", 64, 36, ns=120),
        TensorType("Q1_0", 128, 18, ns=120),
        TensorType("Q2_0", 64, 18, ns=120),
    )
)

QUANTIZATION_TYPES: dict[str, QuantizationType] = _Rows(
    (row.name, row)
    for row in (
        QuantizationType("F32", 32.0, "F32"),
        QuantizationType("F16", 16.0, "F16"),
        QuantizationType("BF16", 16.0, "BF16"),
        QuantizationType("Q2_K", 3.16, "Q2_K", is_rival=True),
        QuantizationType("Q2_K_S", 2.97, "Q2_K", needs_imatrix=True, is_rival=True),
        QuantizationType("Q3_K", 4.0, "Q3_K"),  # this and two more: other names of ..._M
        QuantizationType("Q3_K_S", 3.64, "Q3_K", is_rival=True),
        QuantizationType("Q3_K_M", 4.0, "Q3_K", is_rival=True),
        QuantizationType("Q3_K_L", 4.3, "Q3_K", is_rival=True),
        QuantizationType("Q4_0", 4.66, "Q4_0", is_rival=True),
        QuantizationType("Q4_1", 5.1, "Q4_1", is_rival=True),
        QuantizationType("Q4_K", 4.89, "Q4_K"),
        QuantizationType("Q4_K_S", 4.67, "Q4_K", is_rival=True),
        QuantizationType("Q4_K_M", 4.89, "Q4_K", is_rival=True),
        QuantizationType("Q5_0", 5.6, "Q5_0", is_rival=True),
        QuantizationType("Q5_1", 6.0, "Q5_1", is_rival=True),
        QuantizationType("Q5_K", 5.7, "Q5_K"),
        QuantizationType("Q5_K_S", 5.57, "Q5_K", is_rival=True),
        QuantizationType("Q5_K_M", 5.7, "Q5_K", is_rival=True),
        QuantizationType("Q6_K", 6.57, "Q6_K", is_rival=True),
        QuantizationType("Q8_0", 8.5, "Q8_0", is_rival=True),
        QuantizationType("IQ1_S", 2.01, "IQ1_S", needs_imatrix=True),
        QuantizationType("IQ1_M", 2.15, "IQ1_M", needs_imatrix=True),
        QuantizationType("IQ2_XXS", 2.38, "IQ2_XXS", needs_imatrix=True),
        QuantizationType("IQ2_XS", 2.59, "IQ2_XS", needs_imatrix=True, is_rival=True),
        QuantizationType("IQ2_S", 2.75, "IQ2_XS", needs_imatrix=True, is_rival=True),
        QuantizationType("IQ2_M", 2.93, "IQ2_S", needs_imatrix=True, is_rival=True),
        QuantizationType("IQ3_XXS", 3.25, "IQ3_XXS", needs_imatrix=True, is_rival=True),
        QuantizationType("IQ3_XS", 3.5, "IQ3_S", needs_imatrix=True, is_rival=True),
        QuantizationType("IQ3_S", 3.66, "IQ3_S", is_rival=True),
        QuantizationType("IQ3_M", 3.76, "IQ3_S", is_rival=True),
        QuantizationType("IQ4_NL", 4.68, "IQ4_NL", is_rival=True),
        QuantizationType("IQ4_XS", 4.46, "IQ4_XS", is_rival=True),
        QuantizationType("TQ1_0", 1.9, "TQ1_0"),
        QuantizationType("TQ2_0", 2.3, "TQ2_0"),
        QuantizationType("MXFP4_MOE", 4.4, "MXFP4"),
        QuantizationType("NVFP4", 4.7, "NVFP4"),  # llama.cpp has the name, and makes no such file
        QuantizationType("Q1_0", 1.5, "Q1_0"),
        QuantizationType("Q2_0", 2.5, "Q2_0"),
    )
)

UNQUANTIZED = frozenset(name for name, row in TENSOR_TYPES.items() if row.is_float)
FLOATS = {row.numbers: name for name, row in TENSOR_TYPES.items() if row.is_float}  # by numbers
PUBLISHED = frozenset(name for name, row in TENSOR_TYPES.items() if row.is_published)
# What a model may hold besides floats and still be no quantized one.
AS_PUBLISHED = PUBLISHED | {n for n, row in TENSOR_TYPES.items() if row.numbers.startswith("int")}
CHOSEN = tuple(name for name, row in TENSOR_TYPES.items() if row.is_chosen)
PROBES = tuple(name for name, row in TENSOR_TYPES.items() if row.is_probe)
RIVAL_TYPES = tuple(name for name, row in QUANTIZATION_TYPES.items() if row.is_rival)


def needs_imatrix(kind: str) -> bool:
    """Whether llama.cpp refuses to make a file of this quantization type without one."""
    return QUANTIZATION_TYPES[kind].needs_imatrix


def needs_importances(kind: str, tensor: str = "") -> bool:
    """Whether a tensor can only become this type by importances of its own.

    Args:
        tensor: its name; without one, whether any tensor can only become it so.
    """
    where = TENSOR_TYPES[kind].importances
    return where == EVERYWHERE or (where == IN_BLOCKS and tensor.startswith("blk."))
