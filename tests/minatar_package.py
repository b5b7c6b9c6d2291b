"""The `minatar` package driven by fastpg's states and random numbers, and a recording of what it does.

``python tests/minatar_package.py`` writes the recording, `RECORDING`, which the tests compare with where the
package is not installed.
"""

from pathlib import Path

import numpy as np
from fastpg.envs import minatar_asterix, minatar_breakout

from fastpg.nests import element
from fastpg.random import integer, next_step, seed_key, trajectory_rng, uniform

RECORDING = Path(__file__).parent / "data" / "minatar_1.0.15.npz"
GAMES = {"breakout": minatar_breakout.Breakout, "asterix": minatar_asterix.Asterix}
STATES = {"breakout": minatar_breakout.State, "asterix": minatar_asterix.State}


class Draws:
    """The package's generator: draws 0, 1, 2 of a step by `rand`, and 3 (0 in reset) by `randint`."""

    def __init__(self, rng, of_integer=3):
        self.rng, self.of_integer, self.taken = rng, of_integer, 0

    def rand(self):
        self.taken += 1
        return uniform(self.rng, self.taken - 1)

    def randint(self, n):
        return integer(self.rng, self.of_integer, n)


def package_game(name):
    """The package's environment."""
    from minatar import Environment

    return Environment(name)


def inject(game, state, rng):
    """Put a state into the package's environment, and the draws of a step."""
    inner = game.env
    game.random = inner.random = Draws(rng)
    game.last_action = state.last_action
    inner.terminal = False
    if game.env_name == "breakout":
        inner.ball_y, inner.ball_x, inner.pos = state.ball_row, state.ball_column, state.paddle
        inner.last_y, inner.last_x, inner.strike = state.last_row, state.last_column, state.inside
        inner.ball_dir = {(0, 0): 0, (0, 1): 1, (1, 1): 2, (1, 0): 3}[state.goes_down, state.goes_right]
        inner.brick_map = np.zeros((10, 10))
        inner.brick_map[1:4] = state.bricks
    else:
        inner.player_y, inner.player_x = state.row, state.column
        inner.spawn_speed, inner.spawn_timer = state.spawn_interval, state.spawn_timer
        inner.move_speed, inner.move_timer = state.move_interval, state.move_timer
        inner.ramp_timer, inner.ramp_index = state.ramp_timer, state.ramp_index
        columns = zip(state.things.tolist(), state.going_right.tolist(), state.golden.tolist(), strict=True)
        inner.entities = [
            None if column < 0 else [column, lane + 1, right, gold]
            for lane, (column, right, gold) in enumerate(columns)
        ]


def extract(game):
    """The package's state as fastpg has it; `canonical`."""
    inner = game.env
    if game.env_name == "breakout":
        assert not inner.brick_map[[0, *range(4, 10)]].any()
        return minatar_breakout.State(
            *(inner.ball_y, inner.ball_x, inner.ball_dir in (2, 3), inner.ball_dir in (1, 2)),
            *(inner.last_y, inner.last_x, inner.pos, bool(inner.strike), game.last_action),
            inner.brick_map[1:4] == 1,
        )
    things, right, golden = np.full(8, -1), np.zeros(8, bool), np.zeros(8, bool)
    for lane, entity in enumerate(inner.entities):
        if entity is not None:
            assert entity[1] == lane + 1
            things[lane], _, right[lane], golden[lane] = entity
    return minatar_asterix.State(
        *(inner.player_y, inner.player_x, inner.spawn_speed, inner.spawn_timer),
        *(inner.move_speed, inner.move_timer, inner.ramp_timer, inner.ramp_index, game.last_action),
        *(things, right, golden),
    )


def canonical(columns):
    """Columns of states with false flags for empty lanes, which in fastpg keep those of who left."""
    if "things" not in columns:
        return columns
    there = columns["things"] >= 0
    return {**columns, "going_right": columns["going_right"] & there, "golden": columns["golden"] & there}


def random_states(name, n, seed):
    """Columns of states of every kind, and actions of the full set."""
    rng = np.random.default_rng(seed)

    def whole(low, high, *shape):
        return rng.integers(low, high + 1, (n, *shape))

    def yes(probability, *shape):
        return rng.random((n, *shape)) < probability

    if name == "breakout":
        density = rng.choice([0.0, 0.02, 0.5, 1.0], (n, 1, 1))  # no brick, few, half, all
        low = yes(0.3)
        row, column = np.where(low, 8, whole(0, 8)), whole(0, 9)  # the last row is where episodes end
        near = np.clip(column + whole(-2, 2), 0, 9)
        paddle = np.where(low, near, whole(0, 9))
        states = minatar_breakout.State(
            *(row, column, low | yes(0.5), yes(0.5), whole(0, 8), whole(0, 9), paddle),
            *(yes(0.3), whole(0, 5), rng.random((n, 3, 10)) < density),
        )
    else:
        things = np.where(yes(0.6, 8), whole(0, 9, 8), -1)
        move_interval = whole(1, 5)
        states = minatar_asterix.State(
            *(whole(1, 8), whole(0, 9), whole(1, 10), whole(0, 3), move_interval, whole(0, 2)),
            *(whole(-1, 2), whole(0, 20), whole(0, 5), things, yes(0.5, 8), yes(0.4, 8)),
        )
    return states._asdict(), rng.integers(6, size=n)


def package_steps(name, columns, actions, seed=0):
    """Step each state once in the package: states, rewards, terminated, observations before and after.

    Pair i has the random numbers that it has in `parity.compiled_steps`.
    """
    game, key = package_game(name), seed_key(seed)
    states, rewards, terminated, seen, found = [], [], [], [], []
    for i, action in enumerate(actions):
        state = element(STATES[name](**columns), i)
        inject(game, state, next_step(trajectory_rng(key, i)))
        seen.append(game.state())
        reward, ended = game.act(int(action))
        states.append(extract(game))
        found.append(game.state())
        rewards.append(reward)
        terminated.append(ended)
    fields = zip(states[0]._fields, zip(*states, strict=True), strict=True)
    return (
        {field: np.array(column) for field, column in fields},
        np.array(rewards, float),
        np.array(terminated),
        np.array(seen),
        np.array(found),
    )


def record(n=2000, seed=7):
    """Write what the package makes of n states of each game."""
    arrays = {}
    for name in GAMES:
        columns, actions = random_states(name, n, seed)
        after, rewards, terminated, seen, found = package_steps(name, columns, actions)
        arrays |= {f"{name}/before/{field}": column for field, column in columns.items()}
        arrays |= {f"{name}/after/{field}": column for field, column in after.items()}
        arrays |= {f"{name}/actions": actions, f"{name}/rewards": rewards, f"{name}/terminated": terminated}
        arrays |= {f"{name}/seen": np.packbits(seen), f"{name}/found": np.packbits(found)}
    small = {key: a.astype(np.int8) if a.dtype == np.int64 else a for key, a in arrays.items()}
    np.savez_compressed(RECORDING, **small)


if __name__ == "__main__":
    record()
