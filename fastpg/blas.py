"""The threads of BLAS, which `np.dot` in compiled code calls through SciPy."""

from contextlib import nullcontext
from functools import lru_cache
from typing import Any

from fastpg.scores import is_neural


@lru_cache(1)
def _controller():
    import scipy.linalg.cython_blas  # noqa: F401  # so that its library is loaded, and found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def single_threaded_blas(policy: Any = None) -> Any:
    """Return a context in which BLAS uses one thread, for a policy that uses it (None: for any).

    Every thread of a parallel region calls it: with threads of its own there would be more than cores,
    waiting for each other.
    """
    if policy is not None and not is_neural(policy):
        return nullcontext()
    return _controller().limit(limits=1, user_api="blas")
