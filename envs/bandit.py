"""The k-armed bandit: one choice, one reward (Robbins 1952)."""

from typing import NamedTuple

import numpy as np

from fastpg.random import normal
from fastpg.tables import check_shapes_of_fields, lookup, other_fields, same_fields


class State(NamedTuple):
    """There is one state."""

    context: int


class Bandit(NamedTuple):
    """A choice between k arms, each with normally distributed rewards.

    ===========  =====================================================================
    Observation  0, always
    Action       the number of an arm, 0 to k - 1
    Reward       normal with the arm's mean and standard deviation, which may be 0
    Start        state 0
    End          after the choice
    Horizon      1 step
    ===========  =====================================================================

    Source: Sutton & Barto, *Reinforcement Learning* (2nd ed. 2018), §2.1 and, for policy gradients, §2.8.
    `make` takes any sequences and checks them.
    """

    means: np.ndarray  # shape (k,), float64
    standard_deviations: np.ndarray  # shape (k,), float64

    horizon = 1
    __eq__ = same_fields
    __ne__ = other_fields

    @classmethod
    def make(cls, *, means=(0.0, 0.5, 1.0), standard_deviations=1.0):
        """Return the bandit with these arms.

        Parameters
        ----------
        means : sequence of k floats
            Expected rewards.
        standard_deviations : float or sequence of k floats
            One for all arms, or one each; at least 0.

        Raises
        ------
        TypeError
            If an argument holds anything but numbers.
        ValueError
            If an argument has another shape, is not finite, or a standard deviation is negative.
        """
        means = _numbers("means", means)
        if means.ndim != 1 or len(means) == 0:
            raise ValueError(
                f"means: must be one number for each arm, shape (k,) with k >= 1, not shape {means.shape}"
            )
        deviations = _numbers("standard_deviations", standard_deviations)
        if deviations.shape not in ((), means.shape):
            raise ValueError(
                "standard_deviations: must be one number or one for each mean, shape () or "
                f"{means.shape}, not shape {deviations.shape}"
            )
        if (deviations < 0.0).any():
            raise ValueError(f"standard_deviations={standard_deviations!r}: must be at least 0")
        return cls(means, np.broadcast_to(deviations, means.shape).copy())

    def check_parameters(self):
        """Raise ValueError unless each arm has a mean and a standard deviation."""
        check_shapes_of_fields(self, {"means": ("k",), "standard_deviations": ("k",)})

    @property
    def observation_space(self):
        """One observation."""
        from gymnasium.spaces import Discrete

        return Discrete(1)

    @property
    def action_space(self):
        """An action for each arm."""
        from gymnasium.spaces import Discrete

        return Discrete(len(self.means))

    def reset(self, rng):
        """Return the only state."""
        return State(0)

    def observe(self, state):
        """Return 0."""
        return state.context

    def step(self, state, action, rng):
        """Return the state, the arm's reward, and the end."""
        reward = lookup(self.means, action) + lookup(self.standard_deviations, action) * normal(rng, 0)
        return state, reward, True


def _numbers(name, value):
    """The argument as a new float64 array, finite."""
    try:
        numbers = np.array(value, order="C")
    except ValueError:  # rows of unequal length
        raise TypeError(f"{name}={value!r}: must be numbers") from None
    if numbers.dtype.kind not in "iuf":
        raise TypeError(f"{name}={value!r}: must be numbers")
    numbers = numbers.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name}={value!r}: must be finite")
    return numbers
