"""Running trajectories from Python: chunks, blocks, threads, and the order of the sums."""

import math
import time
from collections.abc import Iterator

import numba
import numpy as np

from fastpg.arguments import check_dtype
from fastpg.blas import single_threaded_blas
from fastpg.compiler_errors import readable_errors
from fastpg.dispatch import distinct
from fastpg.lane_memory import lines_for
from fastpg.lanes import simulate_chunks
from fastpg.parallel import kernel_threads
from fastpg.scores import is_neural, is_recorded

_MIN_CHUNKS = 4
_GOOD_CHUNKS = 16  # if each has _GOOD_CHUNK trajectories, so that lanes are refilled
_GOOD_CHUNK = 250
_MAX_CHUNK = 4096
_MIN_LARGE_CHUNK = 32  # trajectories, however long: fewer would leave most lanes empty
_MAX_CHUNK_STEPS = 2**20  # of a thread between two chances for Ctrl-C, but for the line above
_BLOCK_SECONDS = 0.2
_MAX_BLOCK = 1024  # chunks, and bytes, so that their sums take little memory however short they are
_MAX_TOTALS = 2**26
_LONG_ROWS = range(2**7, 2**13)  # of longer ones it takes longer to copy what is in them than lines win
_MAX_RECORD = 2**22  # steps of a trajectory; a hundred lanes of them are some gigabytes


def chunk_size(n_trajectories: int, horizon: int) -> int:
    """Return how many trajectories one thread simulates in a go.

    A function of the arguments alone, never of the threads: chunks are summed in order, so every
    result is bitwise the same for any number of threads.
    """
    size = min(_MAX_CHUNK, max(_MIN_LARGE_CHUNK, _MAX_CHUNK_STEPS // horizon))
    good = max(-(-n_trajectories // _GOOD_CHUNKS), min(_GOOD_CHUNK, -(-n_trajectories // _MIN_CHUNKS)))
    return max(1, min(size, good))


def as_policy(policy):
    """Return a policy as kernels have it: itself, or a faster one, if it has that."""
    faster = hasattr(policy, "in_lanes") and not numba.config.DISABLE_JIT
    return policy.in_lanes() if faster else policy


def as_parameters(policy, theta):
    """Return θ as kernels have it: an array if trajectories are recorded, else a tuple."""
    if is_neural(policy):
        return np.array(theta, policy.network.dtype)
    single = check_dtype(getattr(policy, "dtype", np.float64)) == 32
    lanes = as_policy(policy)
    if is_recorded(lanes) and single:
        name = type(policy).__name__
        raise ValueError(f"policy.dtype={policy.dtype!r}: a {name} records its trajectories, in float64")
    if hasattr(lanes, "lane_parameters"):
        theta = lanes.lane_parameters(theta)
    if is_recorded(lanes):
        return np.array(theta)
    return tuple(theta.astype(np.float32)) if single else tuple(theta.tolist())


def sample(
    env, policy, theta, accumulator, shape, *, n_trajectories, horizon, seed, first_trajectory=0, threads=None
) -> Iterator[tuple[int, np.ndarray, int]]:
    """Simulate and yield block after block: (trajectories done, totals, steps of the block).

    `totals` has the shape (chunks of the block, *shape). A native call cannot be interrupted, so a
    block takes about a quarter of a second, or as long as 32 trajectories last if that is more; between
    two blocks Python handles Ctrl-C and progress.
    """
    size = chunk_size(n_trajectories, horizon)
    n_chunks = -(-n_trajectories // size)
    parameters = as_parameters(policy, theta)
    if is_recorded(as_policy(policy)):
        _check_record(policy, horizon)
    policy = as_policy(policy)
    done = 0
    small = _GOOD_CHUNKS * size * horizon <= 4 * _MAX_CHUNK_STEPS
    block = _GOOD_CHUNKS if small else threads or numba.get_num_threads()
    while done < n_chunks:
        block = min(block, n_chunks - done)
        totals = _new_totals(block, shape)
        n_steps = np.zeros(block, np.int64)
        arguments = (
            distinct(env),
            distinct(policy),
            parameters,
            accumulator,
            horizon,
            np.uint64(seed),
            first_trajectory,
            done * size,
            n_trajectories,
            size,
            totals,
            n_steps,
        )
        started = time.perf_counter()
        with kernel_threads(threads), single_threaded_blas(policy):
            try:
                simulate_chunks(*arguments)
            except Exception:
                with readable_errors(env, policy):
                    raise
        seconds = time.perf_counter() - started
        done += block
        sums = np.ascontiguousarray(totals[..., : shape[-1]])
        yield min(done * size, n_trajectories), sums, int(n_steps.sum())
        largest = min(_MAX_BLOCK, max(_MIN_CHUNKS, _MAX_TOTALS // totals[0].nbytes))
        block = max(1, min(int(block * _BLOCK_SECONDS / max(seconds, 1e-6)), 8 * block, largest))


def _new_totals(block, shape):
    """Return zeros of the shape (block, *shape), with longer rows where those are long, but not too long.

    These begin with a cache line, so that no vector of sums straddles two.
    """
    *outer, columns = shape
    if columns not in _LONG_ROWS:
        return np.zeros((block, *shape))
    rows = lines_for(block * math.prod(outer), columns, np.empty(0))
    rows[:] = 0.0
    return rows.reshape(block, *outer, rows.shape[1])


def _check_record(policy, horizon):
    if horizon > _MAX_RECORD:
        name = type(policy).__name__
        raise ValueError(f"horizon={horizon}: at most {_MAX_RECORD}, for a {name} records its trajectories")
