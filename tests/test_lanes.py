"""Trajectories in lock-step: that the loop is vectorised, and that no trajectory notices the others."""

import platform
import re
from typing import NamedTuple

import llvmlite.binding
import numba
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from fastpg import SoftmaxLinear, evaluate, lanes, make, policy_for, policy_gradient
from fastpg.estimators.reinforce import ScoresAndReturns
from fastpg.evaluation import _EVALUATION
from fastpg.random import Rng, integer, next_step, policy_rng, seed_key, trajectory_rng, uniform

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")


# --- machine code ---

# Multiplications and additions of float64 whose operands are whole vectors, or single numbers.
# And divisions by whole vectors.
INSTRUCTIONS = {
    "x86_64": (
        r"\tv?(?:fn?m(?:add|sub)\d{3}|mul|add|sub)pd\t",
        r"\tv?(?:fn?m(?:add|sub)\d{3}|mul|add|sub)sd\t",
        r"\tv?divpd\t",
    ),
    "aarch64": (
        r"\t(?:fmla|fmls|fmul|fadd|fsub)\tv\d+\.2d",
        r"\t(?:fn?madd|fn?msub|fmul|fadd|fsub)\td\d+",
        r"\tfdiv\tv\d+\.2d",
    ),
}
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())


@numba.njit
def one_sweep(env, policy, theta, accumulator, horizon, key, n_lanes):
    """A step of all lanes, compiled here: a kernel that comes from the cache has no assembly to read."""
    like = lanes.begin(env, policy, theta, accumulator, key, 0, 0)
    memory = lanes.allocate(like)
    for lane in range(n_lanes):
        lanes.put(memory, lane, like, like)
    parcel = lanes.pack((env, policy, theta, accumulator, horizon, memory, like, None, None))
    return lanes.sweep(parcel, n_lanes)


@pytest.fixture(scope="module")
def assembly(env, policy, theta):
    """Of the loop over lanes in the gradient kernel of CartPole."""
    one_sweep(env, policy, tuple(theta.tolist()), ScoresAndReturns(), 500, np.uint64(1), 8)
    for types, text in lanes.sweep.inspect_asm().items():
        if "CartPole" in str(types[0]) and "ScoresAndReturns" in str(types[0]):
            return text
    raise AssertionError("the sweep of CartPole was inlined or not compiled")


@pytest.mark.skipif(MACHINE not in INSTRUCTIONS, reason=f"knows no instructions of {MACHINE}")
def test_the_lane_loops_are_vectorised(assembly):
    """Acting divides once, in the softmax, and moving once, in the dynamics: both by vectors.

    LLVM keeps a scalar copy of the second loop, for memory that overlaps, which never runs: hence as many
    scalar instructions as half the packed ones, and more if a loop is not vectorised.
    """
    packed, scalar, divisions = (len(re.findall(pattern, assembly)) for pattern in INSTRUCTIONS[MACHINE])
    assert divisions >= 2
    assert packed > 50
    assert packed > 1.5 * scalar, (packed, scalar)


@pytest.mark.skipif(
    not llvmlite.binding.get_host_cpu_features().get("avx512f", False), reason="needs AVX-512"
)
def test_the_widest_vectors_are_used(assembly):
    packed = [line for line in assembly.splitlines() if re.search(INSTRUCTIONS["x86_64"][0], line)]
    assert sum("zmm" in line for line in packed) > len(packed) / 2


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="about compiled code")
def test_sweeps_have_no_machine_code_but_a_kernel_s(assembly):
    """Or the process that compiled a kernel would run a sweep that was optimised without it."""
    libraries = [compiled.library for compiled in lanes.sweep.overloads.values()]
    assert libraries and all(library.get_pointer_to_function("sweep") == 0 for library in libraries)


# --- environments of every kind of state ---


class WalkState(NamedTuple):
    position: int
    wet: bool
    height: float


class Walk(NamedTuple):
    """A random walk with an integer, a boolean and a float, which is given integers now and then."""

    width: int = 4
    slope: float = 0.25

    horizon = 30
    observation_space = Box(-np.inf, np.inf, (3,))
    action_space = Discrete(3, start=-1)

    def reset(self, rng):
        return WalkState(integer(rng, 0, 3) - 1, uniform(rng, 1) < 0.5, 1.5)

    def observe(self, state):
        return state.position, state.wet, state.height

    def step(self, state, action, rng):
        slipped = state.wet & (uniform(rng, 0) < 0.3)
        position = state.position + (0 if slipped else action)
        height = position * self.slope + state.height
        return (
            WalkState(position, (height > 1.0) ^ state.wet, height),
            position,  # an integer reward
            abs(position) >= self.width,
        )


class Whole(NamedTuple):
    """Returns integers where the start state had floats."""

    unused: float = 0.0

    horizon = 6
    observation_space = Box(-np.inf, np.inf, (1,))
    action_space = Discrete(2)

    def reset(self, rng):
        return WalkState(0, False, 0.5)

    def observe(self, state):
        return (state.height,)

    def step(self, state, action, rng):
        return WalkState(state.position + action, True, state.position), state.position, False


class Once(NamedTuple):
    """Every trajectory terminates on its first step, with a reward that tells which start it had."""

    bonus: float = 2.0

    horizon = 100
    observation_space = Box(-np.inf, np.inf, (1,))
    action_space = Discrete(2)

    def reset(self, rng):
        return WalkState(0, True, uniform(rng, 0))

    def observe(self, state):
        return (state.height,)

    def step(self, state, action, rng):
        return state, state.height + self.bonus * action, True


class Drifting(NamedTuple):
    """Wrong: an integer at the start, a float afterwards."""

    unused: float = 0.0

    horizon = 5
    observation_space = Box(-np.inf, np.inf, (1,))
    action_space = Discrete(2)

    def reset(self, rng):
        return WalkState(0, False, 0.0)

    def observe(self, state):
        return (state.height,)

    def step(self, state, action, rng):
        return WalkState(state.position + 0.5, state.wet, state.height), 1.0, False


class Bare(NamedTuple):
    """An environment without parameters."""

    horizon = 10
    observation_space = Box(-np.inf, np.inf, (1,))
    action_space = Discrete(2)

    def reset(self, rng):
        return WalkState(0, True, uniform(rng, 0))

    def observe(self, state):
        return (state.height,)

    def step(self, state, action, rng):
        return (
            WalkState(state.position, state.wet, uniform(rng, 0)),
            state.height + action,
            state.height < 0.1,
        )


class Goal(NamedTuple):
    """The reward is whether the goal was reached: a boolean."""

    goal: float = 0.7

    horizon = 10
    observation_space = Box(-np.inf, np.inf, (1,))
    action_space = Discrete(2)

    def reset(self, rng):
        return WalkState(0, True, uniform(rng, 0))

    def observe(self, state):
        return (state.height,)

    def step(self, state, action, rng):
        height = 0.5 * state.height + 0.5 * action
        return WalkState(state.position, state.wet, height), height > self.goal, height < 0.05


def play(env, policy, theta, seed, number, horizon):
    """One trajectory in ordinary Python, method by method."""
    rng = trajectory_rng(np.uint64(seed_key(np.uint64(seed))), number)
    rng = Rng(*rng)
    state = env.reset(rng)
    total = 0.0
    length = 0
    terminated = False
    while length < horizon and not terminated:
        rng = Rng(*map(np.uint64, next_step(rng)))
        share = Rng(*map(np.uint64, policy_rng(rng)))
        action = policy.sample(theta, np.array(env.observe(state), dtype=float), share)
        state, reward, terminated = env.step(state, action, rng)
        total += reward
        length += 1
    return total, length


def some_theta(policy):
    return np.random.default_rng(50).normal(0.0, 0.4, policy.n_parameters)


@pytest.mark.parametrize("env", [Walk(), Walk(width=2, slope=-0.5), Whole(), Once(), Bare(), Goal()], ids=str)
def test_lanes_play_what_ordinary_python_plays(env):
    """Every trajectory of 300 to the last reward: integers, booleans, mixed rewards, immediate ends."""
    policy = SoftmaxLinear.for_env(env)
    theta = some_theta(policy)
    result = evaluate(env, policy, theta, n_trajectories=300, seed=9)
    outcomes = [play(env, policy, theta, _EVALUATION + 9, i, env.horizon) for i in range(300)]
    returns, lengths = np.transpose(outcomes)
    np.testing.assert_array_equal(result.lengths, lengths)
    np.testing.assert_allclose(result.returns, returns, rtol=1e-15)
    assert len(set(result.returns.tolist())) > 3  # the trajectories differ


def test_lengths_of_the_environments_above():
    """What each was written for: ends by the walls and by the horizon, only by the horizon, at once."""
    lengths = {
        type(env): evaluate(env, policy, some_theta(policy), n_trajectories=300, seed=9).lengths
        for env in (Walk(), Whole(), Once())
        for policy in [SoftmaxLinear.for_env(env)]
    }
    assert lengths[Walk].min() < 30 == lengths[Walk].max()
    assert set(lengths[Whole]) == {6}
    assert set(lengths[Once]) == {1}


def test_a_state_that_changes_its_type_is_refused_by_name():
    env = Drifting()
    policy = SoftmaxLinear.for_env(env)
    with pytest.raises(TypeError, match="position=0.5, a float, where reset has 0.*must not change"):
        evaluate(env, policy, policy.initial(), n_trajectories=2)


def test_classes_of_the_same_name_are_told_apart():
    """Two environments called Once, that differ in a method, in one process."""
    first = Once

    class Other(NamedTuple):
        bonus: float = 2.0

        horizon = 100
        observation_space = Box(-np.inf, np.inf, (1,))
        action_space = Discrete(2)
        reset = Once.reset
        observe = Once.observe

        def step(self, state, action, rng):
            return state, -1.0, True

    Other.__name__ = Other.__qualname__ = first.__qualname__
    policy = SoftmaxLinear.for_env(Other())
    theta = some_theta(policy)
    assert evaluate(Once(), policy, theta, n_trajectories=3).mean_return > 0.0
    assert evaluate(Other(), policy, theta, n_trajectories=3).mean_return == -1.0


# --- no trajectory notices the others ---


def test_states_of_the_same_name_are_told_apart():
    """Of two environments with classes of their own, in one process: many have a `State` of two numbers."""
    for name in ("FrozenLake-v1", "CliffWalking-v1"):
        env = make(name)
        policy = policy_for(env)
        result = evaluate(env, policy, policy.initial(), n_trajectories=2, horizon=50)
        assert np.isfinite(result.mean_return)


@pytest.mark.parametrize("n", [1, 5, 127, 128, 129, 1_000, 30_011])
def test_outcomes_do_not_depend_on_the_batch(env, policy, theta, n):
    """The first n of 40,000 are exactly those of a batch of n, on both sides of the number of lanes."""
    many = evaluate(env, policy, theta, n_trajectories=40_000, seed=10)
    few = evaluate(env, policy, theta, n_trajectories=n, seed=10)
    np.testing.assert_array_equal(few.returns, many.returns[:n])
    np.testing.assert_array_equal(few.lengths, many.lengths[:n])


@pytest.mark.parametrize("horizon", [1, 2, 20, 40])
def test_the_horizon_cuts_exactly(env, policy, theta, horizon):
    """And changes nothing before it."""
    free = evaluate(env, policy, theta, n_trajectories=3_000, seed=11).lengths
    cut = evaluate(env, policy, theta, n_trajectories=3_000, seed=11, horizon=horizon).lengths
    assert free.max() > horizon
    np.testing.assert_array_equal(cut, np.minimum(free, horizon))


def test_a_horizon_of_one_is_one_step_of_score_times_reward(env, policy, theta):
    """CartPole pays 1 for it, so the terms are the scores of the first actions, with expectation 0."""
    estimate = policy_gradient(env, policy, theta, n_trajectories=50_000, seed=12, horizon=1)
    assert estimate.n_steps == 50_000 and estimate.mean_length == estimate.mean_return == 1.0
    assert np.all(np.abs(estimate.gradient) <= 4 * estimate.standard_error)
    assert np.all(estimate.standard_error > 0)


def test_a_trajectory_long_beyond_the_batch_is_finished(env, policy):
    """A horizon of 100,000 with three trajectories, in lanes that are mostly empty."""
    balancing = np.array([0.0, -0.2, -1.0, -0.4, 0.0, 0.1, 0.3, 2.0, 1.2, 0.05]) * 10
    lengths = evaluate(env, policy, balancing, n_trajectories=3, seed=13, horizon=100_000).lengths
    assert lengths.max() > 1_000
