"""How fastpg compiles: the jit presets, and methods of NamedTuples inside compiled code.

Environments, policies and estimators are NamedTuples with plain methods. Numba knows the fields of a
NamedTuple but none of its methods; the attribute template below resolves ``env.step(...)`` to the
function on the class, compiled for the argument types. So a kernel reads like Python, dispatches on
types alone (a parameter's value never recompiles anything), and stays a module-level function that
can be cached on disk.
"""

import threading
import types as python_types
from functools import wraps

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.core.callconv import RETCODE_USEREXC, Status, excinfo_ptr_t
from numba.core.datamodel import models
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    make_intrinsic_template,
)
from numba.extending import overload, register_model

from fastpg.cache import KernelCache
from fastpg.parts import PartCompiler

# Never nnan or ninf: a NaN must stay visible (they delete isnan, numba#2919). No reassoc: it may
# cancel the compensated sums of simd.py once they are inlined.
FASTMATH = {"contract", "nsz", "arcp"}


_LINE = 8  # int64 in a cache line: counters of different threads stay on lines of their own
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


exact = _preset(forceinline=True, fastmath=False)
"""Small functions in strict IEEE arithmetic, also where a fast-math function calls them (`fastpg.simd`)."""

inline = _preset(forceinline=True, fastmath=FASTMATH)
"""Small functions of environments, policies and estimators; inlined, so that loops over them vectorise."""

inner = _preset(forceinline=True, fastmath=FASTMATH, **_FOR_CALLERS)
"""The same for functions that only compiled code calls, which compile faster (`fastpg.parts`)."""

outline = _preset(forceinline=False, fastmath=FASTMATH, **_NO_WRAPPERS)
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


class _Parcel(types.Type):
    """The type of a parcel: a pointer to a value on the stack of the kernel."""

    def __init__(self, content):
        self.content = content
        super().__init__(f"parcel of {content}")

    @property
    def key(self):
        """What makes two of them equal: not the name, which two classes may share."""
        return self.content


@register_model(_Parcel)
class _ParcelModel(models.PrimitiveModel):
    def __init__(self, manager, parcel):
        super().__init__(manager, parcel, cgutils.voidptr_t)


def pack(value):
    """Return a parcel of a value, for the way into a parallel region.

    There Numba takes a tuple apart into scalars, an argument each, which is slow to compile, and cannot do it
    with tuples within tuples. A parcel is a single scalar, valid as long as the function that packed it runs.
    """
    return value


def unpack(parcel):
    """Return what is in a parcel."""
    return parcel


@lowered(pack)
def _(typing, value):
    def codegen(context, builder, signature, args):
        return builder.bitcast(cgutils.alloca_once_value(builder, args[0]), cgutils.voidptr_t)

    return _Parcel(value)(value), codegen


@lowered(unpack)
def _(typing, parcel):
    def codegen(context, builder, signature, args):
        place = builder.bitcast(args[0], context.get_value_type(parcel.content).as_pointer())
        return impl_ret_borrowed(context, builder, parcel.content, builder.load(place))

    return parcel.content(parcel), codegen


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


def kernel(function):
    """A function called from Python: parallel over all cores, kept in the on-disk kernel cache."""
    if numba.config.DISABLE_JIT:
        return _c_arithmetic(function)
    return _compiled_kernel(function, parallel=True)


def plain_kernel(function):
    """The same without a parallel region."""
    return _c_arithmetic(function) if numba.config.DISABLE_JIT else _compiled_kernel(function, parallel=False)


def _compiled_kernel(function, parallel):
    options = {"error_model": "numpy", "nogil": True, "fastmath": FASTMATH}
    dispatcher = numba.njit(parallel=parallel, **options)(function)
    dispatcher._cache = KernelCache(function)
    return dispatcher


def in_parallel(function, parcel, n):
    """Call ``function(parcel, i)`` for i = 0, ..., n - 1, on all threads; in a `plain_kernel`.

    Numba compiles everything within its own parallel region four times over. Here the region knows `function`
    by its address alone, and is compiled once for all kernels. Each thread has a share of the calls, the same
    ones whenever n is the same, whose data its cache may still hold; one that is through with its share takes
    calls from the others', so that none waits long for a thread whose core was busy with something else. What
    a call raises in one of Numba's threads would be lost there: here one of the exceptions is raised when all
    calls are done.
    """
    for i in range(n):
        function(parcel, i)


def _call_at(address, parcel, i):
    """Call the compiled function at an address; return where its exception is described, or 0."""


def _count_up(counters, i):
    """Add 1 to an element, in one go for all threads, and return what it was before."""


def _thread_count():
    """Return `numba.get_num_threads()`, with which a kernel could not be kept on disk."""


@inner
def _share(thread, n_threads, n):
    return thread * n // n_threads


@inner
def _take_calls(thread, n_threads, counters, address, parcel, n):
    """Make the calls of a thread's share, then those of others' that nobody has begun."""
    exception = 0
    for k in range(n_threads):
        owner = (thread + k) % n_threads
        end = _share(owner + 1, n_threads, n)
        i = _count_up(counters, owner * _LINE)
        while i < end:
            exception = max(exception, _call_at(address, parcel, i))
            i = _count_up(counters, owner * _LINE)
    return exception


@kernel
def _call_in_parallel(address, parcel, n):
    n_threads = min(n, _thread_count())
    counters = np.empty(n_threads * _LINE, np.int64)
    exceptions = np.empty(n_threads, np.int64)
    for thread in range(n_threads):
        counters[thread * _LINE] = _share(thread, n_threads, n)
    for thread in prange(n_threads):
        exceptions[thread] = _take_calls(thread, n_threads, counters, address, parcel, n)
    exception = 0
    for thread in range(n_threads):
        exception = max(exception, exceptions[thread])
    return exception


@lowered(_thread_count)
def _(typing):
    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(64), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "get_num_threads"), [])

    return types.intp(), codegen


@lowered(_count_up)
def _(typing, counters, i):
    def codegen(context, builder, signature, args):
        data = context.make_array(counters)(context, builder, args[0]).data
        place = builder.gep(data, [args[1]], inbounds=True)
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counters, types.intp), codegen


@lowered(_call_at)
def _(typing, address, parcel, i):
    def codegen(context, builder, signature, args):
        arguments = (types.voidptr, types.intp)
        kind = context.call_conv.get_function_type(types.none, arguments)
        function = builder.inttoptr(args[0], kind.as_pointer())
        values = [builder.inttoptr(args[1], cgutils.voidptr_t), args[2]]
        status, _ = context.call_conv.call_function(builder, function, types.none, arguments, values)
        exception = builder.ptrtoint(status.excinfoptr, ir.IntType(64))
        return builder.select(status.is_error, exception, ir.Constant(exception.type, 0))

    return types.intp(types.intp, types.intp, types.intp), codegen


@lowered(in_parallel)
def _(typing, function, parcel, n):
    region = typing.resolve_value_type(_call_in_parallel)
    call_region = region.get_call_type(typing, (types.intp,) * 3, {})
    call_function = function.get_call_type(typing, (parcel, types.intp), {})

    def codegen(context, builder, signature, args):
        compiled = function.dispatcher.overloads[call_function.args]
        context.add_linking_libs([compiled.library])
        address = context.declare_function(builder.module, compiled.fndesc)
        places = [builder.ptrtoint(place, ir.IntType(64)) for place in (address, args[1])]
        exception = context.get_function(region, call_region)(builder, [*places, args[2]])
        raised = Status(
            code=RETCODE_USEREXC,
            excinfoptr=builder.inttoptr(exception, excinfo_ptr_t),
            **dict.fromkeys(Status._fields[1:-1]),
        )
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, exception)):
            context.call_conv.return_status_propagate(builder, raised)
        return context.get_dummy_value()

    return types.void(function, parcel, types.intp), codegen


# The workqueue threading layer aborts the process when two threads enter it (numba#8563).
_kernel_lock = threading.Lock()


class kernel_threads:
    """Within it, kernels run on at most that many threads (None: as many as Numba is set to use)."""

    def __init__(self, threads):
        self.threads = threads

    def __enter__(self):
        _kernel_lock.acquire()
        if self.threads is not None:
            self.before = numba.get_num_threads()
            numba.set_num_threads(min(self.threads, self.before))

    def __exit__(self, *error):
        if self.threads is not None:
            numba.set_num_threads(self.before)
        _kernel_lock.release()


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
