"""Calls on all threads: each is made once, whoever makes it; and one thread or several, by the clock."""

import multiprocessing
import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from fastpg.dispatch import inline, kernel, outline
from fastpg.pace import Pace
from fastpg.parallel import in_parallel, kernel_threads, pack, unpack

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="NUMBA_DISABLE_JIT: nothing is compiled")


@outline
def _note(parcel, i):
    calls, slow = unpack(parcel)
    work = 1.0
    for _ in range(200_000 if i < slow else 1):  # the first share takes much longer than the others
        work += 1.0 / work
    calls[i] += 1 if work > 1.0 else 0


@kernel
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


FEWER = """
import sys

import numba
import numpy as np

import fastpg
from fastpg.dispatch import kernel, outline
from fastpg.parallel import _count_up, in_parallel, pack, unpack


@outline
def count(parcel, i):
    place, met = unpack(parcel)
    before = _count_up(place)
    for _ in range(100_000_000):  # a second, unless another thread counts meanwhile
        now = _count_up(place)
        met[i] = now - before - 1
        if met[i] > 0:
            break
        before = now


@kernel
def meet(place, met):
    in_parallel(count, pack((place, met)), len(met))


numba.set_num_threads(4)
place, met = np.zeros(1, np.int64), np.zeros(2, np.int64)
meet(place.ctypes.data, met)
assert numba.threading_layer() == sys.argv[1], numba.threading_layer()
assert met.any(), "both calls were made by one thread"
env = fastpg.make("CartPole-v1")
policy = fastpg.policy_for(env)
one, all_four = (
    fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=500, threads=threads).gradient
    for threads in (1, None)
)
assert one.tobytes() == all_four.tobytes()
"""


@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_fewer_calls_than_threads_are_made_by_as_many_threads(layer, tmp_path):
    """They meet; and a gradient is the same on one thread and on more than it has chunks."""
    asked = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "4"}
    script = tmp_path / "fewer.py"
    script.write_text(FEWER)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, layer],
        env={**os.environ, **asked},
        text=True,
        capture_output=True,
    )
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"Numba has no {layer} here")
    assert done.returncode == 0, done.stderr


@inline
def _not_negative(x):
    if x < 0:
        raise ValueError("negative", x)
    return x


@numba.njit
def _of_a_user(x):
    return _not_negative(x)


@pytest.mark.parametrize("call", [_of_a_user, _not_negative])
def test_an_inlined_function_tells_its_numbers_whoever_calls_it(call):
    assert call(2) == 2
    with pytest.raises(ValueError) as caught:
        call(-1)
    assert caught.value.args == ("negative", -1)


FORKED = """
import gymnasium, numba, numpy as np, fastpg

env = fastpg.make("CartPole-v1")
policy = fastpg.policy_for(env)
fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=100)
makers = [lambda: gymnasium.make("fastpg:fastpg/CartPole-v1")] * 2
envs, twins = (cls(makers, **how) for cls, how in (
    (gymnasium.vector.AsyncVectorEnv, {"context": "fork"}), (gymnasium.vector.SyncVectorEnv, {})))
for vector in (envs, twins):
    vector.reset(seed=0)
for _ in range(20):
    actions = np.array([0, 1])
    for ours, theirs in zip(envs.step(actions)[:4], twins.step(actions)[:4], strict=True):
        assert np.array_equal(ours, theirs)
envs.close()


def many(connection):
    several = fastpg.make_vec("CartPole-v1", 4096)  # enough for all threads
    several.reset(seed=0)
    connection.send(several.step(np.ones(4096, int))[0].shape)
    try:
        fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=100)
    except RuntimeError as error:
        connection.send(str(error))
    else:
        connection.send("")


context = __import__("multiprocessing").get_context("fork")
ours, theirs = context.Pipe()
context.Process(target=many, args=(theirs,)).start()
assert ours.recv() == (4096, 4)
told = ours.recv()
if numba.threading_layer() == "omp":
    from numba.np.ufunc import omppool

    if omppool.openmp_vendor == "GNU":
        assert "start worker processes by multiprocessing.get_context('spawn')" in told
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_after_a_fork_environments_step_and_other_kernels_say_what_is_wrong():
    """Also under Gymnasium's AsyncVectorEnv, whose processes are forks on Linux."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def _played(pace, seconds_alone, seconds_together, n):
    """How many of n calls were parallel."""
    count = 0
    for _ in range(n):
        parallel = pace.parallel()
        count += parallel
        pace.note(parallel, seconds_together if parallel else seconds_alone)
    return count


def test_the_faster_of_two_ways_is_taken_and_the_other_tried_now_and_then():
    pace = Pace()
    assert _played(pace, 2e-4, 1e-4, 1000) > 950
    # A core is busy: a region waits for its thread. A few calls find out, and trials are rare.
    assert 1 <= _played(pace, 2e-4, 8e-3, 10_000) <= 15
    assert _played(pace, 2e-4, 1e-4, 10_000) > 7000


def test_one_slow_call_is_an_accident():
    pace = Pace()
    _played(pace, 2e-4, 1e-4, 100)
    pace.note(True, 1.0)
    assert _played(pace, 2e-4, 1e-4, 100) > 95
