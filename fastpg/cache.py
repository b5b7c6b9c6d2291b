"""The on-disk cache of compiled kernels: one file a fingerprint.

Numba stamps a cache entry with the kernel's own source file only (numba#1833), so an edit to an
environment would silently run old code, and keeps several signatures behind one index, which
processes that start together can cross. Here an entry is named by a fingerprint of everything that
was compiled in, holds exactly one kernel, carries a checksum, and is put in place by an atomic
rename: it is right or it is not there. What has no fingerprint is compiled in every process.
"""

import hashlib
import importlib
import io
import logging
import os
import pickle
import tempfile
import warnings
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

import numba
import platformdirs
from numba.core import serialize
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult

from fastpg.bindings import is_found_by_name
from fastpg.fingerprint import UncacheableError, fingerprint, named_tuple_classes

logger = logging.getLogger("fastpg")

_CHECKSUM_BYTES = hashlib.sha256().digest_size


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

    def _path(self, signature, target_context) -> Path | None:
        """Where the kernel belongs, or None if it cannot be kept."""
        try:
            for cls in named_tuple_classes(signature):
                if not is_found_by_name(cls):
                    raise UncacheableError(
                        f"other processes cannot import {cls.__module__}.{cls.__qualname__}"
                    )
            name = fingerprint(self._function, signature, target_context.codegen().magic_tuple())
        except UncacheableError as reason:
            logger.info("%s is not kept on disk: %s", self._function.__name__, reason)
            return None
        return cache_directory() / f"{self._function.__name__}-{name}.nbc"

    def load_overload(self, sig, target_context):
        """Return the compiled kernel for a signature, or None if it has to be compiled."""
        _import_arrays()
        target_context.refresh()
        path = self._path(sig, target_context)
        try:
            data = path.read_bytes() if path else b""
        except OSError:
            data = b""
        if data:
            try:
                checksum, payload = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
                if hashlib.sha256(payload).digest() != checksum:
                    raise ValueError("checksum does not match")
                # Starts the threads: a kernel with a parallel region is linked with them.
                numba.get_num_threads()
                return CompileResult._rebuild(target_context, *pickle.loads(payload))
            except Exception as error:  # a damaged entry, of whatever kind, is compiled anew
                logger.info("discarding the damaged kernel %s (%s)", path.name, error)
                with suppress(OSError):
                    path.unlink()
        logger.info("compiling %s for %s", self._function.__name__, _type_names(sig))
        return None

    def save_overload(self, sig, data):
        """Keep a compiled kernel, under the fingerprint of what was compiled in (which is checked anew)."""
        if data.library.has_dynamic_globals:
            return
        path = self._path(sig, data.target_context)
        if path is None:
            return
        payload = _pickled(data)
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
                temporary = Path(file.name)
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except OSError as error:
            if not path.exists() and not KernelCache._warned:  # Windows does not replace a file in use
                KernelCache._warned = True
                warnings.warn(
                    f"fastpg cannot keep compiled kernels in {path.parent} ({error.strerror}); every process "
                    "compiles anew. Set FASTPG_CACHE_DIR to a directory that can be written.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        finally:  # also after Ctrl-C
            if temporary is not None:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)


def _import_arrays():
    """Import what Numba knows of arrays, without all of SciPy's linear algebra.

    That takes a fifth of the time of a first gradient. Numba imports it to see whether there is a BLAS; there
    is, and `fastpg.blas` loads it for those who need it.
    """
    from numba.np import linalg  # slow to import, and a kernel needs it, `import fastpg` does not

    found = linalg.ensure_blas
    linalg.ensure_blas = lambda: None
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        linalg.ensure_blas = found


def _type_names(signature) -> str:
    return ", ".join(cls.__name__ for cls in named_tuple_classes(signature))


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
