"""Environments whose state and observation are arrays: in the lanes, stepped from outside, and checked."""

import importlib
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.env_checker import check_env as check_gymnasium_env
from gymnasium.vector import AutoresetMode

import fastpg
from fastpg.interop.single import Env
from fastpg.nests import element
from fastpg.random import integer, next_step, policy_rng, seed_key, trajectory_rng, uniform

compiled = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")


class Boards(NamedTuple):
    here: np.ndarray  # bool, shape (3, 4)
    there: np.ndarray
    visits: np.ndarray  # int64, shape (3,)
    energy: np.ndarray  # float64, shape (5,)
    row: int
    column: int


class Rooms(NamedTuple):
    """Wander on a board and light its squares; now and then the board is changed for the other one."""

    cost: float = 0.125

    horizon = 25
    observation_space = Box(0, 1, (3, 4, 2), bool)
    action_space = Discrete(2)

    def reset(self, rng):
        here = np.zeros((3, 4), np.bool_)
        here[1, integer(rng, 0, 4)] = True
        return Boards(here, here ^ True, np.zeros(3, np.int64), np.full(5, 0.5), 1, integer(rng, 1, 4))

    def observe(self, state):
        image = np.zeros((3, 4, 2), np.bool_)
        image[:, :, 0] = state.here
        image[state.row, state.column, 1] = True
        return image

    def step(self, state, action, rng):
        row = (state.row + (integer(rng, 0, 3) if action == 0 else 0)) % 3
        column = (state.column + (1 if action == 1 else 0)) % 4
        new = not state.here[row, column]
        visits = state.visits.copy()
        visits[row] += 1
        energy = state.energy * 1.0
        energy[(row + column) % 5] -= self.cost
        if uniform(rng, 1) < 0.3:  # the arrays of this very state, the other way round
            boards = Boards(state.there, state.here, visits, energy, row, column)
        else:
            here = state.here.copy()
            here[row, column] = True
            boards = Boards(here, state.there, visits, energy, row, column)
        return boards, (1.0 if new else 0.0) + energy[0], energy.min() < -0.5


class Lamps(NamedTuple):
    """Push a button with a probability that depends on an image."""

    n_parameters = 2

    def initial(self):
        return np.zeros(2)

    def right(self, theta, observation):
        lit = 0
        for i in range(3):
            for j in range(4):
                lit += observation[i, j, 0]
        logit = theta[0] * lit + theta[1] * (1.0 if observation[0, 1, 1] else -1.0)
        return 1.0 / (1.0 + np.exp(-logit))

    def sample(self, theta, observation, rng):
        return 1 if uniform(rng, 0) < self.right(theta, observation) else 0

    def score(self, theta, observation, action):
        error = action - self.right(theta, observation)
        lit = 0
        for i in range(3):
            for j in range(4):
                lit += observation[i, j, 0]
        return error * lit, error * (1.0 if observation[0, 1, 1] else -1.0)


THETA = np.array([0.1, -0.4])


def trajectories(env, policy, theta, n, seed):
    """Trajectories in ordinary Python: for each its score and return."""
    for i in range(n):
        rng = trajectory_rng(seed_key(seed), i)
        state, score, total, ended, steps = env.reset(rng), np.zeros(len(theta)), 0.0, False, 0
        while not ended and steps < env.horizon:
            rng, steps = next_step(rng), steps + 1
            observation = env.observe(state)
            action = policy.sample(theta, observation, policy_rng(rng))
            score += policy.score(theta, observation, action)
            state, reward, ended = env.step(state, action, rng)
            total += reward
        yield score, total, steps


def test_the_gradient_is_that_of_trajectories_one_at_a_time():
    n = 300
    found = list(trajectories(Rooms(), Lamps(), THETA, n, seed=3))
    scores, returns, steps = (np.array(column) for column in zip(*found, strict=True))
    assert steps.min() < 20 < steps.max()
    estimate = fastpg.policy_gradient(Rooms(), Lamps(), THETA, n_trajectories=n, seed=3)
    np.testing.assert_allclose(estimate.gradient, (scores.T @ returns) / n, rtol=1e-12)
    assert estimate.n_steps == steps.sum()
    np.testing.assert_allclose(estimate.mean_return, returns.mean(), rtol=1e-13)


@compiled
def test_any_number_of_threads_gives_the_same_bits():
    one, two = (
        fastpg.policy_gradient(Rooms(), Lamps(), THETA, n_trajectories=300, seed=3, threads=threads)
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS))
    )
    np.testing.assert_array_equal(one.gradient, two.gradient)


@compiled
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_stepped_from_outside_they_do_what_they_do_in_ordinary_python(mode):
    env, n = Rooms(), 150  # more than one chunk of lanes, and no whole number of vectors
    vector = fastpg.VectorEnv(env, n, autoreset_mode=mode)
    assert vector.observation_space.shape == (n, 3, 4, 2)
    observations, _ = vector.reset(seed=5)
    actions = np.random.default_rng(0)
    episode = np.zeros(n, int)
    rngs = [next_step(trajectory_rng(seed_key(5), i)) for i in range(n)]
    states = [env.reset(trajectory_rng(seed_key(5), i)) for i in range(n)]
    over, finished = np.zeros(n, bool), 0
    for _ in range(40):
        for i, state in enumerate(states):
            np.testing.assert_array_equal(observations[i], env.observe(state))
            for ours, theirs in zip(element(vector.states, i), state, strict=True):
                np.testing.assert_array_equal(ours, theirs)
        if mode is AutoresetMode.DISABLED and over.any():
            observations, _ = vector.reset(options={"reset_mask": over.copy()})
        chosen = actions.integers(2, size=n)
        if not (mode is AutoresetMode.DISABLED and over.any()):
            observations, rewards, terminated, truncated, infos = vector.step(chosen)
            assert observations.dtype == bool
        for i in range(n):
            if over[i] and mode is not AutoresetMode.SAME_STEP:
                begins = True
            elif mode is AutoresetMode.DISABLED and over.any():
                continue  # nobody stepped
            else:
                states[i], reward, ended = env.step(states[i], int(chosen[i]), rngs[i])
                rngs[i] = next_step(rngs[i])
                assert (rewards[i], terminated[i]) == (reward, ended)
                begins = mode is AutoresetMode.SAME_STEP and (terminated[i] or truncated[i])
                if begins:
                    np.testing.assert_array_equal(infos["final_obs"][i], env.observe(states[i]))
            if begins:
                finished += 1
                episode[i] += 1
                rng = trajectory_rng(seed_key(5), (int(episode[i]) << 32) + i)
                states[i], rngs[i] = env.reset(rng), next_step(rng)
        over = vector.over
    assert finished > n / 2


@compiled
def test_states_are_set_and_read():
    vector = fastpg.VectorEnv(Rooms(), 150)
    vector.reset(seed=1)
    before = vector.states
    chosen = np.zeros(150, bool)
    chosen[[3, 140]] = True
    energy = np.arange(10.0).reshape(2, 5)
    vector.set_states(element(before, 0)._replace(energy=energy, row=np.array([2, 0])), chosen)
    after = vector.states
    np.testing.assert_array_equal(after.energy[chosen], energy)
    np.testing.assert_array_equal(after.here[140], before.here[0])
    np.testing.assert_array_equal(after.row[chosen], [2, 0])
    np.testing.assert_array_equal(after.energy[~chosen], before.energy[~chosen])
    assert (after.here.dtype, after.visits.dtype, after.energy.shape) == (bool, np.int64, (150, 5))
    with pytest.raises(ValueError, match=r"array 3 has shape \(4,\), must have \(150, 5\)"):
        vector.set_states(before._replace(energy=np.zeros(4)))
    with pytest.raises(TypeError, match="array 2 is float64, must be int64"):
        vector.set_states(before._replace(visits=np.zeros(3)))


@compiled
def test_gymnasium_finds_nothing_wrong_with_images():
    env = Env(Rooms())
    check_gymnasium_env(env, skip_render_check=True)
    observation, _ = env.reset(seed=2)
    assert env.observation_space.contains(observation)
    state = env.state
    assert state.here.shape == (3, 4)
    env.set_state(state._replace(row=0, column=3))
    assert env.step(1)[0][0, 0, 1]


_IMPORTS = """
from typing import NamedTuple
import fastpg, numpy as np
from fastpg.random import uniform
from gymnasium.spaces import Box, Discrete
"""


@compiled
def test_the_readmes_environment_is_a_correct_one(tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    code = readme.split("<!-- array state -->\n```python\n")[1].split("```")[0]
    (tmp_path / "readme.py").write_text(_IMPORTS + code)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("readme")
    assert capsys.readouterr().out == (
        "Filling: a correct environment; not vectorised\n  reset draws []\n  step draws [0]\n"
    )


class Writing(Rooms):
    __slots__ = ()

    def step(self, state, action, rng):
        state.here[0, 0] = True
        return state, 0.0, False


class Growing(Rooms):
    __slots__ = ()

    def step(self, state, action, rng):
        return state._replace(visits=np.zeros(4, np.int64)), 0.0, False


class Rounding(Rooms):
    __slots__ = ()

    def step(self, state, action, rng):
        return state._replace(visits=state.visits * 0.5), 0.0, False


class Flat(Rooms):
    __slots__ = ()

    def observe(self, state):
        return state.energy


@pytest.mark.parametrize(
    "env, message",
    [
        (Writing(), r"writes to an array in the state: copy\(\) it first"),
        (Growing(), r"step returns visits=.*shape \(4,\)\), where reset.*shape \(3,\)\): the shape"),
        (Rounding(), "step returns visits=.*float64.*where reset.*int64.*must not change"),
        (Flat(), r"observe returns an array of shape \(5,\), where observation_space is"),
    ],
)
def test_mistakes_are_named(env, message):
    with pytest.raises(TypeError, match=f"(?s){message}"):
        fastpg.check_env(env)


class Shrinking(Rooms):
    """Its types are right and its shapes are not."""

    __slots__ = ()

    def step(self, state, action, rng):
        energy = state.energy[1:].copy()
        return Boards(state.here, state.there, state.visits, energy, 0, 0), 0.0, False


def test_another_shape_is_refused_where_the_types_do_not_tell():
    refused = (ValueError, RuntimeError)  # in ordinary Python, and compiled
    with pytest.raises(refused, match="the shape of an array in the state must not change"):
        fastpg.evaluate(Shrinking(), Lamps(), THETA, n_trajectories=2)


def test_policies_and_baselines_of_vectors_refuse_images():
    with pytest.raises(ValueError, match="one-dimensional Box"):
        fastpg.SoftmaxLinear.for_env(Rooms())
    with pytest.raises(ValueError, match=r"observations of another length.*\(3, 4, 2\)"):
        fastpg.policy_gradient(Rooms(), fastpg.SoftmaxLinear(24, 2), np.zeros(50), n_trajectories=2)
    with pytest.raises(ValueError, match=r"baseline='value'.*\(3, 4, 2\)"):
        fastpg.policy_gradient(Rooms(), Lamps(), THETA, fastpg.GPOMDP(baseline="value"), n_trajectories=10)


class Growing(NamedTuple):
    """What it shows grows with every step."""

    horizon = 9
    observation_space = Box(0, 1, (2, 3), bool)
    action_space = Discrete(2)

    def reset(self, rng):
        return GrowingState(np.zeros((8, 3), np.bool_), 2)

    def observe(self, state):
        return state.board[: state.shown].copy()

    def step(self, state, action, rng):
        return GrowingState(state.board.copy(), state.shown + 1), 1.0, False


class GrowingState(NamedTuple):
    board: np.ndarray
    shown: int


@compiled
def test_a_vector_step_refuses_observations_of_another_shape():
    vector = fastpg.VectorEnv(Growing(), 8)
    vector.reset(seed=0)
    with pytest.raises(RuntimeError, match="the shape of an observation that is an array must not change"):
        vector.step(np.zeros(8, int))
