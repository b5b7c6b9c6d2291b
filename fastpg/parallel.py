"""The parallel region: calls shared out among threads, and what travels there.

Numba compiles everything within its own parallel region four times over, an eighth of the time of a kernel
even for a few lines. Here the region is written in LLVM's language, stands in the kernel that needs it, and
hands a function to Numba's threads; its data come in a parcel, a pointer.
"""

import os
import threading

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.callconv import RETCODE_USEREXC, Status, excinfo_ptr_t
from numba.core.datamodel import models
from numba.core.imputils import impl_ret_borrowed
from numba.extending import register_model

from fastpg.dispatch import inner, lowered

_LINE = 64  # bytes of a cache line: counters of different threads stay on lines of their own
_INTEGER, _POINTER = ir.IntType(64), cgutils.voidptr_t


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
    with tuples within tuples. A parcel is a single scalar, valid as long as the function that packed it runs
    and keeps the arrays in it.
    """
    return value


def unpack(parcel):
    """Return what is in a parcel, its arrays `borrowed`."""
    return parcel


def borrowed(value):
    """Return a value whose arrays are not counted as in use, nor any view of them: not to be returned.

    To count goes to memory that all threads share, for each slice and each array that is taken out of a
    tuple; it was a fifth of the time of a neural policy's gradient. The owner must `keep` them until the end.
    """
    return value


def keep(value):
    """Do nothing with a value, before which its arrays are not given up."""


@lowered(pack)
def _(typing, value):
    def codegen(context, builder, signature, args):
        return builder.bitcast(cgutils.alloca_once_value(builder, args[0]), cgutils.voidptr_t)

    return _Parcel(value)(value), codegen


@lowered(unpack)
def _(typing, parcel):
    def codegen(context, builder, signature, args):
        place = builder.bitcast(args[0], context.get_value_type(parcel.content).as_pointer())
        value = _without_owners(context, builder, parcel.content, builder.load(place))
        return impl_ret_borrowed(context, builder, parcel.content, value)

    return parcel.content(parcel), codegen


def _without_owners(context, builder, ty, value):
    """The same value; its arrays do not know whose memory they are in."""
    if isinstance(ty, types.Array):
        array = context.make_array(ty)(context, builder, value)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        return array._getvalue()
    if isinstance(ty, types.BaseTuple):
        for i, item in enumerate(ty):
            part = _without_owners(context, builder, item, builder.extract_value(value, i))
            value = builder.insert_value(value, part, i)
    return value


@lowered(borrowed)
def _(typing, value):
    def codegen(context, builder, signature, args):
        result = _without_owners(context, builder, value, args[0])
        return impl_ret_borrowed(context, builder, value, result)

    return value(value), codegen


@lowered(keep)
def _(typing, value):
    def codegen(context, builder, signature, args):
        return context.get_dummy_value()

    return types.void(value), codegen


def in_parallel(function, parcel, n):
    """Call ``function(parcel, i)`` for i = 0, ..., n - 1, on all threads; in a `kernel`.

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


def _count_up(address):
    """Add 1 to the integer at an address, in one go for all threads, and return what it was before."""


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
        i = _count_up(counters + owner * _LINE)
        while i < end:
            raised = _call_at(address, parcel, i)
            exception = raised if raised > exception else exception
            i = _count_up(counters + owner * _LINE)
    return exception


@lowered(_count_up)
def _(typing, address):
    def codegen(context, builder, signature, args):
        place = builder.inttoptr(args[0], _INTEGER.as_pointer())
        return builder.atomic_rmw("add", place, _INTEGER(1), "monotonic")

    return types.int64(types.intp), codegen


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
    integers = (types.intp,) * 6
    compiled = [
        (kind.dispatcher, kind.get_call_type(typing, arguments, {}).args)
        for kind, arguments in (
            (function, (parcel, types.intp)),
            (typing.resolve_value_type(_take_calls), integers),
            (typing.resolve_value_type(_share), integers[:3]),
        )
    ]

    def codegen(context, builder, signature, args):
        numba.get_num_threads()  # before the region is linked with Numba's threads, they have to be there
        called, take_calls, share = (dispatcher.overloads[kinds] for dispatcher, kinds in compiled)
        context.add_linking_libs([called.library, take_calls.library, share.library])
        address = builder.ptrtoint(context.declare_function(builder.module, called.fndesc), _INTEGER)
        region = _region(context, builder.module, take_calls, share)
        exception = builder.call(region, [address, builder.ptrtoint(args[1], _INTEGER), args[2]])
        raised = Status(
            code=RETCODE_USEREXC,
            excinfoptr=builder.inttoptr(exception, excinfo_ptr_t),
            **dict.fromkeys(Status._fields[1:-1]),
        )
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, exception)):
            context.call_conv.return_status_propagate(builder, raised)
        return context.get_dummy_value()

    return types.void(function, parcel, types.intp), codegen


def _region(context, module, take_calls, share):
    """Define ``exception = region(address, parcel, n)`` in a module, unless it is there; return it.

    Each thread has a line of memory: how far its share is, and the exception that it saw. Numba calls
    ``work(arguments, sizes, strides, data)`` in its threads, each with some of the lines, as many as it has
    threads: with fewer calls than threads the last are not there.
    """
    name = "fastpg_in_parallel"
    if name in module.globals:
        return module.globals[name]
    region = ir.Function(module, ir.FunctionType(_INTEGER, [_INTEGER] * 3), name)
    integers = _INTEGER.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [_POINTER.as_pointer(), integers, integers, _POINTER])
    work = ir.Function(module, kind, f"{name}_work")
    region.linkage = work.linkage = "internal"
    region.attributes.add("noinline")  # so that its memory on the stack is given back each time
    _define_region(context, region, work, share)
    _define_work(context, work, take_calls)
    return region


def _define_region(context, region, work, share):
    builder = ir.IRBuilder(region.append_basic_block())
    address, parcel, n = region.args
    of_numba = ir.FunctionType(_INTEGER, [])
    available = builder.call(cgutils.get_or_insert_function(builder.module, of_numba, "get_num_threads"), [])
    n_threads = builder.select(builder.icmp_signed("<", n, available), n, available)
    lines = builder.alloca(_INTEGER, builder.mul(n_threads, _INTEGER(_LINE // 8)))
    lines.align = _LINE
    first = builder.ptrtoint(lines, _INTEGER)
    with cgutils.for_range(builder, n_threads) as loop:
        counter, exception = _line(builder, first, loop.index)
        builder.store(_call(context, builder, share, loop.index, n_threads, n), counter)
        builder.store(_INTEGER(0), exception)
    data = cgutils.pack_array(builder, [first, n_threads, address, parcel, n])
    # Asked for fewer than all its threads, Numba's workqueue would give everything to one of them.
    values = builder.bitcast(lines, _POINTER), available, _INTEGER(_LINE), data
    given = [builder.bitcast(cgutils.alloca_once_value(builder, value), _POINTER) for value in values]
    kind = ir.FunctionType(ir.VoidType(), [_POINTER] * 5 + [_INTEGER] * 3)
    parallel_for = cgutils.get_or_insert_function(builder.module, kind, "numba_parallel_for")
    with builder.if_then(builder.icmp_signed(">", n_threads, _INTEGER(0))):
        function = builder.bitcast(work, _POINTER)
        builder.call(parallel_for, [function, *given, _INTEGER(0), _INTEGER(1), available])
    last = cgutils.alloca_once_value(builder, _INTEGER(0))
    with cgutils.for_range(builder, n_threads) as loop:
        exception = builder.load(_line(builder, first, loop.index)[1])
        with builder.if_then(cgutils.is_not_null(builder, exception)):
            builder.store(exception, last)
    builder.ret(builder.load(last))


def _define_work(context, work, take_calls):
    builder = ir.IRBuilder(work.append_basic_block())
    own, sizes, _, data = work.args
    data = builder.load(builder.bitcast(data, ir.ArrayType(_INTEGER, 5).as_pointer()))
    first, n_threads, address, parcel, n = (builder.extract_value(data, i) for i in range(5))
    offset = builder.sub(builder.ptrtoint(builder.load(own), _INTEGER), first)
    with cgutils.for_range(builder, builder.load(sizes)) as loop:
        thread = builder.add(builder.sdiv(offset, _INTEGER(_LINE)), loop.index)
        with builder.if_then(builder.icmp_signed("<", thread, n_threads)):
            seen = _call(context, builder, take_calls, thread, n_threads, first, address, parcel, n)
            builder.store(seen, _line(builder, first, thread)[1])
    builder.ret_void()


def _line(builder, first, thread):
    """Return pointers to the two numbers in a thread's line."""
    place = builder.add(first, builder.mul(thread, _INTEGER(_LINE)))
    return [builder.inttoptr(builder.add(place, _INTEGER(i)), _INTEGER.as_pointer()) for i in (0, 8)]


def _call(context, builder, compiled, *arguments):
    """Call a compiled function that raises nothing."""
    return context.call_internal_no_propagate(builder, compiled.fndesc, compiled.signature, arguments)[1]


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
