"""Neural policies through the estimators: against linear policies, and trajectory by trajectory."""

import numba
import numpy as np
import pytest

import fastpg
from fastpg import GPOMDP, REINFORCE, RewardToGo
from fastpg.estimators.problem import Problem
from fastpg.neural_scores import ROWS
from fastpg.random import next_step, policy_rng, seed_key, trajectory_rng

COMPILED = not numba.config.DISABLE_JIT
N = 300 if COMPILED else 4
SETTINGS = {"n_trajectories": N, "seed": 5, "horizon": 200 if COMPILED else 10}


def from_linear(rows, n_inputs):
    """A network's θ from rows with the bias last, as the linear policies have them."""
    rows = rows.reshape(-1, n_inputs + 1)
    return np.concatenate([rows[:, :-1].ravel(), rows[:, -1]])


def to_linear(theta, n_inputs):
    """The opposite."""
    n_rows = len(theta) // (n_inputs + 1)
    weights = theta[: n_rows * n_inputs].reshape(n_rows, n_inputs)
    return np.hstack([weights, theta[n_rows * n_inputs :, np.newaxis]]).ravel()


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * max(1.0, abs(expected).max()))


@pytest.mark.parametrize(
    ("estimator", "options"),
    [
        (REINFORCE("none"), {}),
        (REINFORCE("mean"), {"covariance": True}),
        (REINFORCE("optimal"), {}),
        (RewardToGo(0.9, "time"), {}),
        (GPOMDP(0.95, "value", 0.1), {"behavior": 0.9}),
    ],
    ids=str,
)
def test_without_hidden_layers_the_gradient_is_the_linear_policy_s(env, policy, theta, estimator, options):
    """Recorded, and carried along in the lanes: on the same trajectories, to 1e-10."""
    neural = fastpg.SoftmaxMLP.for_env(env, hidden=(), dtype=np.float64)
    options = dict(options)
    scale = options.pop("behavior", None)
    behaviors = [{} if scale is None else {"behavior": scale * t} for t in (theta, from_linear(theta, 4))]
    carried = fastpg.policy_gradient(env, policy, theta, estimator, **SETTINGS, **options, **behaviors[0])
    recorded = fastpg.policy_gradient(
        env, neural, from_linear(theta, 4), estimator, **SETTINGS, **options, **behaviors[1]
    )
    assert recorded.n_steps == carried.n_steps
    assert recorded.mean_return == carried.mean_return
    close(to_linear(recorded.gradient, 4), carried.gradient)
    close(to_linear(recorded.standard_error, 4), carried.standard_error)
    if "covariance" in options:
        close(np.sqrt(np.diag(recorded.covariance)), recorded.standard_error)
    if scale is not None:
        assert recorded.effective_sample_size == pytest.approx(carried.effective_sample_size, rel=1e-9)


@pytest.mark.parametrize("log_std", ["learned", "state-dependent", -0.5])
def test_without_hidden_layers_the_gradient_is_the_gaussian_linear_policy_s(log_std):
    env = fastpg.make("Pendulum-v1")
    linear = fastpg.GaussianLinear.for_env(env, log_std)
    neural = fastpg.GaussianMLP.for_env(env, (), "tanh", log_std, dtype=np.float64)
    theta = np.random.default_rng(2).normal(0.0, 0.3, linear.n_parameters)
    both = log_std == "state-dependent"
    rows = theta if both else theta[:4]

    def as_neural(x):
        return np.concatenate([from_linear(x[: len(rows)], 3), x[len(rows) :]])

    estimator, settings = REINFORCE("mean"), SETTINGS | {"n_trajectories": min(N, 50)}
    carried = fastpg.policy_gradient(env, linear, theta, estimator, **settings)
    recorded = fastpg.policy_gradient(env, neural, as_neural(theta), estimator, **settings)
    assert recorded.mean_return == pytest.approx(carried.mean_return, rel=1e-9)
    scale = 1e-10
    for found, expected in (
        (recorded.gradient, as_neural(carried.gradient)),
        (recorded.standard_error, as_neural(carried.standard_error)),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=scale * abs(expected).max())


@pytest.fixture(scope="module")
def double(env):
    """A policy with hidden layers, in float64."""
    return fastpg.SoftmaxMLP.for_env(env, hidden=(16, 12), dtype=np.float64)


@pytest.fixture(scope="module")
def weights(double):
    """A θ under which actions are neither random nor certain."""
    rng = np.random.default_rng(7)
    return double.network.initial(rng, 1.0) + 0.1 * rng.normal(size=double.n_parameters)


def played(env, policy, theta, number, seed, horizon):
    """A trajectory in ordinary Python: observations, scores and rewards of its steps."""
    rng = trajectory_rng(seed_key(seed), number)
    state, steps = env.reset(rng), []
    for _ in range(horizon):
        observation = np.array(env.observe(state))
        rng = next_step(rng)
        action = int(policy.sample(theta, observation, policy_rng(rng)))
        state, reward, terminated = env.step(state, action, rng)
        steps.append((observation, policy.score(theta, observation, action), reward))
        if terminated:
            break
    return [np.array(column) for column in zip(*steps, strict=True)]


@pytest.mark.parametrize("long", [False, True])
def test_gradient_of_a_batch_is_the_mean_of_single_trajectories(env, double, weights, long):
    """Short ones, which are scored together, and such as are longer than a block of steps."""
    settings = {"seed": 3, "horizon": 60 if COMPILED else 8}
    if long:
        env = env._replace(gravity=0.0, theta_threshold_radians=1e9, x_threshold=1e9)
        settings["horizon"] = ROWS + 100 if COMPILED else 10
    batch = fastpg.policy_gradient(env, double, weights, n_trajectories=5, **settings)
    one_by_one = [
        fastpg.policy_gradient(env, double, weights, n_trajectories=1, first_trajectory=i, **settings)
        for i in range(5)
    ]
    close(batch.gradient, np.mean([estimate.gradient for estimate in one_by_one], axis=0))
    terms = []
    for i in range(5):
        _, scores, rewards = played(env, double, weights, i, **settings)
        terms.append(scores.sum(axis=0) * rewards.sum())
    close(batch.gradient, np.mean(terms, axis=0))
    close(batch.standard_error, np.std(terms, axis=0, ddof=1) / np.sqrt(5))
    assert batch.mean_length == settings["horizon"] or not long


@pytest.mark.parametrize("kind", [GPOMDP, RewardToGo])
def test_baseline_that_is_a_network(env, double, weights, kind):
    """Against NumPy, trajectory by trajectory; what it was fitted on is a pilot batch."""
    gamma, horizon = 0.95, 60 if COMPILED else 8
    settings = {"n_trajectories": 5, "seed": 3, "horizon": horizon}
    estimator = kind(gamma, "network")
    baseline = estimator.parts(Problem(env, double, weights, 5, horizon, 3, 0, None, []))[0]
    terms, earned, left = [], [], []
    for i in range(5):
        observations, scores, rewards = played(env, double, weights, i, 3, horizon)
        times = np.arange(len(rewards))
        to_go = [gamma ** np.arange(len(rewards) - t) @ rewards[t:] for t in times]
        advantages = np.array(to_go) - baseline.values(observations, times)
        earned.append(to_go)
        left.append(advantages)
        terms.append(scores.T @ (advantages * gamma**times if kind is GPOMDP else advantages))
    estimate = fastpg.policy_gradient(env, double, weights, estimator, **settings)
    close(estimate.gradient, np.mean(terms, axis=0))
    close(estimate.standard_error, np.std(terms, axis=0, ddof=1) / np.sqrt(5))
    if COMPILED:  # otherwise too few steps
        assert np.mean(np.square(np.concatenate(left))) < 0.2 * np.mean(np.square(np.concatenate(earned)))


def test_float32_is_close_to_float64_and_bitwise_the_same_on_two_threads(env, double, weights):
    """Where no action differs, which is all but certain: to 1e-4 of the largest component."""
    single = fastpg.SoftmaxMLP.for_env(env, hidden=(16, 12))
    estimator = REINFORCE("mean")
    one, two = (
        fastpg.policy_gradient(env, single, weights, estimator, threads=threads, **SETTINGS)
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS))
    )
    np.testing.assert_array_equal(one.gradient, two.gradient)
    np.testing.assert_array_equal(one.standard_error, two.standard_error)
    exact = fastpg.policy_gradient(env, double, weights, estimator, **SETTINGS)
    assert one.n_steps == exact.n_steps
    np.testing.assert_allclose(one.gradient, exact.gradient, rtol=0, atol=1e-4 * abs(exact.gradient).max())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (fastpg.SoftmaxMLP, {}),
        (fastpg.GaussianMLP, {"log_std": "learned"}),
        (fastpg.GaussianMLP, {"log_std": "state-dependent"}),
        (fastpg.GaussianMLP, {"log_std": -1.0}),
    ],
)
def test_check_policy_approves(env, kind, options):
    env = env if kind is fastpg.SoftmaxMLP else fastpg.make("Pendulum-v1")
    report = fastpg.check_policy(kind.for_env(env, hidden=(8, 6), **options), env, n_samples=500)
    assert report.errors == [] and report.warnings == []
    assert "compiled = ordinary Python" in report.verified or not COMPILED


def test_entropy_factor_is_the_derivative_of_the_entropy(env):
    pendulum = fastpg.make("Pendulum-v1")
    rng = np.random.default_rng(0)
    for policy in (
        fastpg.SoftmaxMLP.for_env(env, (5,), dtype=np.float64),
        fastpg.GaussianMLP.for_env(pendulum, (5,), "relu", "state-dependent", dtype=np.float64),
        fastpg.GaussianMLP.for_env(pendulum, (5,), dtype=np.float64),
    ):
        theta, observation = policy.network.initial(rng), rng.normal(size=policy.n_observations)
        direction = rng.normal(size=len(theta))
        ends = [policy.entropy(theta + sign * 1e-6 * direction, observation) for sign in (1, -1)]
        slope = policy.pulled_back(theta, observation, policy.entropy_factor(theta, observation))
        assert slope @ direction == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-8)


def test_methods_take_batches(env):
    policy = fastpg.SoftmaxMLP.for_env(env, (7,))
    theta, rng = policy.initial(1), np.random.default_rng(0)
    observations = rng.normal(size=(3, 2, 4))
    actions = policy.sample(theta, observations, rng)
    assert actions.shape == (3, 2)
    assert policy.probabilities(theta, observations).shape == (3, 2, 2)
    assert policy.log_prob(theta, observations, actions).shape == (3, 2)
    scores = policy.score(theta, observations, actions)
    assert scores.shape == (3, 2, policy.n_parameters)
    one = policy.score(theta, observations[1, 1], int(actions[1, 1]))
    np.testing.assert_allclose(scores[1, 1], one, rtol=0, atol=1e-6)
    assert theta.dtype == np.float32
    assert list(policy.parameters(theta)) == ["weight_1", "bias_1", "weight_2", "bias_2"]


@pytest.mark.skipif(not COMPILED, reason="NUMBA_DISABLE_JIT: takes long")
def test_training_learns_and_its_run_is_kept(env, tmp_path):
    policy = fastpg.SoftmaxMLP.for_env(env, hidden=(16, 12))
    optimizer = fastpg.Adam(0.02)
    run = fastpg.train(env, policy, n_updates=25, n_trajectories=200, optimizer=optimizer, seed=1)
    assert run.history["mean_return"][-1] > 3 * run.history["mean_return"][0]
    loaded = fastpg.load(run.save(tmp_path / "run"))
    assert loaded.policy == policy and type(loaded.policy) is fastpg.SoftmaxMLP
    np.testing.assert_array_equal(loaded.theta, run.theta)
    played = [fastpg.evaluate(env, run_.policy, run_.theta, n_trajectories=50) for run_ in (run, loaded)]
    np.testing.assert_array_equal(played[0].returns, played[1].returns)
    assert played[0].mean_return > 40


def test_initial_differs_with_the_seed(env):
    policy = fastpg.SoftmaxMLP.for_env(env)
    assert policy.n_parameters == 4610
    assert not np.array_equal(policy.initial(), policy.initial(1))
    np.testing.assert_array_equal(policy.initial(), policy.initial(0))
    assert abs(policy.probabilities(policy.initial(), np.ones(4)) - 0.5).max() < 0.05


def test_bad_input_is_named(env):
    with pytest.raises(ValueError, match="SoftmaxMLP needs a one-dimensional Box observation"):
        fastpg.SoftmaxMLP.for_env(fastpg.make("Taxi-v4"))
    with pytest.raises(ValueError, match="SoftmaxMLP needs Discrete actions"):
        fastpg.SoftmaxMLP.for_env(fastpg.make("Pendulum-v1"))
    with pytest.raises(ValueError, match="GaussianMLP needs a one-dimensional Box action"):
        fastpg.GaussianMLP.for_env(env)
    with pytest.raises(ValueError, match="log_std='free'"):
        fastpg.GaussianMLP.for_env(fastpg.make("Pendulum-v1"), log_std="free")
    policy = fastpg.SoftmaxMLP.for_env(env)
    linear = fastpg.SoftmaxLinear.for_env(env)
    with pytest.raises(ValueError, match="baseline='network': for neural policies"):
        fastpg.policy_gradient(env, linear, np.zeros(10), GPOMDP(baseline="network"), n_trajectories=2)
    with pytest.raises(ValueError, match="theta: has shape"):
        fastpg.policy_gradient(env, policy, np.zeros(3), n_trajectories=2)
    with pytest.raises(ValueError, match="observations of another length"):
        policy._replace(actions=(0, 1, 2)).check_environment(fastpg.make("MountainCar-v0"))


@pytest.mark.parametrize(
    ("settings", "error", "complaint"),
    [
        ({"hidden": 64}, TypeError, "hidden=64: must be a sequence"),
        ({"hidden": (64, 0)}, ValueError, "hidden=0: must be at least 1"),
        ({"hidden": "64"}, TypeError, "hidden='64'"),
        ({"log_std": None}, ValueError, "log_std=None: must be"),
        ({"initial_log_std": float("nan")}, ValueError, "initial_log_std=nan: must be finite"),
    ],
)
def test_settings_of_networks_that_are_refused(settings, error, complaint):
    with pytest.raises(error, match=complaint):
        fastpg.GaussianMLP.for_env(fastpg.make("Pendulum-v1"), **settings)
    if "hidden" in settings:
        with pytest.raises(error, match=complaint):
            fastpg.SoftmaxMLP.for_env(fastpg.make("CartPole-v1"), **settings)
