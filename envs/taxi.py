"""Taxi: fetch a passenger and bring them to their destination (Dietterich 2000), as in Gymnasium."""

from typing import NamedTuple

import numpy as np

from fastpg.dispatch import inline
from fastpg.environment import checked_parameter
from fastpg.random import categorical, integer, uniform

MAP = (
    "|R: | : :G|",
    "| : | : : |",
    "| : : : : |",
    "| | : | : |",
    "|Y| : |B: |",
)
"""Gymnasium's: between two tiles of a row is a wall (|) or a way (:)."""

SIZE = 5
# The tiles of Red, Green, Yellow and Blue.
STANDS = tuple(
    SIZE * row + MAP[row].index(letter) // 2 for row, letter in zip((0, 0, 4, 4), "RGYB", strict=True)
)
IN_TAXI = 4

# Bit 6 · row + i is the i-th barrier of a row, from its left end: 1 for a wall.
_WALLS = sum(1 << (6 * row + i) for row in range(SIZE) for i in range(6) if MAP[row][2 * i] == "|")
_STANDS = sum(tile << (5 * i) for i, tile in enumerate(STANDS))  # five bits each


class State(NamedTuple):
    """Where the taxi and the passenger are, and what the passenger wants."""

    row: int  # of the taxi, from above
    col: int
    passenger: int  # at stand 0 to 3 (Red, Green, Yellow, Blue), or 4, in the taxi
    destination: int  # 0 to 3
    fickle: bool  # will change the destination on the first move with the passenger


class Taxi(NamedTuple):
    """A taxi in a city of 5 by 5 tiles with four stands (Gymnasium's Taxi).

    ===========  =====================================================================
    Observation  ``((row · 5 + column) · 5 + passenger) · 4 + destination``
    Action       0 goes south, 1 north, 2 east, 3 west; 4 picks up, 5 drops off
    Reward       -1; -10 for picking up where the passenger is not or dropping off
                 elsewhere than at a stand or without a passenger; 20 for delivering
    Start        the taxi anywhere, the passenger at a stand, the destination another
                 one, all uniform
    End          the passenger is dropped off at the destination
    Horizon      200 steps
    ===========  =====================================================================

    With `is_rainy`, a move goes in the intended direction with probability `rainy_probability` and
    to its left or right with half of the rest each; a wall to the side keeps the taxi where it is. If the
    way ahead is blocked, the taxi stays for certain: that is Gymnasium's code, its documentation does not
    mention it.

    With `fickle_passenger`, an episode is fickle with probability `fickle_probability`, drawn at its start
    and not in the observation. Then, on the first step on which the taxi changes its tile with the passenger
    in it, the destination becomes one of the other three stands, uniformly. A move that leads nowhere is
    not the first.

    Dietterich, "Hierarchical reinforcement learning with the MAXQ value function decomposition", Journal of
    Artificial Intelligence Research 13 (2000), sections 3.1 and 7.1.
    """

    is_rainy: bool = False
    fickle_passenger: bool = False
    rainy_probability: float = 0.8  # of going where one means to, in the rain
    fickle_probability: float = 0.3

    horizon = 200
    gymnasium_id = "Taxi-v4"

    @classmethod
    def make(cls, **parameters):
        """Return the taxi with these parameters.

        Raises
        ------
        ValueError, TypeError
            If there is no such parameter, or it is not of its kind, or a probability not in [0, 1].
        """
        env = cls(**{name: checked_parameter(cls, name, value) for name, value in parameters.items()})
        env.check_parameters()
        return env

    def check_parameters(self):
        """Raise ValueError unless both probabilities are in [0, 1]."""
        for name in ("rainy_probability", "fickle_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be between 0 and 1")

    @property
    def observation_space(self):
        """500 numbers, of which 400 occur before an episode's end."""
        from gymnasium.spaces import Discrete

        return Discrete(SIZE * SIZE * 5 * 4)

    @property
    def action_space(self):
        """Six actions: south, north, east, west, pick up, drop off."""
        from gymnasium.spaces import Discrete

        return Discrete(6)

    def reset(self, rng):
        """Return a start state."""
        passenger = integer(rng, 2, 4)
        other = integer(rng, 3, 3)
        return State(
            integer(rng, 0, SIZE),
            integer(rng, 1, SIZE),
            passenger,
            other + (1 if other >= passenger else 0),
            self.fickle_passenger & (uniform(rng, 4) < self.fickle_probability),
        )

    def observe(self, state):
        """Return the number of the state, which tells all but whether the passenger is fickle."""
        return ((state.row * SIZE + state.col) * 5 + state.passenger) * 4 + state.destination

    def step(self, state, action, rng):
        """Return the next state, the reward, and whether the passenger is delivered."""
        row, col, passenger, destination, fickle = state

        south = 1 if action == 0 else (-1 if action == 1 else 0)
        east = 1 if action == 2 else (-1 if action == 3 else 0)
        aside = (1.0 - self.rainy_probability) / 2.0
        drift = categorical(rng, 0, (self.rainy_probability, aside, aside))
        drift = drift if self.is_rainy & _is_way(row, col, south, east) else 0
        to_south = south if drift == 0 else (-east if drift == 1 else east)
        to_east = east if drift == 0 else (south if drift == 1 else -south)
        moves = _is_way(row, col, to_south, to_east) & (action < 4)
        new_row = row + (to_south if moves else 0)
        new_col = col + (to_east if moves else 0)

        tile = SIZE * row + col
        stand = 0
        for i in range(1, 4):
            stand = i if tile == _stand(i) else stand
        at_stand = tile == _stand(stand)
        in_taxi = passenger == IN_TAXI
        picked_up = (action == 4) & at_stand & (passenger == stand)
        dropped_off = (action == 5) & at_stand & in_taxi
        delivered = dropped_off & (destination == stand)
        legal = (action < 4) | picked_up | dropped_off
        reward = 20.0 if delivered else (-1.0 if legal else -10.0)

        changes = self.fickle_passenger & fickle & in_taxi & moves
        draw = uniform(rng, 1) * 3.0
        other = 2 if draw >= 2.0 else (1 if draw >= 1.0 else 0)
        other = other + (1 if other >= destination else 0)
        new_state = State(
            new_row,
            new_col,
            IN_TAXI if picked_up else (stand if dropped_off else passenger),
            other if changes else destination,
            False if changes else fickle,
        )
        return new_state, reward, delivered

    def action_mask(self, observation):
        """Return which actions can have an effect: what Gymnasium has in ``info["action_mask"]``.

        Parameters
        ----------
        observation : int or array of int, shape (...)

        Returns
        -------
        int8 array, shape (..., 6)
            1 for a move with a way ahead, for picking up the passenger, and for dropping them off at a stand.
        """
        row, col, passenger, _ = np.unravel_index(observation, (SIZE, SIZE, 5, 4))
        walls = np.array([[line[2 * i] == "|" for i in range(SIZE + 1)] for line in MAP])
        stand = np.append(STANDS, -1)[passenger]  # where the passenger waits
        tile = SIZE * row + col
        effective = (
            row < SIZE - 1,
            row > 0,
            ~walls[row, col + 1],
            ~walls[row, col],
            tile == stand,
            (passenger == IN_TAXI) & np.isin(tile, STANDS),
        )
        return np.stack(effective, axis=-1).astype(np.int8)

    def gymnasium_twin(self, render_mode=None):
        """Return Gymnasium's Taxi with these parameters, to compare with, evaluate in, or watch."""
        import gymnasium

        options = {  # what older versions do not know only where it matters
            name: value for name, value in self._asdict().items() if value != self._field_defaults[name]
        }
        return gymnasium.make(
            "Taxi-v4",
            max_episode_steps=self.horizon,
            render_mode=render_mode,
            disable_env_checker=True,  # slow
            **options,
        )

    def render_state(self, twin, state):
        """Give Gymnasium's taxi this state, so that its renderer draws it."""
        twin.unwrapped.s = self.observe(state)
        twin.unwrapped.fickle_step = state.fickle
        twin.unwrapped.lastaction = None


@inline
def _stand(i):
    """The tile of stand i."""
    return (_STANDS >> (5 * i)) & 31


@inline
def _is_way(row, col, south, east):
    """Whether a taxi can go a tile to the south (-1: north), or to the east (-1: west)."""
    wall = (_WALLS >> (6 * row + col + (1 if east > 0 else 0))) & 1
    inside = (row + south >= 0) & (row + south < SIZE)
    return inside & ((east == 0) | (wall == 0))
