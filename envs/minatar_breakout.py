"""MinAtar's Breakout (Young & Tian 2019): bricks to break on a board of 10 by 10, seen as an image."""

from typing import NamedTuple

import numpy as np
from fastpg.envs.minatar import image_space, performed_action, picture_of

from fastpg.dispatch import inline
from fastpg.random import integer

SIZE = 10
BRICK_ROWS = 3
LEFT, RIGHT = 1, 3  # as in the full action set
PADDLE, BALL, TRAIL, BRICK = 0, 1, 2, 3  # channels
_COLOURS = (BRICK, (200, 80, 60)), (TRAIL, (70, 70, 90)), (PADDLE, (90, 160, 230)), (BALL, (255, 255, 255))


class State(NamedTuple):
    """The ball, the paddle and the bricks; row 0 is at the top, column 0 at the left."""

    ball_row: int
    ball_column: int
    goes_down: bool
    goes_right: bool
    last_row: int  # where the ball was
    last_column: int
    paddle: int  # column; its row is the last
    inside: bool  # the ball passes through bricks that it reached while striking another
    last_action: int
    bricks: np.ndarray  # bool, shape (BRICK_ROWS, SIZE): the rows below the first


class Breakout(NamedTuple):
    """Keep a ball from falling with a paddle, and break bricks with it.

    ===========  =====================================================================
    Observation  bool, shape (10, 10, 4), the last axis the channels: paddle, ball,
                 trail (where the ball was), bricks
    Action       0 stay, 1 left, 2 right; with the full set, which all games share,
                 0 none, 1 left, 2 up, 3 right, 4 down, 5 fire: here only 1 and 3 matter
    Reward       1 for a brick
    Start        three rows of bricks; the ball at the left or right edge of row 3,
                 going down and inwards; the paddle at column 4
    End          the ball falls below the paddle
    Horizon      none
    ===========  =====================================================================

    The ball moves one square along a diagonal. Walls, and bricks, which vanish, turn it back; the paddle does
    too if it is where the ball was, and if it is where the ball would come, throws it back the way it came.
    When the ball comes down to the paddle's row and there is no brick left, three rows are new. With
    probability `sticky_action_prob` the last action is performed in place of the chosen one.

    Source: Young & Tian, "MinAtar: An Atari-inspired testbed for thorough and reproducible reinforcement
    learning experiments" (2019, arXiv 1903.03176), and version 1.0.15 of its package, of which "-v1" has the
    minimal set of actions and "-v0" the full one. There the last action outlives an episode; here each
    episode begins with "stay".
    """

    sticky_action_prob: float = 0.1
    use_minimal_action_set: bool = True

    horizon = None
    observation_space = image_space(4)

    @property
    def action_space(self):
        """The minimal set of actions, or the full one."""
        from gymnasium.spaces import Discrete

        return Discrete(3 if self.use_minimal_action_set else 6)

    def reset(self, rng):
        """Return the start; draw 0 decides at which side."""
        from_right = integer(rng, 0, 2) == 1
        column = SIZE - 1 if from_right else 0
        bricks = np.ones((BRICK_ROWS, SIZE), np.bool_)
        return State(3, column, True, not from_right, 3, column, 4, False, 0, bricks)

    def observe(self, state):
        """Return the image."""
        image = np.zeros((SIZE, SIZE, 4), np.bool_)
        image[SIZE - 1, state.paddle, PADDLE] = True
        image[state.ball_row, state.ball_column, BALL] = True
        image[state.last_row, state.last_column, TRAIL] = True
        for i in range(BRICK_ROWS):
            for j in range(SIZE):
                image[i + 1, j, BRICK] = state.bricks[i, j]
        return image

    def picture(self, state):
        """Return a picture of the state, for recordings: uint8, shape (240, 240, 3)."""
        return picture_of(self.observe(state), _COLOURS)

    def step(self, state, action, rng):
        """Return the next state, the reward, and whether the ball fell; draw 0: whether the action sticks."""
        chosen = RIGHT if self.use_minimal_action_set and action == 2 else action
        performed = performed_action(chosen, state.last_action, self.sticky_action_prob, rng)
        move = (1 if performed == RIGHT else 0) - (1 if performed == LEFT else 0)
        paddle = min(max(state.paddle + move, 0), SIZE - 1)

        bricks = state.bricks
        goes_down, goes_right = state.goes_down, state.goes_right
        row = state.ball_row + (1 if goes_down else -1)
        column = state.ball_column + (1 if goes_right else -1)
        if column < 0 or column >= SIZE:  # a side wall, along which the ball slides for this step
            column = state.ball_column
            goes_right = not goes_right
        in_brick = fallen = False
        reward = 0.0
        if row < 0:
            row = 0
            goes_down = True
        elif 1 <= row <= BRICK_ROWS and bricks[row - 1, column]:
            in_brick = True
            if not state.inside:
                reward = 1.0
                bricks = bricks.copy()
                bricks[row - 1, column] = False
                row = state.ball_row
                goes_down = not goes_down
        elif row == SIZE - 1:
            if not _any(bricks):
                bricks = np.ones((BRICK_ROWS, SIZE), np.bool_)
            if state.ball_column == paddle:
                row = state.ball_row
                goes_down = False
            elif column == paddle:
                row = state.ball_row
                goes_down = False
                goes_right = not goes_right
            else:
                fallen = True
        following = State(
            row,
            column,
            goes_down,
            goes_right,
            state.ball_row,
            state.ball_column,
            paddle,
            in_brick,
            performed,
            bricks,
        )
        return following, reward, fallen


@inline
def _any(bricks):
    found = False
    for i in range(bricks.shape[0]):
        for j in range(bricks.shape[1]):
            found |= bricks[i, j]
    return found
