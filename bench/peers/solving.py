"""Training until solved, for every learner alike: a hundred greedy episodes of Gymnasium, from time to time.

Solved is the first check with a mean return of at least the threshold: Gymnasium's own for CartPole-v1
(475); -200 for Pendulum-v1, which has none. What the checks take is left out of the time, the rest of the
process is not: `bench.compare` takes it from start to exit, and this prints as JSON what has to be told
apart.
"""

import argparse
import json
import os
import time

import gymnasium
import numpy as np

THRESHOLDS = {"CartPole-v1": 475.0, "Pendulum-v1": -200.0}
EPISODES = 100
STARTED = "FASTPG_BENCH_STARTED"  # environment variable: time.time() when the process was started


class Trial:
    """A learner's way to the solution.

    Parameters
    ----------
    id : str
    seed : int
        Of the episodes; the learner's own is another matter.
    every : int
        Environment steps between two checks, at least.
    """

    def __init__(self, id: str, seed: int, every: int = 1000):
        try:
            self.games = gymnasium.make_vec(id, EPISODES, vectorization_mode="vector_entry_point")
        except gymnasium.error.Error:
            self.games = gymnasium.make_vec(id, EPISODES, vectorization_mode="sync")
        self.threshold, self.seed, self.every = THRESHOLDS[id], seed, every
        self.checked = self.steps = 0
        self.mean_return, self.solved = float("nan"), False
        self.checking_seconds = 0.0
        self.until_training = time.time() - float(os.environ.get(STARTED, time.time()))
        self.began = time.perf_counter()

    def check(self, act, steps: int) -> bool:
        """Return whether the policy solves the problem, after so many steps of training.

        Parameters
        ----------
        act : callable
            The greedy actions for observations of shape (100, n).
        steps : int
        """
        self.steps = steps
        if steps - self.checked < self.every:
            return False
        self.checked = steps
        started = time.perf_counter()
        self.mean_return = float(self._returns(act).mean())
        self.solved = self.mean_return >= self.threshold
        self.checking_seconds += time.perf_counter() - started
        return self.solved

    def _returns(self, act):
        observations, _ = self.games.reset(seed=10_000 * (self.seed + 1))
        returns, alive = np.zeros(EPISODES), np.ones(EPISODES, bool)
        while alive.any():
            observations, rewards, terminated, truncated, _ = self.games.step(act(observations))
            returns += np.where(alive, rewards, 0.0)
            alive &= ~(terminated | truncated)
        return returns

    def report(self, **facts) -> None:
        """Print how it went."""
        told = {name: getattr(self, name) for name in ("solved", "steps", "mean_return")}
        told |= {"checking_seconds": self.checking_seconds, "until_training": self.until_training}
        told["training_seconds"] = time.perf_counter() - self.began - self.checking_seconds
        print(json.dumps(told | facts), flush=True)


def arguments(description: str, ids=tuple(THRESHOLDS)) -> argparse.ArgumentParser:
    """Return the parser of what all learners are asked for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("id", choices=ids)
    parser.add_argument("--seed", type=int, default=0)
    return parser
