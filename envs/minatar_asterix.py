"""MinAtar's Asterix (Young & Tian 2019): treasure to collect and enemies to avoid, seen as an image."""

from typing import NamedTuple

import numpy as np
from fastpg.envs.minatar import image_space, performed_action, picture_of

from fastpg.dispatch import inline
from fastpg.random import uniform

SIZE = 10
LANES = SIZE - 2  # the rows on which things move: all but the first and the last
NOBODY = -1  # the column of a lane that is empty
LEFT, UP, RIGHT, DOWN = 1, 2, 3, 4
PLAYER, ENEMY, TRAIL, GOLD = 0, 1, 2, 3  # channels
_COLOURS = (TRAIL, (70, 70, 90)), (ENEMY, (200, 80, 60)), (GOLD, (240, 200, 70)), (PLAYER, (90, 160, 230))


class State(NamedTuple):
    """The player and what moves on each lane; row 0 is at the top, column 0 at the left."""

    row: int
    column: int
    spawn_interval: int  # steps between two newcomers
    spawn_timer: int
    move_interval: int  # steps between two moves of all things
    move_timer: int
    ramp_timer: int
    ramp_index: int  # how often it became harder
    last_action: int
    things: np.ndarray  # int64, shape (LANES,): columns
    going_right: np.ndarray  # bool, shape (LANES,)
    golden: np.ndarray  # bool, shape (LANES,)


class Asterix(NamedTuple):
    """Collect treasure and avoid enemies, which cross the board from both sides, ever faster.

    ===========  =====================================================================
    Observation  bool, shape (10, 10, 4), the last axis the channels: player, enemies,
                 trails (behind enemies and treasure), treasure
    Action       0 stay, 1 left, 2 up, 3 right, 4 down; with the full set, which all
                 games share, also 5 fire, which does nothing here
    Reward       1 for a treasure
    Start        an empty board; the player at row 5, column 5
    End          the player and an enemy meet
    Horizon      none
    ===========  =====================================================================

    Every `spawn_interval` steps something appears at one end of a lane that is empty, one third of it
    treasure; every `move_interval` steps all things move by one column. With `difficulty_ramping` the first
    becomes shorter by one every 102 steps or so (`ramp_interval` + 2), and the second every other time, until
    both are 1. With probability `sticky_action_prob` the last action is performed in place of the chosen one.

    Source: as for `fastpg.envs.minatar_breakout.Breakout`, which also says what differs.
    """

    sticky_action_prob: float = 0.1
    difficulty_ramping: bool = True
    use_minimal_action_set: bool = True
    spawn_interval: int = 10
    move_interval: int = 5
    ramp_interval: int = 100

    horizon = None
    observation_space = image_space(4)

    @property
    def action_space(self):
        """The minimal set of actions, or the full one."""
        from gymnasium.spaces import Discrete

        return Discrete(5 if self.use_minimal_action_set else 6)

    def reset(self, rng):
        """Return the start, which is always the same."""
        return State(
            5,
            5,
            self.spawn_interval,
            self.spawn_interval,
            self.move_interval,
            self.move_interval,
            self.ramp_interval,
            0,
            0,
            np.full(LANES, NOBODY),
            np.zeros(LANES, np.bool_),
            np.zeros(LANES, np.bool_),
        )

    def observe(self, state):
        """Return the image."""
        image = np.zeros((SIZE, SIZE, 4), np.bool_)
        image[state.row, state.column, PLAYER] = True
        for lane in range(LANES):
            column = state.things[lane]
            if column != NOBODY:
                image[lane + 1, column, GOLD if state.golden[lane] else ENEMY] = True
                behind = column - 1 if state.going_right[lane] else column + 1
                if 0 <= behind < SIZE:
                    image[lane + 1, behind, TRAIL] = True
        return image

    def picture(self, state):
        """Return a picture of the state, for recordings: uint8, shape (240, 240, 3)."""
        return picture_of(self.observe(state), _COLOURS)

    def step(self, state, action, rng):
        """Return the next state, the reward, and whether an enemy was met.

        Draw 0 decides if the action sticks; of a newcomer, 1 the side, 2 whether it is gold, 3 the lane.
        """
        performed = performed_action(action, state.last_action, self.sticky_action_prob, rng)
        things = state.things.copy()
        going_right, golden = state.going_right, state.golden
        spawn_timer, move_timer = state.spawn_timer, state.move_timer

        if spawn_timer == 0:
            spawn_timer = state.spawn_interval
            lane = _empty_lane(things, uniform(rng, 3))
            if lane != NOBODY:
                from_left = uniform(rng, 1) < 1 / 2
                going_right, golden = going_right.copy(), golden.copy()
                things[lane] = 0 if from_left else SIZE - 1
                going_right[lane] = from_left
                golden[lane] = uniform(rng, 2) < 1 / 3

        column = state.column + (1 if performed == RIGHT else 0) - (1 if performed == LEFT else 0)
        row = state.row + (1 if performed == DOWN else 0) - (1 if performed == UP else 0)
        column, row = min(max(column, 0), SIZE - 1), min(max(row, 1), LANES)

        # Only one lane is the player's. He may meet what is there when he moves, and when it moves.
        here = row - 1
        reward, met = 0.0, False
        if things[here] == column:
            met = not golden[here]
            if not met:
                reward += 1.0
                things[here] = NOBODY
        if move_timer == 0:
            move_timer = state.move_interval
            for lane in range(LANES):
                if things[lane] != NOBODY:
                    moved = things[lane] + (1 if going_right[lane] else -1)
                    things[lane] = moved if 0 <= moved < SIZE else NOBODY
            if things[here] == column:
                met |= not golden[here]
                if golden[here]:
                    reward += 1.0
                    things[here] = NOBODY

        spawn_interval, move_interval = state.spawn_interval, state.move_interval
        ramp_timer, ramp_index = state.ramp_timer, state.ramp_index
        if self.difficulty_ramping and (spawn_interval > 1 or move_interval > 1):
            if ramp_timer >= 0:
                ramp_timer -= 1
            else:
                move_interval -= 1 if move_interval > 1 and ramp_index % 2 == 1 else 0
                spawn_interval -= 1 if spawn_interval > 1 else 0
                ramp_index += 1
                ramp_timer = self.ramp_interval
        following = State(
            row,
            column,
            spawn_interval,
            spawn_timer - 1,
            move_interval,
            move_timer - 1,
            ramp_timer,
            ramp_index,
            performed,
            things,
            going_right,
            golden,
        )
        return following, reward, met


@inline
def _empty_lane(things, draw):
    """Return one of the lanes that are empty, by a draw, or NOBODY."""
    n_empty = 0
    for lane in range(LANES):
        n_empty += things[lane] == NOBODY
    wanted, chosen = int(draw * n_empty), NOBODY
    for lane in range(LANES - 1, -1, -1):
        if things[lane] == NOBODY:
            n_empty -= 1
            chosen = lane if n_empty == wanted else chosen
    return chosen
