"""How what is compared answers from a process of its own; imports nothing of fastpg.

A process prints one line of JSON, its facts (versions, setting, time to compile, for a gradient its
estimate), and then for each line that it reads, a number of seconds, a line with the steps and the seconds
of work for so long. `bench.contestants` is the other end.
"""

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Sums(NamedTuple):
    """What one call of a reference adds up over the trajectories that ended in it.

    A leading axis, if there is one, is over devices.
    """

    weighted_scores: np.ndarray  # Σ_i s_i R_i, with s_i = Σ_t ∇ log π(a_t|s_t): shape (P,)
    returns: float  # Σ_i R_i
    episodes: int
    steps: int  # taken in the call, of trajectories that have not ended as well


def versions(*packages: str) -> str:
    """Return packages with their versions."""
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def timed(call: Callable[[], int], seconds: float) -> tuple[int, float]:
    """Call until the time is over; return the sum of what the calls return, their steps, and the seconds."""
    started, steps = time.perf_counter(), 0
    while True:
        steps += int(call())
        taken = time.perf_counter() - started
        if taken >= seconds:
            return steps, taken


def fastest(calls: dict[Any, Callable[[], int]], seconds: float = 0.5) -> Any:
    """Return the key of the call with the most steps a second, by the best of three measurements."""
    speeds = {}
    for name, call in calls.items():
        call()  # to warm up
        speeds[name] = max(steps / taken for steps, taken in (timed(call, seconds) for _ in range(3)))
    return max(speeds, key=speeds.__getitem__)


def serve(facts: dict, call: Callable[[], int]) -> None:
    """Print the facts, then answer."""
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(call, float(line))), flush=True)


# --- gradients ---


def steps_of(gradient: Callable[[], Sums]) -> Callable[[], int]:
    """Return the call with its number of steps alone."""
    return lambda: int(np.sum(gradient().steps))


def estimate(gradient: Callable[[], Sums], n_calls: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient and then the mean return, and the standard errors of both: shape (P + 1,) each."""
    scores, returns, episodes = [], [], []
    for _ in range(n_calls):
        sums = gradient()
        scores.append(np.atleast_2d(np.asarray(sums.weighted_scores)))
        returns.append(np.atleast_1d(np.asarray(sums.returns)))
        episodes.append(np.atleast_1d(np.asarray(sums.episodes)))
    per_call = np.column_stack([np.concatenate(scores), np.concatenate(returns)]).astype(np.float64)
    ended = np.concatenate(episodes)[:, np.newaxis]
    mean = per_call.sum(axis=0) / ended.sum()
    residuals = (per_call - mean * ended) / ended.mean()  # of a ratio of two sums
    return mean, residuals.std(axis=0, ddof=1) / np.sqrt(len(residuals))


def gradient_facts(gradient: Callable[[], Sums], n_calls: int) -> dict:
    """Return what `bench.compare` checks before it times."""
    mean, error = estimate(gradient, n_calls)
    return {"mean": mean.tolist(), "standard_error": error.tolist()}


def gradient_arguments(description: str, lanes: Sequence[int]) -> argparse.ArgumentParser:
    """Return the parser of what all gradients are asked for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("theta", type=json.loads, help="JSON, in fastpg's layout")
    parser.add_argument("--lanes", type=int, nargs="+", default=list(lanes), help="keeps the fastest")
    parser.add_argument("--calls", type=int, default=40, help="gradients for the standard errors")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def serve_gradient(
    make: Callable[[int], Callable[[], Sums]], lanes: Sequence[int], n_calls: int, facts: dict
):
    """Keep the fastest number of trajectories side by side, estimate, and answer."""
    made = {f"{n:,} trajectories at once": make(n) for n in lanes}
    best = fastest({name: steps_of(gradient) for name, gradient in made.items()})
    serve(facts | {"setting": best} | gradient_facts(made[best], n_calls), steps_of(made[best]))
