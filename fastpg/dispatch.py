"""How fastpg compiles: the jit presets, and methods of NamedTuples inside compiled code.

Environments, policies and estimators are NamedTuples with plain methods. Numba knows the fields of a
NamedTuple but none of its methods; the attribute template below resolves ``env.step(...)`` to the
function on the class, compiled for the argument types. So a kernel reads like Python, dispatches on
types alone (a parameter's value never recompiles anything), and stays a module-level function that
can be cached on disk.
"""

import gc
import types as python_types
from functools import wraps

import numba
import numpy as np
from numba import types
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    make_intrinsic_template,
)
from numba.extending import overload, register_model

from fastpg.cache import KernelCache
from fastpg.parts import OutlineCompiler, PartCompiler

# Never nnan or ninf: a NaN must stay visible (they delete isnan, numba#2919). No reassoc: it may
# cancel the compensated sums of simd.py once they are inlined.
FASTMATH = {"contract", "nsz", "arcp"}


_NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_FOR_CALLERS = {**_NO_WRAPPERS, "pipeline_class": PartCompiler}


def _c_arithmetic(function):
    """Overflow, division by zero and NaN as compiled code has them: silently (NUMBA_DISABLE_JIT only)."""

    @wraps(function)
    def quiet(*args):
        with np.errstate(all="ignore"):
            return function(*args)

    return quiet


def _preset(**options):
    """A jit decorator with fixed options; ordinary Python where the jit is disabled."""

    def decorate(function):
        if numba.config.DISABLE_JIT:
            return _c_arithmetic(function)
        return numba.njit(error_model="numpy", nogil=True, **options)(function)

    return decorate


def _for_all(**options):
    """The same for functions that Python calls, too; for compiled code they are parts, as `inner`."""
    whole, part = _preset(**options), _preset(**options, **_FOR_CALLERS)

    def decorate(function):
        dispatcher = whole(function)
        if not numba.config.DISABLE_JIT:
            for_callers = part(function)
            dispatcher.get_call_template = for_callers.get_call_template
            dispatcher.get_overload = for_callers.get_overload
        return dispatcher

    return decorate


exact = _for_all(forceinline=True, fastmath=False)
"""Small functions in strict IEEE arithmetic, also where a fast-math function calls them (`fastpg.simd`)."""

inline = _for_all(forceinline=True, fastmath=FASTMATH)
"""Small functions of environments, policies and estimators; inlined, so that loops over them vectorise."""

inner = _preset(forceinline=True, fastmath=FASTMATH, **_FOR_CALLERS)
"""The same for functions that only compiled code calls, which compile faster (`fastpg.parts`)."""

driver = _preset(forceinline=False, fastmath=FASTMATH, **_FOR_CALLERS)
"""Functions that compiled code calls and that are not inlined, which hold no loop over lanes themselves."""

outline = _preset(forceinline=False, fastmath=FASTMATH, pipeline_class=OutlineCompiler, **_NO_WRAPPERS)
"""Functions that compiled code calls and that are not inlined."""


def compiled_form(function, options=None):
    """Decorate an overload: what `function`, ordinary Python, is in compiled code; inlined like `inline`."""
    options = options or {"forceinline": True, "error_model": "numpy", "fastmath": FASTMATH}
    return overload(function, jit_options=options | _FOR_CALLERS)


def compiled_as(function):
    """Decorate the function that stands for `function`, ordinary Python, in compiled code."""

    def register(implementation):
        python = getattr(implementation, "py_func", implementation)
        compiled_form(function)(wraps(python)(lambda *args: python))
        return implementation

    return register


def lowered(function):
    """Decorate what `function`, ordinary Python, is in compiled code: instructions in its caller.

    The decorated ``definition(typing_context, *types)`` returns a signature and a code generator, as for
    `numba.extending.intrinsic`. Nothing is compiled apart from the caller, which for a function of a few
    instructions takes Numba some 50 ms.
    """

    def register(definition):
        template = make_intrinsic_template(function, definition, function.__name__)
        infer_global(function, types.Function(template))
        return definition

    return register


def compiled_only(function):
    """Decorate the name of what is there in compiled code only: called from ordinary Python, it raises."""

    @wraps(function)
    def refuse(*args):
        raise NotImplementedError("for compiled code")

    return refuse


_namesakes: dict = {}
_aliases: dict = {}


def distinct(value):
    """Return a NamedTuple so that Numba's dispatchers tell its class from another of the same name.

    They recognise a NamedTuple by the names of its class and fields, so one defined again (as in a notebook)
    would run the first one's code. Any class but the first of its name goes under an alias.
    """
    cls = type(value)
    if cls not in _aliases:
        namesakes = _namesakes.setdefault((cls.__name__, cls._fields), [])
        namesakes.append(cls)
        number = len(namesakes)
        name = f"{cls.__name__}_{number}"
        _aliases[cls] = (
            cls if number == 1 else type(name, (cls,), {"__slots__": (), "__module__": cls.__module__})
        )
    alias = _aliases[cls]
    return value if alias is cls else tuple.__new__(alias, value)


def kernel(function, fastmath=FASTMATH):
    """A function called from Python, kept in the on-disk kernel cache."""
    if numba.config.DISABLE_JIT:
        return _c_arithmetic(function)
    options = {"error_model": "numpy", "nogil": True, "fastmath": fastmath, "no_cfunc_wrapper": True}
    dispatcher = numba.njit(**options)(function)
    dispatcher._cache = KernelCache(function)
    dispatcher._compiler.compile = _without_garbage_collection(dispatcher._compiler.compile)
    return dispatcher


_INTERPRETED = 2**15  # numbers, which take some 10 ms; to compile a kernel takes a third of a second


def late_kernel(function):
    """The same for what is done in no time: interpreted until it has been called for many numbers in arrays.

    Compiled in strict arithmetic, so that both have the same bits.
    """
    if numba.config.DISABLE_JIT:
        return _c_arithmetic(function)
    compiled, interpreted = kernel(function, fastmath=False), _c_arithmetic(function)
    seen = 0

    @wraps(function)
    def either(*args):
        nonlocal seen
        if seen <= _INTERPRETED:
            seen += sum(arg.size for arg in args if isinstance(arg, np.ndarray))
        return (interpreted if seen <= _INTERPRETED else compiled)(*args)

    either.compiled = compiled
    return either


def _without_garbage_collection(function):
    """Compiling makes a million objects that stay; looking through them took a tenth of the time."""

    @wraps(function)
    def call(*args):
        if not gc.isenabled():
            return function(*args)
        try:
            gc.disable()
            return function(*args)
        finally:
            gc.enable()

    return call


def compiled_for(function, arguments):
    """Return a `kernel` as it is compiled for the types of some arguments.

    Calling that saves looking at the types again, some microseconds for nested tuples; arguments of other
    types are the caller's mistake.
    """
    return function.compile(tuple(map(numba.typeof, arguments)))


# The type of a NamedTuple without fields has length 0 and would count as false where Numba asks whether
# a call has a receiver.
types.BaseNamedTuple.__bool__ = lambda self: True

_compiled_methods: dict = {}


def apart(method):
    """Decorate a long method of a NamedTuple: in compiled code it is not inlined."""
    method.apart = True
    return method


class _BoundMethod(types.BoundFunction):
    """The type of ``named_tuple.method``: a function on the class with its first argument bound."""

    def __init__(self, method, this):
        if method not in _compiled_methods:
            _compiled_methods[method] = (outline if hasattr(method, "apart") else inner)(method)
        self.dispatcher_type = dispatcher_type = types.Dispatcher(_compiled_methods[method])

        class Template(AbstractTemplate):
            key = method

            def generic(self, args, kws):
                signature = dispatcher_type.get_call_type(self.context, (this, *args), kws)
                return signature.as_method()

        super().__init__(Template, this)

    def get_impl_key(self, sig):
        return self.dispatcher_type.get_impl_key(sig)


@register_model(_BoundMethod)
def _model(manager, bound):
    """In memory a bound method is its first argument, as all bound functions of Numba are."""
    return manager[bound.this]


@infer_getattr
class _NamedTupleMethods(AttributeTemplate):
    """Resolves the methods of a NamedTuple; Numba's own template resolves its fields."""

    key = types.BaseNamedTuple

    def generic_resolve(self, tup, attr):
        method = getattr(tup.instance_class, attr, None)
        if isinstance(method, python_types.FunctionType) and attr not in tup.fields:
            return _BoundMethod(method, tup)
        return None
