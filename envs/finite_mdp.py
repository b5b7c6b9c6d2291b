"""Any finite Markov decision process, from its tables."""

from typing import NamedTuple

import numpy as np

from fastpg.arguments import MAX_HORIZON, check_integer
from fastpg.random import uniform
from fastpg.tables import check_shapes_of_fields, lookup, other_fields, same_fields

_TOLERANCE = 1e-9  # on the sums of probabilities


class State(NamedTuple):
    """The number of the state."""

    s: int


class Outcomes(NamedTuple):
    """All that can follow a state and an action: arrays of shape (S, A, K), padded with probability 0."""

    probability: np.ndarray  # float64
    next_state: np.ndarray  # int64
    reward: np.ndarray  # float64
    terminated: np.ndarray  # bool


class FiniteMDP(NamedTuple):
    """A Markov decision process with S states and A actions, given by tables.

    Make one with `from_arrays`, `from_outcomes` or `from_gymnasium`; the fields are the tables that the
    compiled step reads.

    ===========  =====================================================================
    Observation  the number of the state, 0 to S - 1
    Action       0 to A - 1
    Reward       that of the outcome
    Start        by `start`
    End          where the outcome is marked as terminated
    Horizon      as given
    ===========  =====================================================================

    A step draws one of K outcomes in constant time by the alias method (Walker 1977; tables by Vose, "A
    linear algorithm for generating random numbers with a given distribution", 1991): one uniform number
    u gives the column floor(u K) and, in the fraction of u K, the choice between the column's own outcome
    and its alias. As u has 52 bits, an outcome's probability is met to 2 K · 2⁻⁵², that of a start state
    to 2 S · 2⁻⁵².
    """

    probability: np.ndarray  # (S, A, K), of outcome k; 0 for padding
    successor: np.ndarray  # (S, A, K) int64: twice the next state, plus 1 where the episode ends
    reward: np.ndarray  # (S, A, K)
    threshold: np.ndarray  # (S, A, K): the fraction below which column k means outcome k
    alias: np.ndarray  # (S, A, K) int64: the outcome that it means otherwise
    start: np.ndarray  # (S,), the distribution of the start state
    start_threshold: np.ndarray  # (S,)
    start_alias: np.ndarray  # (S,) int64
    horizon: int

    __eq__ = same_fields
    __ne__ = other_fields

    def check_parameters(self):
        """Raise ValueError unless the tables are of one size."""
        outcomes = dict.fromkeys(
            ("probability", "successor", "reward", "threshold", "alias"), ("S", "A", "K")
        )
        starts = dict.fromkeys(("start", "start_threshold", "start_alias"), ("S",))
        check_shapes_of_fields(self, outcomes | starts)

    @classmethod
    def from_arrays(cls, transition, reward, start, *, horizon, terminal=None, terminated=None):
        """Return the process with these arrays.

        Parameters
        ----------
        transition : array, shape (S, A, S)
            Probability of the next state; each ``transition[s, a]`` sums to 1.
        reward : array, shape (S, A) or (S, A, S)
            Of an action, or of an action and the state that it led to.
        start : array, shape (S,)
            Probability of the start state.
        horizon : int
            Time limit.
        terminal : bool array, shape (S,), optional
            States that end the episode when they are entered; no episode may start in one.
        terminated : bool array, shape (S, A, S), optional
            Transitions that end the episode. At most one of the two is given.

        Raises
        ------
        ValueError, TypeError
            If a shape does not fit, a number is not finite, a probability negative, a sum not 1 to 1e-9.
        """
        transition = _floats("transition", transition)
        if transition.ndim != 3 or transition.shape[0] != transition.shape[2]:
            raise ValueError(f"transition: has the shape {transition.shape}, must have (S, A, S)")
        n_states, n_actions, _ = shape = transition.shape
        reward = _floats("reward", reward)
        if reward.shape == shape[:2]:
            reward = reward[:, :, np.newaxis]
        elif reward.shape != shape:
            raise ValueError(f"reward: has the shape {reward.shape}, must have {shape[:2]} or {shape}")
        if terminal is not None and terminated is not None:
            raise ValueError("terminal, terminated: give one of them, not both")
        if terminal is not None:
            terminated = _booleans("terminal", terminal, (n_states,))
            if np.any(terminated & (_floats("start", start, (n_states,)) > 0)):
                raise ValueError("start: has a positive probability of a terminal state")
        elif terminated is not None:
            terminated = _booleans("terminated", terminated, shape)
        else:
            terminated = np.False_
        possible = transition != 0
        n_outcomes = max(1, int(possible.sum(axis=2).max()))
        next_state = np.argsort(~possible, axis=2, kind="stable")[:, :, :n_outcomes]

        def of_outcomes(array):
            return np.take_along_axis(np.broadcast_to(array, shape), next_state, axis=2)

        probability = of_outcomes(transition)
        padding = probability == 0
        return cls.from_outcomes(
            probability,
            np.where(padding, 0, next_state),
            np.where(padding, 0.0, of_outcomes(reward)),
            of_outcomes(terminated) & ~padding,
            start,
            horizon=horizon,
        )

    @classmethod
    def from_outcomes(cls, probability, next_state, reward, terminated, start, *, horizon):
        """Return the process whose step from s with a has outcome k with ``probability[s, a, k]``.

        Parameters
        ----------
        probability, next_state, reward, terminated : arrays, shape (S, A, K)
            K is the largest number of outcomes; the others are padded with probability 0. The same next
            state may occur in several.
        start : array, shape (S,)
        horizon : int

        Raises
        ------
        ValueError, TypeError
            As `from_arrays` does.
        """
        probability = _floats("probability", probability)
        if probability.ndim != 3 or 0 in probability.shape:
            raise ValueError(f"probability: has the shape {probability.shape}, must have (S, A, K)")
        shape = probability.shape
        _check_distributions("probability", probability)
        next_state = np.asarray(next_state)
        if next_state.dtype.kind not in "iu" or next_state.shape != shape:
            raise ValueError(f"next_state: must be integers of the shape {shape}")
        if next_state.min() < 0 or next_state.max() >= shape[0]:
            raise ValueError(f"next_state: must be between 0 and {shape[0] - 1}")
        start = _floats("start", start, shape[:1])
        _check_distributions("start", start)
        return cls(
            probability,
            2 * next_state.astype(np.int64, order="C") + _booleans("terminated", terminated, shape),
            _floats("reward", reward, shape),
            *_alias_tables(probability),
            start,
            *_alias_tables(start),
            check_integer("horizon", horizon, 1, MAX_HORIZON),
        )

    @classmethod
    def from_gymnasium(cls, env, *, start=None, horizon=None):
        """Return the process in the table of a Gymnasium environment.

        Parameters
        ----------
        env : gymnasium.Env
            Its `unwrapped` has ``P[s][a] = [(probability, next state, reward, terminated), ...]``. Nothing
            else is read: what happens outside of the table is lost (Taxi's fickle passenger is refused).
        start : array, shape (S,), optional
            The environment's ``initial_state_distrib`` unless given.
        horizon : int, optional
            The environment's ``spec.max_episode_steps`` unless given.

        Raises
        ------
        ValueError
            If there is no table, or it is not as above, or no start distribution or time limit and none is
            given.
        """
        inner = getattr(env, "unwrapped", None)
        if not hasattr(inner, "P"):
            raise ValueError(f"env={env!r}: has no table P of transitions")
        if getattr(inner, "fickle_passenger", False):
            raise ValueError(f"env={env!r}: its passenger is fickle outside of the table P")
        if start is None:
            start = getattr(inner, "initial_state_distrib", None)
        if start is None:
            raise ValueError(f"start=None: {env!r} has no initial_state_distrib, so it must be given")
        if horizon is None and env.spec is not None:
            horizon = env.spec.max_episode_steps
        if horizon is None:
            raise ValueError(f"horizon=None: {env!r} has no time limit, so it must be given")
        rows = _rows(env, inner.P)
        n_states, n_actions = len(rows), len(rows[0])
        shape = n_states, n_actions, max(len(row) for actions in rows for row in actions)
        outcomes = Outcomes(
            np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape, np.bool_)
        )
        for s, actions in enumerate(rows):
            for a, row in enumerate(actions):
                for column, values in zip(outcomes, zip(*row, strict=True), strict=True):
                    column[s, a, : len(row)] = values
        return cls.from_outcomes(*outcomes, start, horizon=horizon)

    @property
    def n_states(self):
        """S."""
        return self.probability.shape[0]

    @property
    def n_actions(self):
        """A."""
        return self.probability.shape[1]

    @property
    def outcomes(self):
        """All that can follow each state and action: `Outcomes`."""
        return Outcomes(self.probability, self.successor >> 1, self.reward, self.successor & 1 == 1)

    @property
    def transition(self):
        """Probability of the next state, whether or not the episode ends there, shape (S, A, S)."""
        transition = np.zeros((self.n_states, self.n_actions, self.n_states))
        s, a, _ = np.indices(self.probability.shape, sparse=True)
        np.add.at(transition, (s, a, self.successor >> 1), self.probability)
        return transition

    @property
    def expected_reward(self):
        """Mean reward of an action in a state, shape (S, A)."""
        return np.sum(self.probability * self.reward, axis=2)

    @property
    def observation_space(self):
        """The states."""
        from gymnasium.spaces import Discrete

        return Discrete(self.n_states)

    @property
    def action_space(self):
        """The actions."""
        from gymnasium.spaces import Discrete

        return Discrete(self.n_actions)

    def reset(self, rng):
        """Return a start state."""
        scaled = uniform(rng, 0) * self.start.shape[0]
        column = int(scaled)
        kept = scaled - column < lookup(self.start_threshold, column)
        return State(column if kept else lookup(self.start_alias, column))

    def observe(self, state):
        """Return the number of the state."""
        return state.s

    def step(self, state, action, rng):
        """Return the next state, the reward, and whether the outcome ends the episode."""
        s = state.s
        scaled = uniform(rng, 0) * self.probability.shape[2]
        column = int(scaled)
        kept = scaled - column < lookup(self.threshold, s, action, column)
        k = column if kept else lookup(self.alias, s, action, column)
        successor = lookup(self.successor, s, action, k)
        return State(successor >> 1), lookup(self.reward, s, action, k), (successor & 1) == 1

    def __repr__(self):
        sizes = f"{self.n_states} states, {self.n_actions} actions, horizon={self.horizon}"
        return f"{type(self).__name__}({sizes})"


def _rows(env, table):
    """The outcomes of a Gymnasium table, by state and action."""
    try:
        n_actions = len(table[0])
        rows = [
            [[tuple(outcome) for outcome in table[s][a]] for a in range(n_actions)] for s in range(len(table))
        ]
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"env={env!r}: P must have the same actions 0, 1, ... in states 0, 1, ...") from None
    for s, actions in enumerate(rows):
        for a, row in enumerate(actions):
            if not row or any(len(outcome) != 4 or outcome[1] != int(outcome[1]) for outcome in row):
                form = "(probability, next state, reward, terminated)"
                raise ValueError(f"env={env!r}: P[{s}][{a}]={row!r}: must be a list of {form}, not empty")
    return rows


def _floats(name, values, shape=None):
    """A finite, C-contiguous float64 array of its own, of the shape if one is given."""
    try:
        array = np.array(values, dtype=np.float64, order="C")
    except (TypeError, ValueError):
        raise TypeError(f"{name}: must be an array of numbers") from None
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name}: has the shape {array.shape}, must have {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: must be finite")
    return array


def _booleans(name, values, shape):
    array = np.asarray(values)
    if array.dtype != np.bool_ or array.shape != shape:
        raise ValueError(f"{name}: must be booleans of the shape {shape}")
    return array


def _check_distributions(name, probability):
    """Along the last axis."""
    if probability.min() < 0:
        raise ValueError(f"{name}: must not be negative")
    sums = probability.sum(axis=-1)
    worst = np.unravel_index(np.argmax(np.abs(sums - 1)), sums.shape)
    if abs(sums[worst] - 1) > _TOLERANCE:
        where = name + "".join(f"[{int(i)}]" for i in worst)
        raise ValueError(f"{name}: must sum to 1, but {where} sums to {float(sums[worst])!r}")


def _alias_tables(probability):
    """Vose's tables for the distributions along the last axis: threshold and alias, of the same shape."""
    n = probability.shape[-1]
    scaled = probability * (n / probability.sum(axis=-1, keepdims=True))
    threshold = np.ones_like(probability)
    alias = np.broadcast_to(np.arange(n), probability.shape).copy()
    rows = (array.reshape(-1, n) for array in (scaled, threshold, alias))
    for weight, own, other in zip(*rows, strict=True):
        weights = weight.tolist()
        small = [k for k in range(n) if weights[k] < 1]
        large = [k for k in range(n) if weights[k] >= 1]
        while small and large:
            poor, rich = small.pop(), large.pop()
            own[poor], other[poor] = weights[poor], rich
            weights[rich] = (weights[rich] + weights[poor]) - 1
            (small if weights[rich] < 1 else large).append(rich)
        # What is left over has weight 1, but for rounding: an outcome of probability 0 never is.
    return threshold, alias
