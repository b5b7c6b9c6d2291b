"""Gradient ascent: SGD, momentum, Adam and the natural gradient, and schedules of the learning rate.

An optimizer is a NamedTuple of its settings. Its state is a tuple of arrays, given and returned, so a
run can be saved, resumed and replayed. `learning_rate` is a number or a function of the update
(0, 1, 2, ...); all optimizers *ascend*. One that has ``uses_fisher = True`` is given the Fisher information
too, as the last argument of `step`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastpg.estimators.natural import natural_gradient

Schedule = float | Callable[[int], float]
State = tuple[np.ndarray, ...]


class Information(Protocol):
    """Fisher information F that is never formed: the product F v, and the diagonal of F."""

    def __call__(self, vector: np.ndarray) -> np.ndarray: ...  # noqa: D102

    @property
    def diagonal(self) -> np.ndarray: ...  # noqa: D102


class LinearSchedule(NamedTuple):
    """A learning rate that goes from `start` to `end` in equal steps over `n_updates`, and stays there."""

    start: float
    end: float
    n_updates: int

    def __call__(self, update: int) -> float:
        """Return the learning rate of an update."""
        fraction = min(update / max(self.n_updates - 1, 1), 1.0)
        return self.start + fraction * (self.end - self.start)


def learning_rate_at(schedule: Schedule, update: int, name: str = "learning_rate") -> float:
    """Return the learning rate of an update, or raise ValueError if it is not a finite number >= 0."""
    rate: Any = schedule(update) if callable(schedule) else schedule
    if getattr(rate, "ndim", None) == 0:
        rate = rate.item()  # a NumPy scalar, or an array of no dimensions
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise TypeError(f"{name}={rate!r}: must be a number, or a function from update to number")
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"{name}={rate!r}: must be finite and at least 0")
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


class NaturalGradient(NamedTuple):
    r"""The natural gradient, each step as long as a Kullback–Leibler divergence allows.

    .. math:: \theta \leftarrow \theta + \alpha x, \qquad (F + \lambda I)\, x = \nabla J(\theta), \qquad
              \alpha = \sqrt{2\,\mathrm{kl} / \nabla J^\top x}

    F is the Fisher information of whole trajectories, so that ``½ α² xᵀF x`` is, to second order in the
    step, the divergence between the distributions of trajectories before and after it. It is ``kl`` for
    λ = 0 and less for λ > 0. As divergences of steps add up along a trajectory, ``kl`` of a trajectory of T
    steps is ``kl / T`` a step. (Kakade 2002; Peters & Schaal 2008, §4.1; the step size: Schulman, Levine,
    Moritz, Jordan & Abbeel 2015, appendix C, without the line search.)

    λ is `damping` times the mean of F's diagonal, so that it has the same meaning whatever the scale of the
    features. A gradient of zero makes no step.
    """

    kl: Schedule = 0.01
    damping: float = 1e-3

    @property
    def uses_fisher(self) -> bool:
        """That `step` is to be given the Fisher information."""
        return True

    def initial(self, theta: np.ndarray) -> State:
        """Return the state before the first update: none."""
        return ()

    def check(self, update: int) -> float:
        """Return the divergence of an update's step, or raise ValueError or TypeError."""
        if isinstance(self.damping, bool) or not isinstance(self.damping, int | float):
            raise TypeError(f"damping={self.damping!r}: must be a number")
        if not (math.isfinite(self.damping) and self.damping >= 0):
            raise ValueError(f"damping={self.damping!r}: must be finite and at least 0")
        return learning_rate_at(self.kl, update, "kl")

    def step(
        self,
        theta: np.ndarray,
        gradient: np.ndarray,
        state: State,
        update: int,
        fisher: np.ndarray | Information,
    ) -> tuple[np.ndarray, State]:
        """Return θ and the state after an update, from ∇J and F: a matrix, or what gives its products."""
        kl = self.check(update)
        diagonal = np.diagonal(fisher) if isinstance(fisher, np.ndarray) else fisher.diagonal
        x = natural_gradient(gradient, fisher, float(self.damping * diagonal.mean()))
        slope = gradient @ x  # = xᵀ(F + λI)x
        if slope == 0.0:
            return theta, state
        return theta + np.sqrt(2.0 * kl / slope) * x, state


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value!r}: must be at least 0 and below 1")
