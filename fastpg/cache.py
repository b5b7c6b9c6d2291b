"""The on-disk cache of compiled kernels: one file a fingerprint.

Numba stamps a cache entry with the kernel's own source file only (numba#1833), so an edit to an
environment would silently run old code, and keeps several signatures behind one index, which
processes that start together can cross. Here an entry is named by a fingerprint of everything that
was compiled in, holds exactly one kernel, carries a checksum, and is put in place by an atomic
rename: it is right or it is not there.
"""

import hashlib
import importlib
import io
import logging
import os
import pickle
import platform
import tempfile
import types as python_types
import warnings
from contextlib import suppress
from functools import cache
from operator import attrgetter
from pathlib import Path

import llvmlite
import numba
import numpy as np
import platformdirs
from numba import types
from numba.core import serialize
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult

logger = logging.getLogger("fastpg")

_CHECKSUM_BYTES = hashlib.sha256().digest_size
_GENERATED = {"_make", "_replace", "_asdict"}  # what typing.NamedTuple adds to every class


def cache_directory() -> Path:
    """Where compiled kernels are kept: ``$FASTPG_CACHE_DIR``, or the user's cache directory."""
    return Path(os.environ.get("FASTPG_CACHE_DIR") or platformdirs.user_cache_dir("fastpg", False))


class KernelCache(_Cache):
    """The cache of one kernel, in the interface that Numba's dispatcher calls."""

    _warned = False

    def __init__(self, function):
        self._function = function

    @property
    def cache_path(self):
        """The directory of all kernels."""
        return str(cache_directory())

    def enable(self):
        """Nothing to do: always on."""

    disable = flush = enable

    def _path(self, signature, target_context) -> Path:
        name = fingerprint(self._function, signature, target_context.codegen().magic_tuple())
        return cache_directory() / f"{self._function.__name__}-{name}.nbc"

    def load_overload(self, sig, target_context):
        """Return the compiled kernel for a signature, or None if it has to be compiled."""
        target_context.refresh()
        path = self._path(sig, target_context)
        try:
            data = path.read_bytes()
        except OSError:
            data = b""
        if data:
            try:
                checksum, payload = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
                if hashlib.sha256(payload).digest() != checksum:
                    raise ValueError("checksum does not match")
                return CompileResult._rebuild(target_context, *pickle.loads(payload))
            except Exception as error:  # a damaged entry, of whatever kind, is compiled anew
                logger.info("discarding the damaged kernel %s (%s)", path.name, error)
                with suppress(OSError):
                    path.unlink()
        logger.info("compiling %s for %s", self._function.__name__, _type_names(sig))
        return None

    def save_overload(self, sig, data):
        """Keep a compiled kernel."""
        if data.library.has_dynamic_globals or _has_local_class(sig):
            return
        path = self._path(sig, data.target_context)
        payload = _pickled(data)
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
                temporary = Path(file.name)
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            if not path.exists() and not KernelCache._warned:  # Windows does not replace a file in use
                KernelCache._warned = True
                warnings.warn(
                    f"fastpg cannot keep compiled kernels in {path.parent} ({error.strerror}); every process "
                    "compiles anew. Set FASTPG_CACHE_DIR to a directory that can be written.",
                    RuntimeWarning,
                    stacklevel=2,
                )


def fingerprint(function, signature, target) -> str:
    """A hash of all that went into a kernel.

    The engine's sources as a whole; the code of the classes in the signature and of everything that
    code refers to (functions of other modules, other classes, the values of globals); the signature,
    the target processor, and the versions of Python, Numba, llvmlite and NumPy.
    """
    digest = hashlib.sha256(_engine_digest())
    versions = (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__)
    digest.update(repr((function.__qualname__, str(signature), target, versions, numba.config.OPT)).encode())
    walk = _Walk(digest)
    for cls in _classes(signature):
        walk.visit(cls)
    return digest.hexdigest()[:32]


@cache
def _engine_digest() -> bytes:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def _classes(signature):
    """The NamedTuple classes in a signature, nested ones too."""
    for ty in signature:
        if isinstance(ty, types.BaseNamedTuple):
            yield ty.instance_class
        if isinstance(ty, types.BaseTuple):
            yield from _classes(ty)


def _type_names(signature) -> str:
    return ", ".join(cls.__name__ for cls in _classes(signature))


class _Pickler(serialize.NumbaPickler):
    """Pickles a NamedTuple class by name, also in ``__main__``: it must be the same class when loaded."""

    def reducer_override(self, obj):
        if isinstance(obj, type) and hasattr(obj, "_fields"):
            return _class_named, (obj.__module__, obj.__qualname__)
        return super().reducer_override(obj)


def _class_named(module, name):
    return attrgetter(name)(importlib.import_module(module))


def _pickled(result) -> bytes:
    with io.BytesIO() as buffer:
        _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(result._reduce())
        return buffer.getvalue()


def _has_local_class(signature) -> bool:
    """Whether a class was made inside a function, so that no other process can name it."""
    return any("<locals>" in cls.__qualname__ for cls in _classes(signature))


def _covered(module: str) -> bool:
    """Whether a module is hashed as a whole (the engine) or by its version (what comes with Numba)."""
    if module.startswith("fastpg.envs"):
        return False
    return module.partition(".")[0] in {"fastpg", "numba", "numpy", "llvmlite", "math", "builtins", "typing"}


class _Walk:
    """Feeds a digest with the code reachable from a class or function, each piece once."""

    def __init__(self, digest):
        self._digest = digest
        self._seen = set()

    def _add(self, *things):
        self._digest.update(repr(things).encode())

    def visit(self, value):
        value = getattr(value, "py_func", value)  # a jitted function
        value = getattr(value, "_defn", value)  # a Numba intrinsic
        if isinstance(value, python_types.FunctionType | type):
            if value in self._seen or _covered(value.__module__):
                return
            self._seen.add(value)
            self._add(value.__module__, value.__qualname__)
            if isinstance(value, type):
                self._visit_class(value)
            else:
                self._visit_function(value)
        elif isinstance(value, np.ndarray):
            self._add(value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest())
        elif isinstance(value, tuple):
            self._add(type(value).__qualname__, len(value))
            for item in value:
                self.visit(item)
        elif isinstance(value, bool | int | float | complex | str | bytes | np.generic | None):
            self._add(type(value).__name__, value)
        # Nothing else can be frozen into compiled code.

    def _visit_class(self, cls):
        for base in cls.__mro__[:-1]:
            if base is tuple:
                continue
            for name, attribute in sorted(vars(base).items(), key=lambda item: item[0]):
                if not name.startswith("__") and name not in _GENERATED:
                    self._add(name)
                    self.visit(tuple(attribute.items()) if isinstance(attribute, dict) else attribute)

    def _visit_function(self, function):
        self.visit(function.__defaults__)
        for cell in function.__closure__ or ():
            self.visit(cell.cell_contents)
        self._visit_code(function.__code__, function.__globals__)

    def _visit_code(self, code, names):
        self._add(code.co_code, code.co_names, code.co_varnames)
        for constant in code.co_consts:
            if isinstance(constant, python_types.CodeType):
                self._visit_code(constant, names)
            else:
                self.visit(constant)
        for name in code.co_names:
            value = names.get(name)
            if isinstance(value, python_types.ModuleType):
                self._visit_module(value, code.co_names)
            else:
                self.visit(value)

    def _visit_module(self, module, attributes):
        """Visit what a function may take from a module: every name it mentions, in submodules too."""
        key = module.__name__, attributes
        if key in self._seen or _covered(module.__name__):
            return
        self._seen.add(key)
        for name in attributes:
            value = getattr(module, name, None)
            if isinstance(value, python_types.ModuleType):
                self._visit_module(value, attributes)
            else:
                self._add(module.__name__, name)
                self.visit(value)
