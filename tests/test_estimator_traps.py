"""What an estimator must not do in silence: wrong lengths, lost exceptions, empty groups, empty features."""

from typing import NamedTuple

import numba
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import fastpg
from fastpg import GPOMDP, REINFORCE, SoftmaxTabular, natural_gradient, policy_gradient
from fastpg.random import integer, uniform

needs_jit = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="needs compiled kernels")


class Coin(NamedTuple):
    """A policy whose score may have the wrong length; `n_parameters` is 2."""

    n_parameters = 2

    def sample(self, theta, observation, rng):
        return 1 if uniform(rng, 0) < 0.5 else 0

    def score(self, theta, observation, action):
        return action - 0.5, 0.0, 1.0


class ShortCoin(Coin):
    __slots__ = ()

    def score(self, theta, observation, action):
        return (action - 0.5,)


class IntegerCoin(Coin):
    __slots__ = ()

    def score(self, theta, observation, action):
        return 1 if action == 1 else -1, 0


@needs_jit
@pytest.mark.parametrize("policy", [Coin(), ShortCoin()])
@pytest.mark.parametrize("estimator", [REINFORCE(), GPOMDP()])
def test_a_score_of_another_length_is_refused(env, policy, estimator):
    with pytest.raises(TypeError, match="the score has [13] numbers, and theta 2"):
        policy_gradient(env, policy, [0.0, 0.0], estimator, n_trajectories=10)


def test_a_score_may_have_integers(env):
    gradient = policy_gradient(env, IntegerCoin(), [0.0, 0.0], n_trajectories=10).gradient
    assert gradient[0] != 0.0 and gradient[1] == 0.0


class Raising(NamedTuple):
    """Raises in one of some thousand steps."""

    horizon = 50
    observation_space = Box(-1.0, 1.0, (1,))
    action_space = Discrete(2)

    def reset(self, rng):
        return _Number(uniform(rng, 0))

    def observe(self, state):
        return (state.x,)

    def step(self, state, action, rng):
        x = uniform(rng, 0)
        if x > 0.9998:
            raise ValueError("too large", x)
        return _Number(x), 1.0, False


class _Number(NamedTuple):
    x: float


@needs_jit
def test_an_exception_in_any_thread_is_told(tmp_path, monkeypatch):
    """8000 trajectories of 50 steps meet some 80 of them, in whatever chunk; with its numbers, though new."""
    monkeypatch.setenv("FASTPG_CACHE_DIR", str(tmp_path))  # nothing is loaded, all is compiled
    env = Raising()
    policy = fastpg.SoftmaxLinear.for_env(env)
    for seed in range(20):
        with pytest.raises(RuntimeError, match=r"'too large', 0\.999.* in compiled code"):
            policy_gradient(env, policy, policy.initial(), n_trajectories=8000, seed=seed)
    envs = fastpg.VectorEnv(env, 8192)
    envs.reset(seed=0)
    with pytest.raises(RuntimeError, match=r"'too large', 0\.999.* in compiled code"):
        for _ in range(50):
            envs.step(np.zeros(8192, np.int64))


class Contexts(NamedTuple):
    """One step in one of many states, whose better action differs: most scores are seen by one trajectory."""

    n: int = 200

    horizon = 1
    observation_space = Discrete(200)
    action_space = Discrete(2)

    def reset(self, rng):
        return _Context(integer(rng, 0, self.n))

    def observe(self, state):
        return state.number

    def step(self, state, action, rng):
        return state, 1.0 + (1.0 if action == 0 else 0.0), True


class _Context(NamedTuple):
    number: int


@needs_jit
@pytest.mark.parametrize("n", [2, 16])
@pytest.mark.parametrize("baseline", ["mean", "optimal"])
def test_baselines_are_unbiased_where_scores_do_not_meet(baseline, n):
    """The sum over states of ∂J/∂θ_{s,0} is ½ · ½ · (2 - 1); 4,000 estimates, 4 standard errors."""
    env = Contexts()
    policy = SoftmaxTabular.for_env(env)
    theta = policy.initial()
    sums = []
    for i in range(4000):
        estimate = policy_gradient(
            env, policy, theta, REINFORCE(baseline), n_trajectories=n, first_trajectory=i * n, threads=1
        )
        sums.append(estimate.gradient[::2].sum())
    mean, error = np.mean(sums), np.std(sums) / np.sqrt(len(sums))
    assert abs(mean - 0.25) < 4 * error < 0.1


class Flagged(NamedTuple):
    """The second number is 1 in one of a thousand steps."""

    horizon = 20
    observation_space = Box(-1.0, 1.0, (2,))
    action_space = Discrete(2)

    def reset(self, rng):
        return _Flag(uniform(rng, 0), 0.0)

    def observe(self, state):
        return state.x, state.flag

    def step(self, state, action, rng):
        flag = 1.0 if uniform(rng, 0) < 1e-3 else 0.0
        return _Flag(uniform(rng, 1), flag), state.x, False


class _Flag(NamedTuple):
    x: float
    flag: float


def test_what_the_pilot_batch_never_saw_has_no_weight():
    env = Flagged()
    policy = fastpg.SoftmaxLinear.for_env(env)
    n = 1000 if not numba.config.DISABLE_JIT else 10
    for seed in range(5):
        estimate = policy_gradient(
            env, policy, policy.initial(), GPOMDP(baseline="value"), n_trajectories=n, seed=seed
        )
        assert np.abs(estimate.gradient).max() < 10.0


def test_steps_of_the_pilot_batch_count(env, policy, theta):
    settings = {"n_trajectories": 10, "horizon": 20}
    without = policy_gradient(env, policy, theta, GPOMDP(), **settings)
    with_one = policy_gradient(env, policy, theta, GPOMDP(baseline="time"), **settings)
    assert with_one.mean_length == without.mean_length
    assert with_one.n_steps > without.n_steps + 128


def test_a_gradient_of_zero_is_not_precise():
    """MountainCar's first trajectories all earn -200: no error, and no gradient."""
    env = fastpg.make("MountainCar-v0")
    policy = fastpg.policy_for(env)
    estimate = policy_gradient(
        env, policy, policy.initial(), REINFORCE("mean"), relative_error=0.1, max_trajectories=64, horizon=10
    )
    assert estimate.n_trajectories == 64 and not estimate.gradient.any()


def test_damping_reaches_what_the_information_does_not_see():
    natural = natural_gradient(np.ones(2), np.diag([1.0, 0.0]), 0.1)
    np.testing.assert_allclose(natural, [1 / 1.1, 10.0], rtol=1e-12)
    np.testing.assert_allclose(natural_gradient(np.ones(2), lambda v: np.diag([1.0, 0.0]) @ v, 0.1), natural)
    with pytest.raises(ValueError, match="damping=-1: must be at least 0"):
        natural_gradient(np.ones(2), np.eye(2), -1)
    with pytest.raises(ValueError, match=r"fisher: has shape \(3, 3\), must have \(2, 2\)"):
        natural_gradient(np.ones(2), np.eye(3))
