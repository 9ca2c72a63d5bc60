"""Vectors of sixteen float32 lanes in LLVM's language; numba has no vectors.

`Vector` and `Array` write LLVM instructions for the `intrinsic`s of `lanes` and `offset_lanes`.
LLVM turns them into the widest instructions that the processor has.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

LANES = 16
FLOAT, INT = ir.FloatType(), ir.IntType(32)
VECTOR, INDEX = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)
MAGIC = 1.5 * 2**23  # adding it rounds to an integer, left in the low bits


class Vector:
    """A vector in the making; arithmetic on it writes instructions."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    @classmethod
    def constant(cls, builder, number):
        return cls(builder, ir.Constant(VECTOR, [ir.Constant(FLOAT, float(number))] * LANES))

    @classmethod
    def broadcast(cls, builder, scalar):
        """The same number in all lanes."""
        nothing, zero = ir.Constant(VECTOR, ir.Undefined), ir.Constant(INT, 0)
        first = builder.insert_element(nothing, scalar, zero)
        zeros = ir.Constant(INDEX, [zero] * LANES)
        return cls(builder, builder.shuffle_vector(first, nothing, zeros))

    @classmethod
    def load(cls, builder, address):
        pointer = builder.bitcast(address, VECTOR.as_pointer())
        return cls(builder, builder.load(pointer, align=4))

    def store(self, address):
        pointer = self.builder.bitcast(address, VECTOR.as_pointer())
        self.builder.store(self.value, pointer, align=4)

    def _with(self, value):
        return Vector(self.builder, value)

    def _as_vector(self, other):
        return other if isinstance(other, Vector) else self.constant(self.builder, other)

    def __add__(self, other):
        return self._with(self.builder.fadd(self.value, self._as_vector(other).value))

    def __sub__(self, other):
        return self._with(self.builder.fsub(self.value, self._as_vector(other).value))

    def __mul__(self, other):
        return self._with(self.builder.fmul(self.value, self._as_vector(other).value))

    def __truediv__(self, other):
        return self._with(self.builder.fdiv(self.value, self._as_vector(other).value))

    def __neg__(self):
        return self._with(self.builder.fneg(self.value))

    def __lt__(self, other):
        return self._with(self.builder.fcmp_ordered("<", self.value, self._as_vector(other).value))

    def __gt__(self, other):
        return self._as_vector(other) < self

    def __and__(self, other):
        return self._with(self.builder.and_(self.value, other.value))

    def __or__(self, other):
        return self._with(self.builder.or_(self.value, other.value))

    def __invert__(self):
        return self._with(self.builder.not_(self.value))

    def times_plus(self, factor, summand):
        """self · factor + summand, rounded once."""
        signature = ir.FunctionType(VECTOR, [VECTOR] * 3)
        name = f"llvm.fma.v{LANES}f32"
        fma = cgutils.get_or_insert_function(self.builder.module, signature, name)
        values = [self.value, self._as_vector(factor).value, self._as_vector(summand).value]
        return self._with(self.builder.call(fma, values))

    def where(self, condition, other):
        """self where the condition holds, else the other."""
        other = self._as_vector(other)
        return self._with(self.builder.select(condition.value, self.value, other.value))

    def at_least(self, other):
        other = self._as_vector(other)
        return self.where(self > other, other)

    def at_most(self, other):
        other = self._as_vector(other)
        return self.where(self < other, other)

    def low_bits(self):
        """The integers that adding MAGIC left, from 0 to 15."""
        mask = ir.Constant(INDEX, [ir.Constant(INT, LANES - 1)] * LANES)
        return self.builder.and_(self.builder.bitcast(self.value, INDEX), mask)

    def lookup(self, index):
        """self[index], lane by lane; one instruction where there is one."""
        found = ir.Constant(VECTOR, ir.Undefined)
        for lane in range(LANES):
            at = ir.Constant(INT, lane)
            value = self.builder.extract_element(
                self.value, self.builder.extract_element(index, at)
            )
            found = self.builder.insert_element(found, value, at)
        return self._with(found)

    def least(self):
        """The smallest of the lanes, a scalar."""
        signature = ir.FunctionType(FLOAT, [VECTOR])
        name = f"llvm.vector.reduce.fmin.v{LANES}f32"
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, [self.value], fastmath=("nnan",))

    def total(self):
        """The sum of the lanes, a scalar."""
        signature = ir.FunctionType(FLOAT, [FLOAT, VECTOR])
        name = f"llvm.vector.reduce.fadd.v{LANES}f32"
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        zero = ir.Constant(FLOAT, -0.0)
        return self.builder.call(function, [zero, self.value], fastmath=("reassoc",))

    def bits(self):
        """A comparison as a number, a bit for each lane."""
        number = self.builder.bitcast(self.value, ir.IntType(LANES))
        return self.builder.zext(number, ir.IntType(64))


def passed(context, builder, types_, values):
    """What was passed to an intrinsic: an `Array`, a named tuple of such, or a number as it is."""

    def one(type_, value):
        if isinstance(type_, types.Array):
            return Array(context, builder, type_, value)
        if isinstance(type_, types.BaseNamedTuple):
            fields = cgutils.unpack_tuple(builder, value, len(type_))
            return type_.instance_class(*map(one, type_.types, fields))
        return value

    return [one(type_, value) for type_, value in zip(types_, values, strict=True)]


class Array:
    """A contiguous array that was passed to an intrinsic."""

    def __init__(self, context, builder, type_, value):
        self.builder, array = builder, context.make_array(type_)(context, builder, value)
        self.data = array.data
        self.columns = cgutils.unpack_tuple(builder, array.shape, type_.ndim)[-1]

    def address(self, index, row=0):
        """Of a column; the row is a number or a value of the program."""
        row = ir.Constant(self.columns.type, row) if isinstance(row, int) else row
        before = self.builder.mul(self.columns, row)
        return self.builder.gep(self.data, [self.builder.add(index, before)])

    def scalar(self, index):
        return self.builder.load(self.address(index))

    def vector(self, index, row=0):
        return Vector.load(self.builder, self.address(index, row))


class Variable:
    """A place for a vector, read and written over and over."""

    def __init__(self, vector: Vector):
        self.builder = vector.builder
        self.place = cgutils.alloca_once_value(self.builder, vector.value)

    def get(self) -> Vector:
        return Vector(self.builder, self.builder.load(self.place))

    def set(self, vector: Vector) -> None:
        self.builder.store(vector.value, self.place)
