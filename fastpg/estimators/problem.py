"""What an estimator is asked: a policy in an environment, which trajectories, and a pilot batch of them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastpg import vectors
from fastpg.environment import observation_length
from fastpg.random import MAX_SEED
from fastpg.sampling import chunk_size, sample

# The pilot batch is of another stream: its trajectories are independent of those of the estimate.
_PILOT = 0x2545F4914F6CDD1D
_MAX_PILOT = 1024
_MAX_NUMBERS = 2**23  # of a pilot batch, 64 MiB


class Batch(NamedTuple):
    """Recorded trajectories, T steps the longest; behind the end of each are zeros.

    observations: (N, T, F), F = 1 where the observation is an integer, 0 if not observed; rewards: (N, T);
    lengths: (N,).
    """

    observations: np.ndarray
    rewards: np.ndarray
    lengths: np.ndarray

    @property
    def alive(self):
        """Which steps were taken, bool (N, T)."""
        return np.arange(self.rewards.shape[1]) < self.lengths[:, np.newaxis]

    def rewards_to_go(self, discount):
        """Return Σ_{k≥t} γ^{k-t} r_k, shape (N, T)."""
        to_go = self.rewards.copy()
        for t in range(to_go.shape[1] - 2, -1, -1):
            to_go[:, t] += discount * to_go[:, t + 1]
        return to_go


class Problem(NamedTuple):
    """∇J(θ) of a policy in an environment, and the trajectories to estimate it from."""

    env: Any
    policy: Any
    theta: np.ndarray
    n_trajectories: int
    horizon: int
    seed: int
    first_trajectory: int
    threads: int | None
    pilot_steps: list  # of the pilot batches that were taken

    def sample(self, accumulator: Any, shape: tuple) -> Iterator[tuple[int, np.ndarray, int]]:
        """Simulate the trajectories; see `fastpg.sampling.sample`."""
        return sample(
            self.env,
            self.policy,
            self.theta,
            accumulator,
            shape,
            n_trajectories=self.n_trajectories,
            horizon=self.horizon,
            seed=self.seed,
            first_trajectory=self.first_trajectory,
            threads=self.threads,
        )

    def pilot(self, observed: bool) -> Batch:
        """Return a smaller batch, of its own stream: an eighth, but 128 to 1024 as far as memory allows.

        Observations have no components unless they are to be `observed`.
        """
        width = max(1, observation_length(self.env)) if observed else 0
        most = min(_MAX_PILOT, _MAX_NUMBERS // (self.horizon * (width + 1)))
        if most < 2:
            raise ValueError(
                f"horizon={self.horizon}: too long for the pilot batch that a baseline is fitted on"
            )
        n = min(most, max(128, self.n_trajectories // 8))
        pilot = self._replace(n_trajectories=n, seed=(self.seed + _PILOT) & MAX_SEED)
        size = chunk_size(n, self.horizon)
        rows = 1 << (size - 1).bit_length()
        recorder = Recorder(rows, self.horizon, width + 1)
        blocks, first = [], 0
        for done, totals, _ in pilot.sample(recorder, (recorder.size(),)):
            numbers = np.arange(first, done)
            chunks, places = (numbers - first) // size, numbers & (rows - 1)
            split = rows * self.horizon * (width + 1)
            lengths = totals[:, split:][chunks, places].astype(np.int64)
            steps = totals[:, :split].reshape(-1, rows, self.horizon, width + 1)
            blocks.append((steps[chunks, places, : lengths.max()], lengths))
            first = done
        lengths = np.concatenate([lengths for _, lengths in blocks])
        self.pilot_steps.append(int(lengths.sum()))
        whole = np.zeros((n, lengths.max(), width + 1))
        first = 0
        for steps, _ in blocks:
            whole[first : first + len(steps), : steps.shape[1]] = steps
            first += len(steps)
        return Batch(whole[:, :, :-1], whole[:, :, -1], lengths)


class LastReward(NamedTuple):
    """Along a trajectory: the reward of the last step."""

    reward: float


class Recorder(NamedTuple):
    """Records observations and rewards, and the length of each trajectory; compiled into the lanes."""

    rows: int  # a power of two, so that the row of a number is a mask away
    horizon: int
    width: int  # an observation and a reward

    def size(self):
        """Return how many numbers a chunk takes."""
        return self.rows * (self.horizon * self.width + 1)

    def choose(self, policy, theta, observation, rng):
        """Return the action to take."""
        return policy.sample(theta, observation, rng)

    def start(self, score):
        """Return the trace of a trajectory that has not begun."""
        return LastReward(0.0)

    def rewarded(self, trace, reward):
        """Return the trace after a reward."""
        return LastReward(reward)

    def note(self, totals, trajectory, observation):
        """Record an observation, and the reward before it."""
        step = (trajectory.number & (self.rows - 1)) * self.horizon + trajectory.time
        if self.width > 1:
            vectors.store(totals, step * self.width, observation)
        if trajectory.time > 0:
            totals[step * self.width - 1] = trajectory.trace.reward

    def finish(self, totals, trajectory, score):
        """Record the last reward, and the length."""
        row = trajectory.number & (self.rows - 1)
        totals[(row * self.horizon + trajectory.time) * self.width - 1] = trajectory.trace.reward
        totals[self.rows * self.horizon * self.width + row] = trajectory.time
