"""Calls on all threads: each is made once, whoever makes it."""

import numba
import numpy as np
import pytest

from fastpg.dispatch import outline, plain_kernel
from fastpg.parallel import in_parallel, kernel_threads, pack, unpack

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="NUMBA_DISABLE_JIT: nothing is compiled")


@outline
def _note(parcel, i):
    calls, slow = unpack(parcel)
    work = 1.0
    for _ in range(200_000 if i < slow else 1):  # the first share takes much longer than the others
        work += 1.0 / work
    calls[i] += 1 if work > 1.0 else 0


@plain_kernel
def _call(calls, slow):
    in_parallel(_note, pack((calls, slow)), calls.shape[0])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 257])
def test_every_call_is_made_once(n, threads, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPG_CACHE_DIR", str(tmp_path))  # apart from the kernels of the engine
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("this machine has a single core")
    for slow in (0, n // 2):
        calls = np.zeros(n, np.int64)
        with kernel_threads(threads):
            _call(calls, slow)
        assert (calls == 1).all()
