"""The fingerprint of a kernel: a hash of everything that is compiled into it.

Numba freezes what a name is bound to when it compiles a function that mentions it. So the fingerprint
walks from the classes in a kernel's signature along all names (`fastpg.bindings` reads one function or
class), and errs on the safe side: what cannot be read, but Numba could compile in, leaves the kernel
without a fingerprint; and what this process compiled while a name was bound to something else is
refused, for such a kernel would be a mixture of old and new.
"""

import hashlib
import operator
import platform
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba import types
from numba.core import event
from numba.core.registry import cpu_target

from fastpg.bindings import Bindings, frozen, is_covered, is_covered_module, is_covered_template

_PLAIN_TYPES = (types.Number, types.Boolean, types.UnicodeType, types.NoneType)
_SETTINGS = (  # those of numba.config that change the code compiled from the same source
    *("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX", "DISABLE_INTEL_SVML", "USING_SVML"),
    *("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "EXTEND_VARIABLE_LIFETIMES", "PARFOR_MAX_TUPLE_SIZE"),
    *("LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS", "DEBUG_NRT", "NRT_STATS"),
)


class UncacheableError(Exception):
    """Why a kernel has no fingerprint."""


def fingerprint(function, signature, target) -> str:
    """Return a hash of all that goes into a kernel.

    The engine's sources as a whole; the code of the classes in the signature and of everything that code
    refers to (functions of other modules, other classes, the values of globals); the signature, the
    target processor, Numba's settings, and the versions of Python, Numba, llvmlite and NumPy.

    Raises
    ------
    UncacheableError
        If something may go into it that cannot be hashed.
    RuntimeError
        If something was redefined after this process compiled it.
    """
    if _ENGINE is None:
        raise UncacheableError("the sources of fastpg cannot be read")
    for ty in _leaves(signature):
        if not isinstance(ty.dtype if isinstance(ty, types.Array) else ty, _PLAIN_TYPES):
            raise UncacheableError(f"an argument is of type {ty}")
    versions = platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__
    settings = [str(getattr(numba.config, name, None)) for name in _SETTINGS]
    digest = hashlib.sha256(_ENGINE)
    digest.update(repr((function.__module__, function.__qualname__, str(signature))).encode())
    host = llvmlite.binding.get_host_cpu_features().flatten()  # which packs are made for, whatever the target
    digest.update(repr((target, host, versions, settings)).encode())

    cpu_target.typing_context.refresh()
    _refuse_extensions()
    reached = [function, *named_tuple_classes(signature)]
    positions = {thing: position for position, thing in enumerate(reached)}
    for thing in reached:  # which grows
        if is_covered(thing):
            digest.update(repr((thing.__module__, thing.__qualname__)).encode())
            continue
        bindings = Bindings(thing)
        if bindings.obstacles:
            raise UncacheableError(f"{bindings.name} refers to {bindings.obstacles[0]}")
        bindings.check_frozen()
        for label, (text, referents) in bindings.items.items():
            for referent in referents:
                if referent not in positions:
                    positions[referent] = len(reached)
                    reached.append(referent)
            digest.update(repr((label, text, [positions[referent] for referent in referents])).encode())
    return digest.hexdigest()[:32]


def named_tuple_classes(signature):
    """Yield the NamedTuple classes in a signature, nested ones too."""
    for ty in signature:
        if isinstance(ty, types.BaseNamedTuple):
            yield ty.instance_class
        if isinstance(ty, types.BaseTuple):
            yield from named_tuple_classes(ty)


def _leaves(signature):
    for ty in signature:
        if isinstance(ty, types.BaseTuple):
            yield from _leaves(ty)
        else:
            yield ty


def _engine_digest() -> bytes | None:
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.digest() if sources else None


_ENGINE = _engine_digest()  # at import, when the sources are those that run


def _refuse_extensions():
    """Raise if somebody taught Numba's own types or operators something that no name would tell."""
    context = cpu_target.typing_context
    suspects = [
        template for key, found in context._functions.items() if isinstance(key, str) for template in found
    ]
    for function in vars(operator).values():
        suspects += getattr(context._lookup_global(function), "templates", ())
    for key, found in context._attributes.items():
        owner = key if isinstance(key, type) else type(key)
        if is_covered_module(owner.__module__):
            suspects += found
    for template in suspects:
        if not is_covered_template(template):
            raise UncacheableError(f"an extension of Numba is loaded ({template})")


class _Recorder(event.Listener):
    """Keeps what everything that Numba compiles in this process was bound to at that moment."""

    def on_start(self, event):
        dispatcher = event.data["dispatcher"]
        try:
            frozen.record(dispatcher.py_func)
            for cls in named_tuple_classes(event.data["args"]):
                frozen.record(cls)
        except Exception:  # must not disturb the compilation of others; unrecorded is uncacheable
            frozen.forget(dispatcher.py_func)

    def on_end(self, event):
        pass


event.register("numba:compile", _Recorder())
