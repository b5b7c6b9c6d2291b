"""Gradient ascent: SGD, momentum and Adam, and schedules of the learning rate.

An optimizer is a NamedTuple of its settings. Its state is a tuple of arrays, given and returned, so a
run can be saved, resumed and replayed. `learning_rate` is a number or a function of the update
(0, 1, 2, ...); all optimizers *ascend*.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Schedule = float | Callable[[int], float]
State = tuple[np.ndarray, ...]


class LinearSchedule(NamedTuple):
    """A learning rate that goes from `start` to `end` in equal steps over `n_updates`, and stays there."""

    start: float
    end: float
    n_updates: int

    def __call__(self, update: int) -> float:
        """Return the learning rate of an update."""
        fraction = min(update / max(self.n_updates - 1, 1), 1.0)
        return self.start + fraction * (self.end - self.start)


def learning_rate_at(schedule: Schedule, update: int) -> float:
    """Return the learning rate of an update, or raise ValueError if it is not a finite number >= 0."""
    rate: Any = schedule(update) if callable(schedule) else schedule
    if getattr(rate, "ndim", None) == 0:
        rate = rate.item()  # a NumPy scalar, or an array of no dimensions
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise TypeError(f"learning_rate={rate!r}: must be a number, or a function from update to number")
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"learning_rate={rate!r}: must be finite and at least 0")
    return float(rate)


class SGD(NamedTuple):
    """Stochastic gradient ascent, ``θ ← θ + α g``."""

    learning_rate: Schedule = 0.01

    def initial(self, theta: np.ndarray) -> State:
        """Return the state before the first update."""
        return ()

    def step(
        self, theta: np.ndarray, gradient: np.ndarray, state: State, update: int
    ) -> tuple[np.ndarray, State]:
        """Return θ and the state after an update."""
        return theta + learning_rate_at(self.learning_rate, update) * gradient, state


class Momentum(NamedTuple):
    """Heavy-ball ascent (Polyak 1964), ``v ← μ v + g, θ ← θ + α v``."""

    learning_rate: Schedule = 0.01
    momentum: float = 0.9

    def initial(self, theta: np.ndarray) -> State:
        """Return the state before the first update: v = 0."""
        return (np.zeros_like(theta),)

    def step(
        self, theta: np.ndarray, gradient: np.ndarray, state: State, update: int
    ) -> tuple[np.ndarray, State]:
        """Return θ and the state after an update."""
        _check_fraction("momentum", self.momentum)
        velocity = self.momentum * state[0] + gradient
        return theta + learning_rate_at(self.learning_rate, update) * velocity, (velocity,)


class Adam(NamedTuple):
    """Adam (Kingma & Ba 2015, algorithm 1), ascending.

    ``m ← β₁ m + (1-β₁) g,  v ← β₂ v + (1-β₂) g²,  θ ← θ + α m̂ / (√v̂ + ε)`` with the bias corrections
    ``m̂ = m / (1-β₁ᵗ)``, ``v̂ = v / (1-β₂ᵗ)`` and t = update + 1.
    """

    learning_rate: Schedule = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def initial(self, theta: np.ndarray) -> State:
        """Return the state before the first update: m = v = 0."""
        return np.zeros_like(theta), np.zeros_like(theta)

    def step(
        self, theta: np.ndarray, gradient: np.ndarray, state: State, update: int
    ) -> tuple[np.ndarray, State]:
        """Return θ and the state after an update."""
        _check_fraction("beta1", self.beta1)
        _check_fraction("beta2", self.beta2)
        m = self.beta1 * state[0] + (1 - self.beta1) * gradient
        v = self.beta2 * state[1] + (1 - self.beta2) * gradient**2
        m_hat = m / (1 - self.beta1 ** (update + 1))
        v_hat = v / (1 - self.beta2 ** (update + 1))
        rate = learning_rate_at(self.learning_rate, update)
        return theta + rate * m_hat / (np.sqrt(v_hat) + self.epsilon), (m, v)


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value!r}: must be at least 0 and below 1")
