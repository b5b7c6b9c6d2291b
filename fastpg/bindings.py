"""What the names in a function, or the methods of a class, are bound to, as Numba would compile it in."""

import builtins
import dis
import enum
import hashlib
import sys
import types as python_types
from functools import cache
from operator import attrgetter

import numpy as np
from numba import types
from numba.core.caching import NullCache
from numba.core.compiler import Compiler
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target
from numba.extending import _Intrinsic

_SCALARS = (bool, int, float, complex, str, bytes, type(None), type(...))
_FUNCTIONS = (
    python_types.FunctionType,
    python_types.BuiltinFunctionType,
    python_types.MethodType,
    _Intrinsic,
)
_MISSING = object()


# --- what needs no reading: the engine is hashed as a whole, and Numba and NumPy by their version ---


def is_covered_module(name) -> bool:
    """Whether a module of that name is the engine's, Numba's or NumPy's."""
    root = str(name).partition(".")[0]
    return root in {"fastpg", "numba", "numpy", "llvmlite"} and not str(name).startswith("fastpg.envs")


def is_covered(thing) -> bool:
    """Whether a function or class belongs to such a module, and does not only say so."""
    if isinstance(thing, python_types.FunctionType):
        module = sys.modules.get(thing.__globals__.get("__name__", ""))
        return module is not None and vars(module) is thing.__globals__ and is_covered_module(module.__name__)
    name = getattr(thing, "__module__", None)
    return (is_covered_module(name) or name in {"builtins", "typing"}) and is_found_by_name(thing)


def is_named_tuple_class(cls) -> bool:
    """Whether its instances are NamedTuples."""
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def is_found_by_name(thing) -> bool:
    """Whether importing a class (or function) by its name gives this one."""
    try:
        return attrgetter(thing.__qualname__)(sys.modules[thing.__module__]) is thing
    except (KeyError, AttributeError):
        return False


@cache
def is_covered_template(template) -> bool:
    """Whether a typing template of Numba's is made by the engine or Numba, of their functions alone."""
    cls = template if isinstance(template, type) else type(template)
    todo = list(vars(cls).values())
    seen = set()
    while todo:
        item = todo.pop()
        item = getattr(item, "__func__", item)  # a static method
        item = getattr(item, "py_func", item)
        if isinstance(item, python_types.FunctionType) and item not in seen:
            seen.add(item)
            if not is_covered(item):
                return False
            todo += [cell.cell_contents for cell in item.__closure__ or () if cell != python_types.CellType()]
    return cls.__module__ == "abc" or is_covered_module(cls.__module__)


class Bindings:
    """What a function or class that is not covered is bound to now.

    Attributes
    ----------
    items : dict
        From each label (a name, a method) to a text, and to the functions and classes in it, which are
        to be read in their turn.
    obstacles : list of str
        What Numba may compile in but no text describes.
    """

    def __init__(self, thing):
        self.thing = thing
        self.name = f"{thing.__module__}.{thing.__qualname__}"
        self.items = {}
        self.obstacles = []
        self._referents = []
        self._bind("its name", self.name)
        if isinstance(thing, python_types.FunctionType):
            self._read_function(thing)
        elif issubclass(thing, enum.Enum):
            self._bind("its members", *((name, member.value) for name, member in thing.__members__.items()))
        else:
            self._read_named_tuple(thing)

    def differences(self, before) -> list:
        """Return the labels that were bound to something else, as far as it was compiled."""
        labels = self.items.keys() | before.items.keys()
        if isinstance(self.thing, type):
            labels = [label for label in before.items if any(map(frozen.has, before.items[label][1]))]
        return sorted(label for label in labels if not _same(self.items.get(label), before.items.get(label)))

    def check_frozen(self):
        """Raise RuntimeError if this process compiled it when it was bound to something else."""
        for before in frozen.records(self.thing):
            if changed := self.differences(before):
                raise RuntimeError(
                    f"{', '.join(changed)} changed after {self.name} was compiled, and compiled code keeps "
                    f"what it was: define {self.name} again, and what refers to it, or start Python anew"
                )

    def _bind(self, label, *values):
        self._referents = []
        self.items[label] = "; ".join(self._text(value) for value in values), self._referents

    def _read_named_tuple(self, cls):
        self._bind("its fields", cls._fields)
        for name in dir(cls):  # __new__ too, with the defaults; other attributes have no compiled form
            method = getattr(cls, name, None)
            if isinstance(method, python_types.FunctionType):
                self.items[name] = method.__qualname__, [method]

    def _read_function(self, function):
        keywords = sorted((function.__kwdefaults__ or {}).items())
        self._bind("its defaults", function.__defaults__, keywords)
        codes = list(_nested(function.__code__))
        self._bind("its code", *(part for code in codes for part in _parts(code)))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if cell != python_types.CellType():  # not empty
                self._bind_name(name, cell.cell_contents, codes)
        for name in _globals(codes):
            value = function.__globals__.get(name, getattr(builtins, name, _MISSING))
            if value is not _MISSING:
                self._bind_name(name, value, codes)

    def _bind_name(self, label, value, codes):
        self._bind(label, value)
        if isinstance(value, python_types.ModuleType):
            self._read_module(label, value, {name for code in codes for name in code.co_names}, {value})

    def _read_module(self, label, module, names, seen):
        """Bind what a function may take from a module: all names that it mentions, in submodules too."""
        for name in sorted(names):
            if is_covered_module(module.__name__):
                value = vars(module).get(name, _MISSING)  # getattr may warn
            else:
                value = getattr(module, name, _MISSING)
            if value is not _MISSING:
                self._bind(f"{label}.{name}", value)
            if isinstance(value, python_types.ModuleType) and value not in seen:
                self._read_module(f"{label}.{name}", value, names, seen | {value})

    def _text(self, value) -> str:
        kind = type(value)
        if kind in _SCALARS:
            return f"{kind.__name__} {value!r}"
        if kind in (tuple, list) or is_named_tuple_class(kind):
            of = "" if kind in (tuple, list) else self._text(kind)
            return f"{kind.__name__} {of} ({', '.join(self._text(item) for item in value)})"
        if kind in (set, frozenset) and all(type(item) in _SCALARS for item in value):
            return f"{kind.__name__} {sorted(self._text(item) for item in value)}"
        if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            return f"{value.dtype!r} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
        if isinstance(value, np.dtype | types.Number | types.Boolean):
            return repr(value)
        if isinstance(value, python_types.ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, enum.Enum):
            return f"{self._text(kind)} {value.name}"
        if isinstance(value, Dispatcher):
            return self._dispatcher_text(value)
        if isinstance(value, type) and (issubclass(value, enum.Enum) or is_named_tuple_class(value)):
            self._referents.append(value)
            return f"class {value.__module__}.{value.__qualname__}"
        name = f"{kind.__name__} {getattr(value, '__module__', '')} {_qualname(value)}"
        if not _is_named_fully(value):
            self.obstacles.append(name)
        return name

    def _dispatcher_text(self, dispatcher) -> str:
        function, compiler = dispatcher.py_func, dispatcher._compiler
        self._referents.append(function)
        if is_covered(function):
            return f"compiled {function.__module__}.{function.__qualname__}"
        options = dispatcher.targetoptions
        if (
            not isinstance(dispatcher._cache, NullCache)
            or compiler.pipeline_class is not Compiler
            or not all(type(option) in (*_SCALARS, set) for option in options.values())
            or (dispatcher.overloads and not frozen.has(function))
        ):
            self.obstacles.append(f"{_qualname(function)}, which is compiled or cached elsewhere")
        fixed = "" if dispatcher._can_compile else dispatcher.signatures
        locals_ = sorted((name, str(ty)) for name, ty in compiler.locals.items())
        return f"compiled {self._text(sorted(options.items()))} {locals_} {fixed}"


def _same(binding, other) -> bool:
    return (
        binding is not None
        and other is not None
        and binding[0] == other[0]
        and list(map(id, binding[1])) == list(map(id, other[1]))
    )


def _qualname(value):
    return getattr(value, "__qualname__", getattr(value, "__name__", ""))


def _is_named_fully(value) -> bool:
    """Whether Numba compiles nothing of a value that its name does not tell."""
    try:
        ty = cpu_target.typing_context.resolve_value_type(value)
    except Exception:
        return True  # what has no type cannot be compiled in: a Gymnasium space, a function not compiled
    if isinstance(ty, types.Function):
        ours = isinstance(value, _FUNCTIONS) or type(value) is np.ufunc or is_covered(value)
        return ours and all(map(is_covered_template, ty.templates))
    return isinstance(value, type) and (is_covered(value) or issubclass(value, BaseException))


def _nested(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, python_types.CodeType):
            yield from _nested(constant)


def _parts(code):
    """All of a code object but its place in the file and the code objects in it."""
    yield code.co_code, getattr(code, "co_exceptiontable", b""), code.co_flags
    yield code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    yield code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    yield tuple(item for item in code.co_consts if not isinstance(item, python_types.CodeType))


def _globals(codes):
    """The names of the globals that code loads; not those of attributes, which `co_names` holds too."""
    loads = (item for code in codes for item in dis.get_instructions(code) if item.opname == "LOAD_GLOBAL")
    return dict.fromkeys(item.argval for item in loads)


class _Frozen:
    """What functions and classes were bound to when this process compiled them: for each, all versions."""

    def __init__(self):
        self._records = {}

    def record(self, thing):
        """Keep what a function or class is bound to, if it is not covered."""
        if is_covered(thing) or isinstance(thing, type) and self.has(thing):
            return
        now, before = Bindings(thing), self._records.setdefault(thing, [])
        if not any(not now.differences(record) for record in before):
            before.append(now)

    def forget(self, thing):
        """Drop what is known about it."""
        self._records.pop(thing, None)

    def has(self, thing) -> bool:
        """Whether it was compiled while somebody watched."""
        return thing in self._records

    def records(self, thing):
        """Return the different bindings it was compiled with."""
        return self._records.get(thing, ())


frozen = _Frozen()
