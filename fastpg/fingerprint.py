"""The fingerprint of a kernel: a hash of everything that is compiled into it.

Numba freezes what a name is bound to when it compiles the function that mentions it. So the fingerprint
walks from the classes in a kernel's signature along all names, and errs on the safe side: what the walk
cannot read, but Numba could compile in, makes the kernel uncacheable; and what this process compiled
while a name was bound to something else is refused, for the kernel would be a mixture of old and new.
"""

import enum
import hashlib
import math
import platform
import sys
import types as python_types
from functools import cache
from operator import attrgetter
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba import types
from numba.core import event
from numba.core.caching import NullCache
from numba.core.compiler import Compiler
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target

_SCALARS = (bool, int, float, complex, str, bytes, type(None), type(...))
_PLAIN_TYPES = (types.Number, types.Boolean, types.UnicodeType, types.NoneType, types.DType)
_SETTINGS = (  # of numba.config: those that change the code of the same function
    "OPT LOOP_VECTORIZE SLP_VECTORIZE BOUNDSCHECK ENABLE_AVX DISABLE_INTEL_SVML USING_SVML DEBUGINFO_DEFAULT "
    "EXTEND_VARIABLE_LIFETIMES PARFOR_MAX_TUPLE_SIZE LLVM_REFPRUNE_PASS LLVM_REFPRUNE_FLAGS DEBUG_NRT NRT_STATS"
).split()


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
        If something goes into it that cannot be hashed.
    RuntimeError
        If something was redefined after this process compiled it.
    """
    if _ENGINE is None:
        raise UncacheableError("the sources of fastpg cannot be read")
    versions = platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__
    settings = [str(getattr(numba.config, name, None)) for name in _SETTINGS]
    digest = hashlib.sha256(_ENGINE)
    digest.update(repr((function.__module__, function.__qualname__, str(signature))).encode())
    digest.update(repr((target, versions, settings)).encode())
    cpu_target.typing_context.refresh()
    reached = [function, *classes(signature)]
    positions = {id(thing): i for i, thing in enumerate(reached)}
    names = set()
    for thing in reached:  # which grows
        if _covered(thing):
            continue
        bindings = _Bindings(thing)
        if bindings.obstacles:
            raise UncacheableError(f"{_name(thing)} refers to {bindings.obstacles[0]}")
        if not bindings.agree_with(_frozen.get(thing, bindings)):
            raise RuntimeError(bindings.complaint(_frozen[thing]))
        names |= bindings.names
        for label, (text, referents) in bindings.items.items():
            for referent in referents:
                if positions.setdefault(id(referent), len(reached)) == len(reached):
                    reached.append(referent)
            digest.update(repr((label, text, [positions[id(referent)] for referent in referents])).encode())
    _refuse_extensions(names)
    return digest.hexdigest()[:32]


def classes(signature):
    """Yield the NamedTuple classes in a signature, nested ones too; raise for types that say too little."""
    for ty in signature:
        if isinstance(ty, types.BaseNamedTuple):
            yield ty.instance_class
        if isinstance(ty, types.BaseTuple):
            yield from classes(ty)
        elif not isinstance(ty.dtype if isinstance(ty, types.Array) else ty, _PLAIN_TYPES):
            raise UncacheableError(f"an argument is of type {ty}")


# --- what is covered by the engine's sources or by a version ---


def _engine_digest() -> bytes | None:
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.digest() if sources else None


_ENGINE = _engine_digest()  # at import, when the sources are those that run


def _covered_module(name) -> bool:
    root = str(name).partition(".")[0]
    return root in {"fastpg", "numba", "numpy", "llvmlite"} and not str(name).startswith("fastpg.envs")


def _covered(thing) -> bool:
    """Whether a function or class belongs to the engine or to Numba, and does not just say so."""
    if isinstance(thing, python_types.FunctionType):
        module = sys.modules.get(thing.__globals__.get("__name__"))
        return module is not None and vars(module) is thing.__globals__ and _covered_module(module.__name__)
    name = thing.__module__
    return (_covered_module(name) or name in {"builtins", "typing"}) and is_found_by_name(thing)


def is_found_by_name(cls) -> bool:
    """Whether importing the class by its name gives this class."""
    try:
        return attrgetter(cls.__qualname__)(sys.modules[cls.__module__]) is cls
    except (KeyError, AttributeError):
        return False


# --- what a function or class is bound to ---


class _Bindings:
    """What each name in a function, or each method of a class, is bound to now.

    `items` maps a label to a text and to the functions and classes that the text only names;
    `obstacles` are the values that Numba may compile in but that no text describes.
    """

    def __init__(self, thing):
        self.thing = thing
        self.items = {}
        self.names = set()
        self.obstacles = []
        self._referents = []
        if isinstance(thing, python_types.FunctionType):
            self._read_function(thing)
        else:
            self._read_class(thing)

    def agree_with(self, other) -> bool:
        """Whether every name is bound to the same, functions and classes by identity."""
        return not self._differences(other)

    def complaint(self, compiled) -> str:
        """What to tell the user whose redefinition came after compilation."""
        changed = ", ".join(sorted(self._differences(compiled)))
        name = _name(self.thing)
        return (
            f"{changed} changed after {name} was compiled, and compiled code keeps the old value. "
            f"Define {name} again, and what uses it (run their cells again), or restart Python."
        )

    def _differences(self, other):
        mine, others = self.items, other.items
        return {
            label
            for label in mine.keys() | others.keys()
            if label not in mine
            or label not in others
            or mine[label][0] != others[label][0]
            or [id(referent) for referent in mine[label][1]] != [id(referent) for referent in others[label][1]]
        }

    def _bind(self, label, *values):
        self._referents = []
        self.items[label] = "; ".join(self._text(value) for value in values), self._referents

    def _read_class(self, cls):
        self._bind("name", cls.__module__, cls.__qualname__)
        if issubclass(cls, enum.Enum):
            for name, member in cls.__members__.items():
                self._bind(name, member.name, member.value)
            return
        self._bind("fields", cls._fields)
        for name in dir(cls):  # methods, and __new__ with the defaults; class attributes have no compiled form
            method = getattr(cls, name, None)
            if isinstance(method, python_types.FunctionType):
                self.items[name] = _name(method), [method]

    def _read_function(self, function):
        self._bind("name", function.__module__, function.__qualname__)
        self._bind("its defaults", function.__defaults__, function.__kwdefaults__)
        codes = list(_codes(function.__code__))
        self._bind("its code", *(item for code in codes for item in _instructions(code)))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                self._bind(name, cell.cell_contents)
            except ValueError:  # empty
                self._bind(name)
        mentioned = dict.fromkeys(name for code in codes for name in code.co_names)
        self.names.update(mentioned)
        for name in mentioned:
            value = function.__globals__.get(name, getattr(python_types.BuiltinFunctionType, "", None))
            if name in function.__globals__:
                value = function.__globals__[name]
            elif hasattr(_BUILTINS, name):
                value = getattr(_BUILTINS, name)
            else:
                continue
            self._bind(name, value)
            if isinstance(value, python_types.ModuleType):
                self._read_module(name, value, mentioned, set())

    def _read_module(self, label, module, mentioned, seen):
        """Bind what a function may take from a module: every name it mentions, in submodules too."""
        if module in seen:
            return
        seen.add(module)
        for name in mentioned:
            if _covered_module(module.__name__):  # no getattr: it may warn
                value = vars(module).get(name, _MISSING)
            else:
                value = getattr(module, name, _MISSING)
            if value is not _MISSING:
                self._bind(f"{label}.{name}", value)
                if isinstance(value, python_types.ModuleType):
                    self._read_module(f"{label}.{name}", value, mentioned, seen)
