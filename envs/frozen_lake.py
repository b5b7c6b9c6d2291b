"""FrozenLake: cross slippery ice without falling into a hole, as in Gymnasium."""

from typing import NamedTuple

import numpy as np

from fastpg.environment import checked_parameter
from fastpg.random import categorical, integer
from fastpg.tables import check_shapes_of_fields, lookup, other_fields, same_fields

MAPS = {
    "4x4": ("SFFF", "FHFH", "FFFH", "HFFG"),
    "8x8": (
        "SFFFFFFF",
        "FFFFFFFF",
        "FFFHFFFF",
        "FFFFFHFF",
        "FFFHFFFF",
        "FHHFFFHF",
        "FHFFHFHF",
        "FFFHFFFG",
    ),
}
"""Gymnasium's, row by row: Start, Frozen, Hole, Goal."""

HOLE = ord("H")
GOAL = ord("G")


class State(NamedTuple):
    """Where the player stands, from the upper left."""

    row: int
    col: int


class FrozenLake(NamedTuple):
    """A grid of ice with holes in it (Gymnasium's FrozenLake). Make one with `make`.

    ===========  =====================================================================
    Observation  ``row · columns + column``
    Action       0 goes left, 1 down, 2 right, 3 up; on slippery ice in this direction
                 with probability `success_rate`, in either perpendicular one with
                 half of the rest; at the border the player stays
    Reward       `reward_schedule`: of reaching the goal, a hole, anything else
    Start        uniform over the tiles S
    End          on a tile H or G
    Horizon      100 steps (FrozenLake-v1), 200 (FrozenLake8x8-v1), whatever the map
    ===========  =====================================================================

    Where Gymnasium's documentation says otherwise, this follows its code: any tile G is a goal, not
    only the last; the start need not be [0, 0]. A step from a hole or a goal, which no episode takes,
    stays there, with reward 0. A map without S, or with other letters, which Gymnasium would take for
    ice, is refused, and there is no random map (``gymnasium.envs.toy_text.frozen_lake`` can generate
    one for `desc`).
    """

    desc: np.ndarray  # (rows, columns) int64, the letters' codes
    starts: np.ndarray  # (n, 2) int64: row and column of each S
    is_slippery: bool = True
    success_rate: float = 1.0 / 3.0
    reward_schedule: tuple[float, float, float] = (1.0, 0.0, 0.0)  # goal, hole, ice

    horizon = 100
    gymnasium_id = "FrozenLake-v1"
    __eq__ = same_fields
    __ne__ = other_fields

    def check_parameters(self):
        """Raise ValueError unless the map and the starts have two axes and places."""
        check_shapes_of_fields(self, {"desc": ("rows", "columns"), "starts": ("n", 2)})

    @classmethod
    def make(
        cls,
        *,
        desc=None,
        map_name="4x4",
        is_slippery=True,
        success_rate=1.0 / 3.0,
        reward_schedule=(1, 0, 0),
    ):
        """Return the lake with Gymnasium's arguments.

        Parameters
        ----------
        desc : sequence of str, or array of letters, optional
            The map row by row, of S, F, H and G; in place of `map_name`.
        map_name : str
            "4x4" or "8x8".
        is_slippery : bool
        success_rate : float
            Of going in the chosen direction on slippery ice, in [0, 1].
        reward_schedule : three numbers
            Reward of reaching the goal, a hole, any other tile.

        Raises
        ------
        ValueError, TypeError
            If an argument is anything else.
        """
        if desc is None:
            if map_name not in MAPS:
                raise ValueError(f"map_name={map_name!r}: must be one of {', '.join(MAPS)}, or give desc")
            desc = MAPS[map_name]
        tiles = _tiles(desc)
        success_rate = checked_parameter(cls, "success_rate", success_rate)
        if not 0 <= success_rate <= 1:
            raise ValueError(f"success_rate={success_rate!r}: must be between 0 and 1")
        return cls(
            tiles,
            np.ascontiguousarray(np.argwhere(tiles == ord("S"))),
            checked_parameter(cls, "is_slippery", is_slippery),
            success_rate,
            _rewards(reward_schedule),
        )

    @property
    def observation_space(self):
        """The tiles, row by row."""
        from gymnasium.spaces import Discrete

        return Discrete(self.desc.size)

    @property
    def action_space(self):
        """Four directions: left, down, right, up."""
        from gymnasium.spaces import Discrete

        return Discrete(4)

    def reset(self, rng):
        """Return a start state."""
        i = integer(rng, 0, self.starts.shape[0])
        return State(lookup(self.starts, i, 0), lookup(self.starts, i, 1))

    def observe(self, state):
        """Return the number of the tile."""
        return state.row * self.desc.shape[1] + state.col

    def step(self, state, action, rng):
        """Return the next state, the reward, and whether it is a hole or a goal."""
        here = lookup(self.desc, state.row, state.col)
        was_over = (here == HOLE) | (here == GOAL)

        slip_rate = (1.0 - self.success_rate) / 2.0
        turn = categorical(rng, 0, (slip_rate, self.success_rate, slip_rate)) - 1
        direction = (action + (turn if self.is_slippery else 0)) & 3
        vertical = (direction & 1) == 1
        down = 2 - direction if vertical else 0
        right = 0 if vertical else direction - 1
        row = min(max(state.row + (0 if was_over else down), 0), self.desc.shape[0] - 1)
        col = min(max(state.col + (0 if was_over else right), 0), self.desc.shape[1] - 1)

        tile = lookup(self.desc, row, col)
        of_goal, of_hole, of_ice = self.reward_schedule
        reward = of_goal if tile == GOAL else (of_hole if tile == HOLE else of_ice)
        return State(row, col), 0.0 if was_over else reward, (tile == HOLE) | (tile == GOAL)

    def gymnasium_twin(self, render_mode=None):
        """Return Gymnasium's FrozenLake with these parameters, to compare with, evaluate in, or watch."""
        import gymnasium

        options = {  # what older versions do not know only where it matters
            name: getattr(self, name)
            for name, default in self._field_defaults.items()
            if getattr(self, name) != default
        }
        return gymnasium.make(
            "FrozenLake-v1",
            max_episode_steps=self.horizon,
            render_mode=render_mode,
            disable_env_checker=True,  # slow
            desc=["".join(map(chr, row)) for row in self.desc],
            **options,
        )

    def render_state(self, twin, state):
        """Put Gymnasium's player where this state has it, so that its renderer draws it."""
        twin.unwrapped.s = self.observe(state)
        twin.unwrapped.lastaction = None


class FrozenLake8x8(FrozenLake):
    """FrozenLake8x8-v1: by default the large map, and a horizon of 200 steps."""

    __slots__ = ()
    horizon = 200
    gymnasium_id = "FrozenLake8x8-v1"

    @classmethod
    def make(cls, *, map_name="8x8", **arguments):
        """Return the lake with Gymnasium's arguments, as `FrozenLake.make` does."""
        return super().make(map_name=map_name, **arguments)


def _tiles(desc):
    """The codes of a map's letters, shape (rows, columns)."""
    try:
        letters = np.asarray(desc).astype(str)
        rows = ["".join(row) for row in letters.reshape(len(letters), -1)]
    except (TypeError, ValueError):
        rows = []
    whole = "".join(rows)
    if not whole or len(set(map(len, rows))) > 1 or set(whole) - set("SFHG"):
        raise ValueError(f"desc={desc!r}: must be rows of equal length, of the letters S, F, H and G")
    if "S" not in whole:
        raise ValueError(f"desc={desc!r}: has no start S")
    return np.array([[ord(letter) for letter in row] for row in rows], dtype=np.int64)


def _rewards(schedule):
    try:
        goal, hole, ice = map(float, schedule)
    except (TypeError, ValueError):
        raise TypeError(
            f"reward_schedule={schedule!r}: must be three numbers, for goal, hole and ice"
        ) from None
    if not np.isfinite((goal, hole, ice)).all():
        raise ValueError(f"reward_schedule={schedule!r}: must be finite")
    return goal, hole, ice
