"""The chain: a problem of exploration, where the small reward is near and the large one far (Strens 2000)."""

import math
import numbers
from typing import NamedTuple

from fastpg.random import uniform


class State(NamedTuple):
    """The place in the chain."""

    position: int  # 0 is the start


class Chain(NamedTuple):
    """Walk to the end of a chain, or return to its start at any time for a small reward.

    ===========  =====================================================================
    Observation  the position, 0 to `n_states` - 1
    Action       0 returns to the start, 1 advances by one; at the end it stays there
    Reward       `return_reward` for a return, `end_reward` for an advance from the
                 end, 0 for any other advance
    Start        position 0
    End          never
    Horizon      1,000 steps
    ===========  =====================================================================

    With probability `slip` the other action is carried out, and rewarded. The defaults are the Chain of
    Strens, "A Bayesian framework for reinforcement learning" (ICML 2000), in phases of 1,000 steps, after
    Dearden, Friedman & Russell, "Bayesian Q-learning" (AAAI 1998). Always to advance is optimal there, and
    earns 3,677 in 1,000 steps on average.
    """

    n_states: int = 5
    slip: float = 0.2  # probability
    return_reward: float = 2.0
    end_reward: float = 10.0

    horizon = 1000

    @classmethod
    def make(cls, *, n_states=5, slip=0.2, return_reward=2.0, end_reward=10.0):
        """Return the chain with these parameters.

        Raises
        ------
        TypeError
            If `n_states` is not an integer, or another argument not a number.
        ValueError
            If `n_states` < 1, `slip` is not a probability, or a reward is not finite.
        """
        if isinstance(n_states, bool) or not isinstance(n_states, numbers.Integral):
            raise TypeError(f"n_states={n_states!r}: must be an integer")
        if n_states < 1:
            raise ValueError(f"n_states={n_states!r}: must be at least 1")
        given = {"slip": slip, "return_reward": return_reward, "end_reward": end_reward}
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise TypeError(f"{name}={value!r}: must be a number")
            if not math.isfinite(value):
                raise ValueError(f"{name}={value!r}: must be finite")
        if not 0.0 <= slip <= 1.0:
            raise ValueError(f"slip={slip!r}: must be a probability, between 0 and 1")
        return cls(int(n_states), *map(float, given.values()))

    @property
    def observation_space(self):
        """One observation for each position."""
        from gymnasium.spaces import Discrete

        return Discrete(self.n_states)

    @property
    def action_space(self):
        """Two actions: return and advance."""
        from gymnasium.spaces import Discrete

        return Discrete(2)

    def reset(self, rng):
        """Return the start of the chain."""
        return State(0)

    def observe(self, state):
        """Return the position."""
        return state.position

    def step(self, state, action, rng):
        """Return the next state and the reward; draw 0 decides whether the other action is carried out."""
        advances = (action == 1) ^ (uniform(rng, 0) < self.slip)
        last = self.n_states - 1
        at_end = state.position == last
        following = last if at_end else state.position + 1
        advance_reward = self.end_reward if at_end else 0.0
        reward = advance_reward if advances else self.return_reward
        return State(following if advances else 0), reward, False
