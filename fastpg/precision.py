"""Single precision: a float32 that stays one, whatever it meets.

For Numba ``0.5 * x`` is a float64 even if x is a float32, and so is ``(action - 1) * x``: functions that know
nothing of float32 would compute in float64 all the same. So in lanes of float32 numbers have a type of their
own, `single`, which together with a float64 or an integer gives a `single`, as an array of float32 does with
Python's numbers. It has the bits and the instructions of float32. Where something is to be more precise,
`widened` makes float64 of it.
"""

import math
import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.imputils import impl_ret_borrowed, lower_builtin, lower_cast, lower_constant
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import register_model

from fastpg.dispatch import lowered


class Single(types.Number):
    """The type of a float32 that stays one."""

    bitwidth = 32

    def __init__(self):
        super().__init__("single")

    def unify(self, typing, other):
        """Return itself: a variable that is this in one branch and another number in the other is this."""
        return self if isinstance(types.unliteral(other), types.Number | types.Boolean) else None


single = Single()


@register_model(Single)
class _SingleModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.FloatType())


_unify = types.Number.unify


def _unify_numbers(self, typing, other):
    return other if isinstance(other, Single) else _unify(self, typing, other)


types.Number.unify = _unify_numbers


@lower_cast(Single, types.Float)
@lower_cast(Single, types.Integer)
def _(context, builder, source, target, value):
    return context.cast(builder, value, types.float32, target)


@lower_cast(types.Float, Single)
@lower_cast(types.Integer, Single)
@lower_cast(types.IntegerLiteral, Single)
@lower_cast(types.Boolean, Single)
def _(context, builder, source, target, value):
    return context.cast(builder, value, source, types.float32)


@lower_constant(Single)
def _(context, builder, kind, value):
    return ir.Constant(ir.FloatType(), value)


@lower_builtin(bool, Single)
def _(context, builder, signature, args):
    return context.get_function(bool, types.boolean(types.float32))(builder, args)


_COMPARISONS = operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne
_BINARY = (
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod),
    *(operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod),
    *(math.atan2, math.hypot, math.copysign, math.fmod, *_COMPARISONS),
    *(np.arctan2, np.hypot, np.copysign, np.minimum, np.maximum, np.fmin, np.fmax, np.power),
)
_POWERS = operator.pow, operator.ipow, pow, math.pow
_UNARY = (
    *(
        operator.neg,
        operator.pos,
        abs,
        float,
        math.sqrt,
        math.exp,
        math.expm1,
        math.log,
        math.log1p,
        math.log2,
    ),
    *(math.log10, math.sin, math.cos, math.tan, math.asin, math.acos, math.atan, math.sinh, math.cosh),
    *(math.tanh, math.asinh, math.acosh, math.atanh, math.fabs, math.erf, math.erfc, math.gamma),
    *(math.degrees, math.radians, np.sqrt, np.exp, np.exp2, np.expm1, np.log, np.log1p, np.log2, np.log10),
    *(np.sin, np.cos, np.tan, np.arcsin, np.arccos, np.arctan, np.sinh, np.cosh, np.tanh, np.arcsinh),
    *(np.arccosh, np.arctanh, np.abs, np.fabs, np.floor, np.ceil, np.trunc, np.rint, np.sign, np.square),
    *(np.reciprocal, np.degrees, np.radians, np.deg2rad, np.rad2deg, np.negative, np.positive),
    *(np.isnan, np.isfinite, np.isinf, np.signbit, math.isnan, math.isfinite, math.isinf),
    *(math.floor, math.ceil, math.trunc, round, int, bool),
)


def _like_float32(function, n):
    """Give a function of n numbers the form for `single`: that for float32."""
    numbers = types.Number | types.Boolean

    def narrowed(args):
        if function in _POWERS and isinstance(args[1], types.Integer):
            return types.float32, args[1]
        return (types.float32,) * n

    def resolved(typing, args):
        return typing.resolve_function_type(function, narrowed(args), {})

    class Template(AbstractTemplate):
        key = function

        def generic(self, args, kws):
            plain = [types.unliteral(arg) for arg in args]
            if kws or len(args) != n or single not in plain:
                return None
            if not all(isinstance(arg, numbers) for arg in plain):
                return None
            found = resolved(self.context, plain)
            result = single if isinstance(found.return_type, types.Float) else found.return_type
            return signature(result, *plain)

    def lower(context, builder, signature, args):
        kind = resolved(context.typing_context, signature.args)
        values = [
            context.cast(builder, value, source, target)
            for value, source, target in zip(args, signature.args, kind.args, strict=True)
        ]
        function_type = context.typing_context.resolve_value_type(function)
        result = context.get_function(function_type, kind)(builder, values)
        return context.cast(builder, result, kind.return_type, signature.return_type)

    infer_global(function, types.Function(Template))
    for position in range(n):
        arguments = [types.Any] * n
        arguments[position] = Single
        lower_builtin(function, *arguments)(lower)
    if n > 1:
        lower_builtin(function, *[Single] * n)(lower)


for _function in _UNARY:
    _like_float32(_function, 1)
for _of_two in (*_BINARY, *_POWERS):
    _like_float32(_of_two, 2)


def has_single(ty):
    """Whether there is a `single` in a type, or in a nest of tuples."""
    return any(map(has_single, ty)) if isinstance(ty, types.BaseTuple) else ty == single


def narrowed(value):
    """Return a nest of tuples with `single` for all its floats, in compiled code."""
    return value


def widened(value):
    """Return a nest of tuples with float64 for every `single`, in compiled code."""
    return value


def as_precise_as(theta, value):
    """Return a nest of tuples, `narrowed` if θ is `single`."""
    return value


def lane_parameters(theta):
    """Return θ as lanes have it: `narrowed` if it is a vector of float32."""
    return theta


def _with_floats(ty, sources, target):
    """The type of a nest of tuples with another type in place of some floats."""
    if isinstance(ty, types.BaseTuple):
        items = [_with_floats(item, sources, target) for item in ty]
        return types.BaseTuple.from_types(items, getattr(ty, "instance_class", None))
    return target if isinstance(ty, sources) else ty


def _converted(context, builder, value, ty, wanted):
    if ty == wanted:
        return value
    if not isinstance(ty, types.BaseTuple):
        return context.cast(builder, value, ty, wanted)
    result = cgutils.get_null_value(context.get_value_type(wanted))
    for i, (item, other) in enumerate(zip(ty, wanted, strict=True)):
        part = _converted(context, builder, builder.extract_value(value, i), item, other)
        result = builder.insert_value(result, part, i)
    return result


def _conversion(arguments, wanted):
    def codegen(context, builder, signature, args):
        result = _converted(context, builder, args[-1], arguments[-1], wanted)
        return impl_ret_borrowed(context, builder, wanted, result)

    return wanted(*arguments), codegen


@lowered(narrowed)
def _(typing, value):
    return _conversion((value,), _with_floats(value, types.Float, single))


@lowered(widened)
def _(typing, value):
    return _conversion((value,), _with_floats(value, Single, types.float64))


@lowered(as_precise_as)
def _(typing, theta, value):
    wanted = _with_floats(value, types.Float, single) if has_single(theta) else value
    return _conversion((theta, value), wanted)


@lowered(lane_parameters)
def _(typing, theta):
    of_float32 = isinstance(theta, types.UniTuple) and theta.dtype == types.float32
    return _conversion((theta,), _with_floats(theta, types.Float, single) if of_float32 else theta)
