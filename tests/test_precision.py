"""Lanes in float32: the functions, the arithmetic, and estimates beside those of float64."""

import math
import platform
import re
from typing import NamedTuple

import llvmlite.binding as llvm
import mpmath
import numba
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import fastpg
from fastpg import lanes, simd
from fastpg.precision import narrowed, widened
from fastpg.random import uniform

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="only compiled code has lanes of float32")

# name: bound in ULP of float32, and the arguments that it holds for
FUNCTIONS = {
    "exp": (1.1, [(-2.0, 2.0), (-87.3, 88.7), (-103.0, -87.0)]),
    "exp_of_negative": (1.1, [(-2.0, 0.0), (-87.0, 0.0)]),
    "log": (1.0, [(1e-45, 1e-38), (0.0, 4.0), (0.7, 0.72), (1.0, 3e38)]),
    "log_bounded": (1.0, [(1.2e-38, 1e-30), (0.0, 1.0), (1.0, 3e38)]),
    "tanh": (5.5, [(-10.0, 10.0), (-1e-3, 1e-3)]),
    "sin": (0.6, [(-7.0, 7.0), (-1e6, 1e6), (1e30, 3e38)]),
    "cos": (0.6, [(-7.0, 7.0), (-1e6, 1e6), (1e30, 3e38)]),
    "sin_bounded": (1.8, [(-3.14159, 3.14159), (-1e-3, 1e-3)]),
    "cos_bounded": (1.8, [(-1.5707, 1.5707), (1.5709, 3.14159)]),
}
ABSOLUTE = {"sin_bounded": 1.1e-7, "cos_bounded": 1.5e-7}  # wherever they are no NaN
N = 20_000


def array_loop(function):
    """Return a loop over arrays of float64 that calls a function on `single` numbers."""

    @numba.njit(error_model="numpy")
    def loop(x, out):
        for i in range(x.size):
            out[i] = widened(function(narrowed(x[i])))

    def run(x):
        out = np.empty(np.shape(x))
        loop(np.asarray(x, np.float32).astype(np.float64), out)
        return out

    run.loop = loop
    return run


@pytest.fixture(scope="module")
def loops():
    return {name: array_loop(getattr(simd, name)) for name in FUNCTIONS}


def exact(name, x):
    """The function in 60 digits."""
    function = getattr(mpmath, name.removesuffix("_bounded").removesuffix("_of_negative"))
    with mpmath.workdps(60):
        return np.array([float(function(mpmath.mpf(value))) for value in x.tolist()])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_stays_below_the_bound(name, loops):
    """Against float64, whose own functions are within a ULP of float64; some of it against mpmath."""
    bound, ranges = FUNCTIONS[name]
    rng = np.random.default_rng(4)
    for low, high in ranges:
        x = rng.uniform(low, high, N).astype(np.float32).astype(np.float64)
        x = x[x != 0.0] if name.startswith("log") else x
        true = getattr(np, name.removesuffix("_bounded").removesuffix("_of_negative"))(x)
        np.testing.assert_allclose(true[:100], exact(name, x[:100]), rtol=1e-14)
        ulp = np.spacing(np.abs(true).astype(np.float32)).astype(np.float64)
        assert np.max(np.abs(loops[name](x) - true) / ulp) < bound, (low, high)


@pytest.mark.parametrize("name", ABSOLUTE)
def test_bounded_over_its_whole_range(name, loops):
    x = np.random.default_rng(5).uniform(-(2.0**13), 2.0**13, N).astype(np.float32).astype(np.float64)
    true = getattr(np, name.removesuffix("_bounded"))(x)
    assert np.max(np.abs(loops[name](x) - true)) < ABSOLUTE[name]
    beyond = loops[name]([2.0**13, -(2.0**13), 8193.0, -1e30, math.inf, math.nan])
    np.testing.assert_array_equal(np.isnan(beyond), [False, False, True, True, True, True])


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sin", "cos", "sin_bounded", "cos_bounded"])
def test_edge_values_are_those_of_numpy(name, loops):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.0], np.float32)
    with np.errstate(all="ignore"):
        expected = getattr(np, name.removesuffix("_bounded"))(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(loops[name](x), expected, rtol=2e-7)


def test_exp_of_negative_stops_short_of_the_denormals(loops):
    got = loops["exp_of_negative"]([0.0, -0.0, math.nan, -87.0, -88.0, -1e30, -math.inf])
    assert got[:2].tolist() == [1.0, 1.0] and math.isnan(got[2])
    assert (got[3:] == got[3]).all() and 1.6e-38 < got[3] < 1.7e-38


def test_what_normal_numbers_are_made_of():
    turns = np.random.default_rng(6).integers(0, 2**24, N) * 2.0**-24
    turns[:3] = 0.25, 0.75, 0.0
    got = array_loop(simd.cos_turns)(turns)
    assert got[:3].tolist() == [0.0, 0.0, 1.0]
    assert np.max(np.abs(got - np.cos(2.0 * np.pi * turns))) < 2e-7


def test_fma_rounds_once():
    @numba.njit
    def multiply_add(a, b, c):
        return widened(simd.fma(narrowed(a), b, narrowed(c)))

    assert multiply_add(1.0 + 2.0**-12, 1.0 - 2.0**-12, -1.0) == -(2.0**-24)


@numba.njit
def arithmetic(x, y, n, flag):
    x, y = narrowed((x, y))
    chosen = x if flag else 0.5
    total = 0.0
    for i in range(n):
        total += x * i
    power = x**2 + y**n + 2.0**x
    rounded = np.floor(x) + np.ceil(y) + abs(-x) + float(y) + int(y)
    least = min(x, 2, y) + max(0.1, x)
    others = math.sqrt(x) + math.atan2(y, 3) + np.minimum(x, 1.0) + n % y + x // 0.25
    truth = (x < 1) & (0.25 <= y) & (not x == y) & bool(x)
    return widened((x, chosen, total, power, rounded, least, others, truth, (n - 1) * x - y / 3))


def test_arithmetic_stays_in_float32():
    """Each result is that of float64 to the precision of float32, and is one of float32."""
    x, y, n = np.float32(0.7), np.float32(1.3), 3
    got = arithmetic(float(x), float(y), n, True)
    x, y = float(x), float(y)
    others = math.sqrt(x) + math.atan2(y, 3) + min(x, 1.0) + n % y + x // 0.25
    expected = (
        x,
        x,
        3.0 * x,
        x**2 + y**3 + 2.0**x,
        0.0 + 2.0 + x + y + 1,
        x + x,
        others,
        True,
        2 * x - y / 3,
    )
    np.testing.assert_allclose(got, expected, rtol=5e-7)
    numbers = [value for value in got if isinstance(value, float)]
    np.testing.assert_array_equal(numbers, np.float32(numbers))


def test_a_sum_may_be_of_float64_if_that_is_asked_for():
    @numba.njit
    def long_sum(x, n):
        total, x = 0.0, narrowed(x)
        for _ in range(n):
            total += widened(x)
        return total

    assert long_sum(0.1, 1_000_000) == pytest.approx(1e6 * float(np.float32(0.1)), rel=1e-12)


# --- estimates ---


def both(env, n=1000, estimator=None, theta=None, **options):
    """Return the estimates in float64 and in float32, with the same random numbers."""
    policies = [fastpg.policy_for(env, dtype) for dtype in (np.float64, np.float32)]
    if theta is None:
        theta = 0.1 * np.random.default_rng(0).normal(size=policies[0].n_parameters)
    return [
        fastpg.policy_gradient(env, policy, theta, estimator, n_trajectories=n, **options)
        for policy in policies
    ]


def difference(double, single):
    """The largest difference of a component in standard errors."""
    assert single.mean_return == pytest.approx(double.mean_return, rel=1e-4)
    return np.max(np.abs(single.gradient - double.gradient) / double.standard_error)


@pytest.mark.parametrize(
    "id, estimator, horizon, bound",
    [
        ("CartPole-v1", fastpg.REINFORCE("optimal"), 500, 1e-3),
        ("Pendulum-v1", fastpg.RewardToGo(0.99), 100, 0.02),
        ("MountainCarContinuous-v0", fastpg.GPOMDP(0.99, entropy=0.1), 200, 0.02),
        ("Acrobot-v1", fastpg.REINFORCE("none"), 30, 1e-3),
        ("MountainCar-v0", fastpg.REINFORCE("none", discount=0.99), 50, 1e-3),
        ("LinearQuadratic-v0", fastpg.REINFORCE("none", discount=0.99), 50, 1e-2),
    ],
)
def test_same_trajectories_but_for_rounding(id, estimator, horizon, bound):
    double, single = both(fastpg.make(id), estimator=estimator, horizon=horizon, n=500, seed=3)
    assert single.n_steps == double.n_steps
    assert 0.0 < difference(double, single) < bound
    np.testing.assert_allclose(single.standard_error, double.standard_error, rtol=1e-3)


def test_estimates_are_unbiased_where_rounding_makes_other_trajectories():
    """Long trajectories of a chaotic system, of other seeds: within 4 standard errors."""
    env, theta = fastpg.make("CartPole-v1"), np.array([-0.1, -0.5, -1, -1.2, 0, 0.1, 0.5, 1, 1.2, 0.0])
    policies = fastpg.policy_for(env), fastpg.policy_for(env, "float32")
    double, single = (
        fastpg.policy_gradient(
            env, policy, theta, fastpg.REINFORCE("optimal"), n_trajectories=4000, seed=seed
        )
        for seed, policy in enumerate(policies)
    )
    assert double.mean_length > 50
    z = (single.gradient - double.gradient) / np.hypot(single.standard_error, double.standard_error)
    assert np.max(np.abs(z)) < 4.0
    np.testing.assert_allclose(single.standard_error, double.standard_error, rtol=0.15)


def test_covariance_and_fisher_information():
    options = {"covariance": True, "fisher": True, "horizon": 30}
    double, single = both(fastpg.make("CartPole-v1"), estimator=fastpg.REINFORCE("optimal"), **options)
    for name in ("covariance", "fisher"):
        ours, theirs = getattr(single, name), getattr(double, name)
        assert 0.0 < np.max(np.abs(ours - theirs)) < 1e-5 * np.max(np.abs(theirs))


def test_importance_weights():
    options = {"behavior": 0.05 * np.ones(10), "horizon": 30, "estimator": fastpg.RewardToGo()}
    double, single = both(fastpg.make("CartPole-v1"), **options)
    assert 0.0 < difference(double, single) < 1e-3
    assert single.effective_sample_size == pytest.approx(double.effective_sample_size, rel=1e-5)


def test_any_number_of_threads_gives_the_same_bits():
    env = fastpg.make("CartPole-v1")
    policy = fastpg.policy_for(env, "float32")
    estimates = [
        fastpg.policy_gradient(
            env, policy, policy.initial(), fastpg.REINFORCE("optimal"), n_trajectories=3000, threads=threads
        )
        for threads in (1, numba.config.NUMBA_NUM_THREADS)
    ]
    np.testing.assert_array_equal(estimates[0].gradient, estimates[1].gradient)
    np.testing.assert_array_equal(estimates[0].standard_error, estimates[1].standard_error)


class One(NamedTuple):
    x: float


def test_rewards_are_added_up_in_float64():
    """A float32 would stop at 2**24."""

    class Paying(NamedTuple):
        horizon = 100
        observation_space = Box(-1.0, 1.0, (1,))
        action_space = Discrete(2)

        def reset(self, rng):
            return One(uniform(rng, 0))

        def observe(self, state):
            return (state.x,)

        def step(self, state, action, rng):
            return One(state.x), 2.0**20 + 0.125, False

    policy = fastpg.SoftmaxLinear(1, 2, bits=32)
    estimate = fastpg.policy_gradient(Paying(), policy, np.zeros(4), n_trajectories=64)
    assert estimate.mean_return == 100 * (2.0**20 + 0.125)


class Rolling(NamedTuple):
    """State of a ball: numbers of all kinds."""

    x: float
    count: int
    fast: bool


class Ball(NamedTuple):
    """An environment that knows nothing of float32: constants, integers, branches, functions of math."""

    slope: float = 0.3

    horizon = 30
    observation_space = Box(-np.inf, np.inf, (2,))
    action_space = Discrete(2)

    def reset(self, rng):
        return Rolling(1.0, 0, False)

    def observe(self, state):
        return state.x, 0.5 if state.fast else -0.5

    def step(self, state, action, rng):
        force = 2 * action - 1
        x = state.x + 0.1 * force - self.slope * math.sin(state.x) + 0.01 * (uniform(rng, 1) - 0.5)
        if x > 2:
            x = 2.0
        return Rolling(x, state.count + 1, abs(x - state.x) > 0.1), 1 - x**2 / (1 + state.count), x < -2


class Logistic(NamedTuple):
    """A policy that knows nothing of float32 but the word."""

    slope: float = 3.0

    n_parameters = 2
    dtype = np.float32

    def initial(self):
        return np.zeros(2)

    def right(self, theta, observation):
        return 1.0 / (1.0 + simd.exp(-self.slope * (theta[0] * observation[0] + theta[1] * observation[1])))

    def sample(self, theta, observation, rng):
        return 1 if uniform(rng, 0) < self.right(theta, observation) else 0

    def score(self, theta, observation, action):
        error = self.slope * (action - self.right(theta, observation))
        return error * observation[0], error * observation[1]


class LogisticOfFloat64(Logistic):
    __slots__ = ()
    dtype = np.float64


def test_environments_and_policies_of_ones_own():
    theta, options = np.array([0.2, -0.3]), {"n_trajectories": 2000, "seed": 5}
    estimator = fastpg.GPOMDP(0.95, "value")
    single = fastpg.policy_gradient(Ball(), Logistic(), theta, estimator, **options)
    double = fastpg.policy_gradient(Ball(), LogisticOfFloat64(), theta, estimator, **options)
    assert 0.0 < difference(double, single) < 1e-2


def test_the_loops_work_on_whole_vectors_of_float32():
    env = fastpg.make("CartPole-v1")
    policy = fastpg.policy_for(env, "float32")
    fastpg.policy_gradient(env, policy, policy.initial(), fastpg.GPOMDP(), n_trajectories=2)
    singles = [
        assembly
        for signature, assembly in lanes.sweep.inspect_asm().items()
        if "single" in str(signature) and "CartPole" in str(signature) and "CausalTerms" in str(signature)
    ]
    assert singles
    arm = platform.machine().lower() in ("aarch64", "arm64")
    of_float32 = r"fml[as]\s+v\d+\.4s" if arm else r"vfn?m(add|sub)\d+ps\s"
    of_float64 = r"fml[as]\s+v\d+\.2d" if arm else r"vfn?m(add|sub)\d+pd\s"
    if not (arm or llvm.get_host_cpu_features().get("fma")):
        pytest.skip("no fused multiply-add on this processor")
    for assembly in singles:
        assert len(re.findall(of_float32, assembly)) > 40
        assert len(re.findall(of_float64, assembly)) < 10


# --- options ---


def test_what_is_no_precision_is_refused():
    env = fastpg.make("CartPole-v1")
    for dtype in (np.int32, "float16", None, "single precision"):
        with pytest.raises(ValueError, match="dtype=.*must be float32 or float64"):
            fastpg.SoftmaxLinear.for_env(env, dtype=dtype)
    with pytest.raises(ValueError, match="dtype=.*with features the lanes have float64"):
        fastpg.SoftmaxLinear.for_env(env, features=fastpg.features.Fourier(1), dtype=np.float32)
    with pytest.raises(ValueError, match="dtype=.*with features the lanes have float64"):
        pendulum = fastpg.make("Pendulum-v1")
        fastpg.GaussianLinear.for_env(pendulum, features=fastpg.features.Fourier(1), dtype=np.float32)
    with pytest.raises(ValueError, match="a SoftmaxTabular computes in float64"):
        fastpg.policy_for(fastpg.make("FrozenLake-v1"), "float32")


def test_a_recorded_policy_of_ones_own_is_refused():
    class Recorded(fastpg.SoftmaxTabular):
        __slots__ = ()
        dtype = np.float32

    env = fastpg.make("FrozenLake-v1")
    policy = Recorded(*fastpg.SoftmaxTabular.for_env(env))
    with pytest.raises(ValueError, match="a Recorded records its trajectories, in float64"):
        fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=2)


def test_a_saved_run_keeps_it(tmp_path):
    env = fastpg.make("CartPole-v1")
    policy = fastpg.SoftmaxLinear.for_env(env, dtype=np.float32)
    run = fastpg.train(env, policy, n_updates=2, n_trajectories=100)
    run.save(tmp_path / "run")
    loaded = fastpg.load(tmp_path / "run")
    assert loaded.policy == policy and loaded.policy.dtype == np.float32
    np.testing.assert_array_equal(loaded.theta, run.theta)
    assert run.theta.dtype == np.float64
