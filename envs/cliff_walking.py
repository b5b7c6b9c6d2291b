"""CliffWalking: walk along a cliff to the goal (Sutton & Barto 2018, example 6.6), as in Gymnasium."""

from typing import NamedTuple

from fastpg.random import categorical

ROWS = 4
COLUMNS = 12


class State(NamedTuple):
    """Where the walker stands, from the upper left."""

    row: int
    col: int


class CliffWalking(NamedTuple):
    """A grid of 4 rows and 12 columns with a cliff along the last row (Gymnasium's CliffWalking).

    ===========  =====================================================================
    Observation  ``12 · row + column``
    Action       0 goes up, 1 right, 2 down, 3 left; if `is_slippery` in this direction
                 or a perpendicular one, with probability 1/3 each; at the border the
                 walker stays
    Reward       -1; -100 for stepping onto the cliff
    Start        [3, 0]
    Cliff        [3, 1] to [3, 10]: leads back to the start
    End          on [3, 11]
    Horizon      none in Gymnasium: give one to the functions that need it
    ===========  =====================================================================

    Gymnasium's documentation says that the dynamics are never stochastic; they are if `is_slippery`.
    From the cliff and the goal, which no episode leaves, a step goes as from anywhere else.
    """

    is_slippery: bool = False  # True in CliffWalkingSlippery-v1

    horizon = None
    gymnasium_id = "CliffWalking-v1"

    @property
    def observation_space(self):
        """The tiles, row by row."""
        from gymnasium.spaces import Discrete

        return Discrete(ROWS * COLUMNS)

    @property
    def action_space(self):
        """Four directions: up, right, down, left."""
        from gymnasium.spaces import Discrete

        return Discrete(4)

    def reset(self, rng):
        """Return the start state."""
        return State(ROWS - 1, 0)

    def observe(self, state):
        """Return the number of the tile."""
        return state.row * COLUMNS + state.col

    def step(self, state, action, rng):
        """Return the next state, the reward, and whether it is the goal."""
        turn = categorical(rng, 0, (1 / 3, 1 / 3, 1 / 3)) - 1
        direction = (action + (turn if self.is_slippery else 0)) & 3
        vertical = (direction & 1) == 0
        down = direction - 1 if vertical else 0
        right = 0 if vertical else 2 - direction
        row = min(max(state.row + down, 0), ROWS - 1)
        col = min(max(state.col + right, 0), COLUMNS - 1)

        fell = (row == ROWS - 1) & (col > 0) & (col < COLUMNS - 1)
        col = 0 if fell else col
        terminated = (row == ROWS - 1) & (col == COLUMNS - 1)
        return State(row, col), -100.0 if fell else -1.0, terminated

    def gymnasium_twin(self, render_mode=None):
        """Return Gymnasium's CliffWalking with these parameters, to compare with, evaluate in, or watch."""
        import gymnasium

        return gymnasium.make(
            "CliffWalking-v1",
            max_episode_steps=self.horizon,
            render_mode=render_mode,
            disable_env_checker=True,  # slow
            is_slippery=self.is_slippery,
        )

    def render_state(self, twin, state):
        """Put Gymnasium's walker where this state has it, so that its renderer draws it."""
        twin.unwrapped.s = self.observe(state)
        twin.unwrapped.lastaction = None
