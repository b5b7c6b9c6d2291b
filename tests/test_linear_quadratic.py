"""LinearQuadratic against NumPy with the same draws, in distribution, and against the exact expected cost."""

from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from fastpg.envs.linear_quadratic import LinearQuadratic, State
from gymnasium.spaces import Box
from scipy import stats

import fastpg
from fastpg.matrices import add_product, dot, product
from fastpg.random import next_step, normal, seed_key, trajectory_rng

JIT = not numba.config.DISABLE_JIT
# Statistical tests have fixed seeds, so they pass for ever or never; the level was set beforehand.
LEVEL = 1e-3

SIZES = [(1, 1), (2, 1), (2, 3), (4, 2), (9, 4)]


def random_system(n, m, seed=0, horizon=20):
    """A stable system with dense matrices."""
    rng = np.random.default_rng([n, m, seed])
    A = rng.normal(size=(n, n))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    Q, R, noise, start = (
        root @ root.T + 0.01 * np.eye(len(root))
        for root in (rng.normal(size=(k, k)) / k for k in (n, m, n, n))
    )
    return LinearQuadratic.from_matrices(
        A,
        rng.normal(size=(n, m)),
        Q,
        R,
        noise=noise,
        start_mean=rng.normal(size=n),
        start_covariance=start,
        horizon=horizon,
    )


def random_pairs(env, n, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, 3.0, (n, len(env.A))), rng.normal(0.0, 3.0, (n, len(env.R)))


@numba.njit
def step_rows(env, states, actions, key, following, rewards, terminated):
    for i in range(len(rewards)):
        rng = next_step(trajectory_rng(key, i))
        state, rewards[i], terminated[i] = env.step(State(states[i]), actions[i], rng)
        for k in range(len(state.x)):
            following[i, k] = state.x[k]


@numba.njit
def reset_rows(env, key, starts):
    for i in range(len(starts)):
        state = env.reset(trajectory_rng(key, i))
        for k in range(len(state.x)):
            starts[i, k] = state.x[k]


def compiled_steps(env, states, actions, seed):
    following = np.empty_like(states)
    rewards, terminated = np.empty(len(states)), np.empty(len(states), np.bool_)
    rows = (numba.typed.List(list(map(tuple, part.tolist()))) for part in (states, actions))
    step_rows(env, *rows, seed_key(seed), following, rewards, terminated)
    return following, rewards, terminated


def python_steps(env, states, actions, seed):
    steps = [
        env.step(State(tuple(x)), tuple(u), next_step(trajectory_rng(seed_key(seed), i)))
        for i, (x, u) in enumerate(zip(states.tolist(), actions.tolist(), strict=True))
    ]
    following, rewards, terminated = zip(*steps, strict=True)
    return np.array([state.x for state in following]), np.array(rewards), np.array(terminated)


def numpy_steps(env, states, actions, seed):
    n = len(env.A)
    rngs = [next_step(trajectory_rng(seed_key(seed), i)) for i in range(len(states))]
    z = np.array([[normal(rng, j) for j in range(n)] for rng in rngs])
    following = states @ env.A.T + actions @ env.B.T + z @ env.noise_root.T
    costs = ((states @ env.Q) * states).sum(axis=1) + ((actions @ env.R) * actions).sum(axis=1)
    return following, -costs, np.zeros(len(states), bool)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(actual[2], expected[2])


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_steps_are_numpys(n, m):
    """Next state and reward to 1e-12, compiled and in ordinary Python, which agree."""
    env = random_system(n, m)
    states, actions = random_pairs(env, 500 if JIT else 50, seed=1)
    expected = numpy_steps(env, states, actions, seed=2)
    compiled, python = (f(env, states, actions, 2) for f in (compiled_steps, python_steps))
    assert_close(compiled, expected)
    assert_close(python, expected)
    assert_close(compiled, python)


def test_the_reward_is_of_the_state_before_the_step():
    env = LinearQuadratic.from_matrices([[2.0]], [[1.0]], [[3.0]], [[5.0]])
    assert env.step(State((7.0,)), (0.5,), np.random.default_rng(0)) == (State((14.5,)), -148.25, False)


@pytest.mark.parametrize("name", ["A", "B", "Q", "R", "noise_root"])
def test_matrices_are_honoured_one_by_one(name):
    """Each entry, to rounding, as NumPy has it."""
    env = random_system(3, 2)
    states, actions = random_pairs(env, 20, seed=3)
    unchanged = numpy_steps(env, states, actions, seed=4)
    matrix = getattr(env, name)
    for i, j in np.ndindex(*matrix.shape):
        changed = matrix.copy()
        changed[i, j] += 0.5
        other = env._replace(**{name: changed})
        expected = numpy_steps(other, states, actions, seed=4)
        assert not all(np.array_equal(a, b) for a, b in zip(expected, unchanged, strict=True))
        assert_close(compiled_steps(other, states, actions, seed=4), expected)


def assert_normal(rows, mean, covariance):
    """Whitened components by Kolmogorov-Smirnov at 0.1 % together, and uncorrelated to 4 standard errors."""
    n = len(mean)
    z = np.linalg.solve(np.linalg.cholesky(covariance), (rows - mean).T)
    assert min(stats.kstest(component, "norm").pvalue for component in z) > LEVEL / n
    correlations = np.atleast_2d(np.corrcoef(z)) - np.eye(n)
    assert np.abs(correlations).max() <= 4 / np.sqrt(len(rows))


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_start_states_have_their_mean_and_covariance(n, m):
    env = random_system(n, m)
    starts = np.empty((20_000 if JIT else 100, n))
    reset_rows(env, seed_key(5), starts)
    assert_normal(starts, np.array(env.start_mean), env.start_covariance)
    state = env.reset(trajectory_rng(seed_key(5), 7))
    np.testing.assert_allclose(state.x, starts[7], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_the_noise_has_its_covariance(n, m):
    env = random_system(n, m)
    count = 20_000 if JIT else 100
    states, actions = (np.tile(part, (count, 1)) for part in random_pairs(env, 1, seed=6))
    following, *_ = compiled_steps(env, states, actions, seed=7)
    assert_normal(following, states[0] @ env.A.T + actions[0] @ env.B.T, env.noise)


def test_noise_in_one_direction_only():
    """A singular covariance: the next state never leaves a line."""
    direction = np.array([3.0, 4.0]) / 5
    env = LinearQuadratic.make(noise=np.outer(direction, direction))
    states, actions = random_pairs(env, 200, seed=8)
    following, *_ = compiled_steps(env, states, actions, seed=9)
    noise = following - states @ env.A.T - actions @ env.B.T
    np.testing.assert_allclose(noise @ [-0.8, 0.6], 0.0, atol=1e-7)
    assert (noise @ direction).std() == pytest.approx(1.0, rel=0.2)


def test_no_noise_is_exactly_none():
    env = LinearQuadratic.make(noise=0.0, start_covariance=0.0, start_mean=[1.0, -2.0])
    assert env.reset(np.random.default_rng(0)) == State((1.0, -2.0))
    state, *_ = env.step(State((1.0, -2.0)), (3.0,), np.random.default_rng(0))
    assert state.x == (1.0 + 0.1 * -2.0, -2.0 + 0.1 * 3.0)


def feedback_system(n, m):
    """A system, a gain for u = gain · x, and the expected return: -Σ_t tr((Q + KᵀRK) E[x_t x_tᵀ])."""
    env = random_system(n, m, horizon=15)
    gain = np.ascontiguousarray(-0.1 * env.B.T)
    closed = env.A + env.B @ gain
    moment = env.start_covariance + np.outer(env.start_mean, env.start_mean)
    expected = 0.0
    for _ in range(env.horizon):
        expected -= np.trace((env.Q + gain.T @ env.R @ gain) @ moment)
        moment = closed @ moment @ closed.T + env.noise
    return env, gain, expected


@numba.njit
def play(env, offset, gain, key, n):
    """Returns of n episodes with the action offset + gain · x."""
    returns = np.zeros(n)
    for i in range(n):
        rng = trajectory_rng(key, i)
        state = env.reset(rng)
        for _ in range(env.horizon):
            rng = next_step(rng)
            state, reward, _terminated = env.step(state, add_product(offset, gain, state.x), rng)
            returns[i] += reward
    return returns


@numba.njit
def products(total, matrix, x):
    return product(matrix, x), add_product(total, matrix, x), dot(x, x)


@pytest.mark.parametrize("kind", [int, float])
def test_products_of_integers_are_those_of_numbers(kind):
    matrix = np.array([[2, -1], [0, 3]], kind)
    expected = ((0.0, 6.0), (1.0, 5.0), 5.0)
    assert products((1, -1), matrix, (1, 2)) == expected
    assert products((1.0, -1.0), matrix, (1.0, 2.0)) == expected
    mixed = fastpg.make("LinearQuadratic-v0")._replace(start_mean=(1, 0))
    floats = mixed._replace(start_mean=(1.0, 0.0))
    assert mixed.reset(trajectory_rng(seed_key(0), 0)) == floats.reset(trajectory_rng(seed_key(0), 0))


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_the_expected_return_is_exact(n, m):
    """Mean over 20,000 episodes of 15 steps within 4 standard errors."""
    env, gain, expected = feedback_system(n, m)
    returns = play(env, (0.0,) * m, gain, seed_key(10), 20_000 if JIT else 50)
    assert abs(returns.mean() - expected) <= 4 * returns.std(ddof=1) / np.sqrt(len(returns))


class Feedback(NamedTuple):
    """The policy u = offset + gain · x."""

    offset: tuple
    gain: Any
    n_parameters = 1

    def sample(self, theta, observation, rng):
        return add_product(self.offset, self.gain, observation)

    def score(self, theta, observation, action):
        return (0.0,)


@pytest.mark.skipif(not JIT, reason="about the compiled engine")
def test_the_expected_return_is_exact_in_the_engine():
    """Mean over 20,000 trajectories within 4 standard errors."""
    env, gain, expected = feedback_system(4, 2)
    policy = Feedback((0.0, 0.0), gain)
    result = fastpg.evaluate(env, policy, np.zeros(1), n_trajectories=20_000, seed=11)
    assert set(result.lengths) == {15}
    assert abs(result.mean_return - expected) <= 4 * result.return_standard_error


def test_spaces_and_observation():
    env = random_system(4, 2)
    assert env.observation_space == Box(-np.inf, np.inf, (4,), np.float64)
    assert env.action_space == Box(-np.inf, np.inf, (2,), np.float64)
    assert env.observe(State((1.0, 2.0, 3.0, 4.0))) == (1.0, 2.0, 3.0, 4.0)


def test_matrices_come_back():
    rng = np.random.default_rng(11)
    root = rng.normal(size=(3, 3))
    Q, R, noise, start = np.diag([1.0, 0.0, 2.0]), 2 * np.eye(1), root @ root.T, np.diag([4.0, 0.0, 1.0])
    A, B, mean = rng.normal(size=(3, 3)), rng.normal(size=(3, 1)), rng.normal(size=3)
    env = LinearQuadratic.from_matrices(
        A.T, B, Q, R, noise=noise, start_mean=mean, start_covariance=start, horizon=7
    )
    for actual, expected in ((env.A, A.T), (env.B, B), (env.Q, Q), (env.R, R), (env.start_mean, mean)):
        np.testing.assert_array_equal(actual, expected)
    np.testing.assert_allclose(env.noise, noise, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(env.start_root, np.diag([2.0, 0.0, 1.0]))
    np.testing.assert_array_equal(env.start_covariance, start)
    assert env.horizon == 7
    for matrix in (env.A, env.B, env.Q, env.R, env.noise_root, env.start_root):
        assert matrix.dtype == np.float64 and matrix.flags.c_contiguous


EYE = np.eye(2)
GOOD = {"A": EYE, "B": np.ones((2, 1)), "Q": EYE, "R": [[1.0]]}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"A": np.ones((2, 3))}, ValueError, r"A: must be a square matrix.*\(2, 3\)"),
        ({"A": 1.0}, ValueError, "A: must be a square matrix"),
        ({"A": [[1, 2], [3]]}, TypeError, "A=.*must be numbers"),
        ({"A": [[np.nan, 0], [0, 1]]}, ValueError, "A=.*must be finite"),
        ({"A": EYE * 1j}, TypeError, "must be numbers"),
        ({"B": np.ones((1, 2))}, ValueError, r"B: must be of shape \(2, m\).*\(1, 2\)"),
        ({"B": np.ones(2)}, ValueError, r"B: must be of shape \(2, m\).*\(2,\)"),
        ({"Q": np.ones((3, 3))}, ValueError, r"Q: must be of shape \(2, 2\), not \(3, 3\)"),
        ({"Q": [[1, 1], [0, 1]]}, ValueError, "Q=.*must be symmetric"),
        ({"Q": -EYE}, ValueError, "Q=.*must be positive semidefinite"),
        ({"R": [[0.0]]}, ValueError, "R=.*must be positive definite"),
        ({"R": EYE}, ValueError, r"R: must be of shape \(1, 1\), not \(2, 2\)"),
        ({"noise": -1.0}, ValueError, "noise=.*must be positive semidefinite"),
        ({"noise": [1.0, 2.0]}, ValueError, r"noise: must be of shape \(2, 2\), not \(2,\)"),
        ({"start_covariance": [[1, 2], [0, 1]]}, ValueError, "start_covariance=.*must be symmetric"),
        ({"start_mean": [1.0]}, ValueError, r"start_mean: must be of shape \(2,\)"),
        ({"start_mean": "x"}, TypeError, "start_mean='x': must be numbers"),
        ({"horizon": 0}, ValueError, "horizon=0: must be between 1 and"),
        ({"horizon": 1.5}, TypeError, "horizon=1.5: must be an integer"),
    ],
)
def test_bad_matrices_are_refused(changed, error, message):
    LinearQuadratic.make(**GOOD)
    with pytest.raises(error, match=message):
        LinearQuadratic.make(**{**GOOD, **changed})
