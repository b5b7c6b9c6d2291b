"""The parallel region: calls shared out among threads, and what travels there.

Numba compiles everything within its own parallel region four times over. Here the region knows what it calls
by its address alone, and is compiled once for all kernels; its data come in a parcel, a pointer.
"""

import os
import threading

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.core.callconv import RETCODE_USEREXC, Status, excinfo_ptr_t
from numba.core.datamodel import models
from numba.core.imputils import impl_ret_borrowed
from numba.extending import register_model

from fastpg.dispatch import inner, kernel, lowered

_LINE = 8  # int64 in a cache line: counters of different threads stay on lines of their own


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


def in_parallel(function, parcel, n):
    """Call ``function(parcel, i)`` for i = 0, ..., n - 1, on all threads; in a `plain_kernel`.

    Each thread has a share of the calls, the same
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
_process = {"parallel": False, "forked": False}  # has it run a parallel region; is it a fork of one that had


def _after_fork():
    global _kernel_lock
    _kernel_lock = threading.Lock()
    _process["forked"] = _process["parallel"]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_forked():
    """Return whether GNU OpenMP would end this process if it were to run a kernel."""
    if not _process["forked"] or numba.threading_layer() != "omp":
        return False
    from numba.np.ufunc import omppool  # loaded by now

    return omppool.openmp_vendor == "GNU"


class kernel_threads:
    """Within it, kernels run on at most that many threads (None: as many as Numba is set to use).

    Raises
    ------
    RuntimeError
        In a process that was forked from one in which a kernel had run, with GNU OpenMP.
    """

    def __init__(self, threads):
        self.threads = threads

    def __enter__(self):
        if is_forked():
            raise RuntimeError(
                "this process was forked from one that had used fastpg's threads, which GNU OpenMP does not "
                "survive: start worker processes by multiprocessing.get_context('spawn') or 'forkserver'"
            )
        _kernel_lock.acquire()
        _process["parallel"] = True
        if self.threads is not None:
            self.before = numba.get_num_threads()
            numba.set_num_threads(min(self.threads, self.before))

    def __exit__(self, *error):
        if self.threads is not None:
            numba.set_num_threads(self.before)
        _kernel_lock.release()
