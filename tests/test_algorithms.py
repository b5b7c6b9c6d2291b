"""Actor-critic algorithms: gradients against NumPy, what an update is made of, and how runs go on."""

import math

import numpy as np
import pytest
from test_array_state import Rooms

import fastpg
from fastpg.algorithms.learner import Learner
from fastpg.algorithms.minibatches import Statistics, Weights
from fastpg.algorithms.ppo import Clipped
from fastpg.algorithms.trpo import TrustRegion

HORIZON = 30
PPO = fastpg.PPO(n_envs=24, n_steps=20, epochs=2, minibatch=200, learning_rate=1e-3)
WITHOUT_LIMIT = Weights(0.0, 1.0, math.inf, math.inf)


@pytest.fixture(scope="module")
def cartpole():
    env = fastpg.make("CartPole-v1")
    return env, fastpg.SoftmaxMLP.for_env(env, hidden=(16, 16))


@pytest.fixture(scope="module")
def pendulum():
    env = fastpg.make("Pendulum-v1")
    return env, fastpg.GaussianMLP.for_env(env, hidden=(16, 16), initial_log_std=-0.5)


@pytest.fixture(scope="module")
def rooms():
    """Images, as booleans."""
    return Rooms(), fastpg.SoftmaxCNN.for_env(Rooms(), filters=3, side=2, hidden=(5,))


def begun(env, policy, algorithm=PPO, seed=0, gain=100.0, **settings):
    """A learner that has recorded its first segment, with a policy far from uniform."""
    learner = Learner(env, policy, algorithm, HORIZON, seed, **settings)
    theta = policy.network.initial(np.random.default_rng(seed), 1.0)
    learner.step(theta, learner.initial_state, 0)  # compiles, and records
    learner._ascent.parameters[: len(theta)] = theta
    learner._ascent.parameters[len(theta) :] = learner.initial_state[0]
    for array in learner._ascent[1:]:
        array[...] = 0
    return learner, theta


def seen(env, batch):
    """The observations of a batch, of which images are recorded as they are and flat."""
    return batch.observations.reshape(-1, *env.observation_space.shape)


def unflattened(policy, batch):
    width = len(policy.row()) // 2 if hasattr(policy, "log_std") else 0
    return batch.actions.reshape(-1, width) if width else batch.actions


def values_of(critic, parameters, observations):
    rows = np.ascontiguousarray(observations)
    return critic.forward(parameters, rows, critic.workspace(len(rows), parameters))[:, 0].copy()


@pytest.mark.parametrize("advantage", [1.5, -1.5])
@pytest.mark.parametrize("log_ratio", [-0.5, -0.1, 0.0, 0.1, 0.5])
def test_the_slope_of_ppo_is_the_derivative_of_its_objective(log_ratio, advantage):
    def objective(x):
        return min(math.exp(x) * advantage, min(max(math.exp(x), 0.8), 1.2) * advantage)

    slope, clipped = Clipped(0.2).slope(log_ratio, advantage)
    expected = (objective(log_ratio + 1e-6) - objective(log_ratio - 1e-6)) / 2e-6
    assert slope == pytest.approx(expected, abs=1e-8)
    assert clipped == (slope == 0.0)


@pytest.mark.parametrize("which", ["cartpole", "pendulum", "rooms"])
def test_at_ratio_1_the_gradient_of_ppo_is_the_policy_gradient(which, request):
    """With the entropy's and the critic's, from scores and factors in NumPy."""
    env, policy = request.getfixturevalue(which)
    learner, theta = begun(env, policy)
    batch = learner.batch
    weights = WITHOUT_LIMIT._replace(entropy=0.1, value=0.7)
    n_rows = len(batch.advantages)
    statistics = learner.ascend(Clipped(0.2), weights, n_rows, 0.0, 0)
    gradient = learner._memories[n_rows].gradients[0]

    observations, actions = seen(env, batch), unflattened(policy, batch)
    scores = policy.score(theta, observations, actions)
    entropy = policy.pulled_back(theta, observations, policy.entropy_factor(theta, observations))
    expected = (batch.advantages[:, np.newaxis] * scores + 0.1 * entropy).mean(axis=0)
    np.testing.assert_allclose(gradient[: len(theta)], expected, rtol=0, atol=1e-5 * np.abs(expected).max())

    critic, parameters = learner.critic, learner.initial_state[0]
    errors = batch.targets - values_of(critic, parameters, batch.observations)
    work = critic.workspace(n_rows, parameters)
    critic.forward(parameters, batch.observations, work)
    expected = np.empty_like(parameters)
    critic.backward(parameters, batch.observations, work, (0.7 * errors / n_rows)[:, np.newaxis], expected)
    np.testing.assert_allclose(gradient[len(theta) :], expected, rtol=0, atol=1e-5 * np.abs(expected).max())

    assert statistics.kl == pytest.approx(0.0, abs=1e-6) and statistics.clipped == 0.0
    assert statistics.entropy == pytest.approx(policy.entropy(theta, observations).mean(), rel=1e-5)
    assert statistics.value_error == pytest.approx(np.mean(errors.astype(float) ** 2), rel=1e-5)
    norm = np.linalg.norm(gradient)
    assert statistics.gradient_norm == pytest.approx(norm, rel=1e-5)


def test_a_step_is_one_of_adam_along_the_clipped_gradient(cartpole):
    learner, _ = begun(*cartpole)
    n_rows = len(learner.batch.advantages)
    before = learner._ascent.parameters.copy()
    adam, state = fastpg.Adam(1e-3), fastpg.Adam().initial(before.astype(float))
    for step in range(2):
        learner.ascend(Clipped(0.2), WITHOUT_LIMIT._replace(max_norm=0.1), n_rows, 1e-3, 0)
        gradient = learner._memories[n_rows].gradients[0].astype(float)
        gradient *= min(1.0, 0.1 / np.linalg.norm(gradient))
        before, state = adam.step(before, gradient, state, step)
        np.testing.assert_allclose(learner._ascent.parameters, before, rtol=0, atol=2e-6)
    assert learner._ascent.n_steps[0] == 2


def test_an_advantage_actor_critic_has_the_same_gradient(cartpole):
    env, policy = cartpole
    algorithm = fastpg.A2C(n_envs=24, n_steps=20, max_norm=None)
    learner, theta = begun(env, policy, algorithm)
    algorithm.improve(learner, 0, 0.0)
    n_rows = len(learner.batch.advantages)
    mine = learner._memories[n_rows].gradients[0].copy()
    learner.ascend(Clipped(0.2), WITHOUT_LIMIT, n_rows, 0.0, 0)
    other = learner._memories[n_rows].gradients[0]
    np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5 * np.abs(other).max())


def test_a_clipped_value_has_no_slope_beyond(cartpole):
    """The larger of two losses: of V, and of V within reach of what it was."""
    learner, theta = begun(*cartpole)
    n_rows = len(learner.batch.advantages)
    moved = np.where(np.arange(n_rows) % 2, 1.0, -1.0).astype(np.float32)
    shifted = learner.batch._replace(values=learner.batch.values - moved)
    learner.batch = shifted
    learner.ascend(Clipped(0.2), WITHOUT_LIMIT._replace(value_clip=0.25), n_rows, 0.0, 0)
    gradient = learner._memories[n_rows].gradients[0][len(theta) :].copy()
    critic, parameters = learner.critic, learner.initial_state[0]
    values = values_of(critic, parameters, shifted.observations)
    errors = shifted.targets - values
    held = np.abs(shifted.targets - shifted.values - 0.25 * moved) > np.abs(errors)
    assert held.any() and not held.all()
    work, expected = critic.workspace(n_rows, parameters), np.empty_like(parameters)
    critic.forward(parameters, shifted.observations, work)
    slopes = (np.where(held, 0.0, errors) / n_rows).astype(np.float32)[:, np.newaxis]
    critic.backward(parameters, shifted.observations, work, slopes, expected)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("which", ["cartpole", "pendulum"])
def test_values_and_truncation_bootstrapped_from_where_it_led(which, request):
    env, policy = request.getfixturevalue(which)
    learner, _ = begun(env, policy)
    learner.segments.record(learner._ascent.parameters[: policy.n_parameters], learner.initial_state[0])
    segment, parameters = learner.segments.segment, learner.initial_state[0]

    def value(observations):
        values = values_of(learner.critic, parameters, observations.reshape(-1, observations.shape[-1]))
        return values.reshape(observations.shape[:-1])

    np.testing.assert_allclose(segment.values, value(segment.observations[:-1]), rtol=1e-4, atol=1e-5)
    over = segment.terminated | segment.truncated
    truncated = segment.truncated & ~segment.terminated
    assert truncated.any()
    following = value(segment.observations[1:])
    np.testing.assert_allclose(segment.next_values[~over], following[~over], rtol=1e-4, atol=1e-5)
    led_to = value(segment.final_observations)[truncated]
    np.testing.assert_allclose(segment.next_values[truncated], led_to, rtol=1e-4, atol=1e-5)
    assert (np.abs(led_to - following[truncated]) > 1e-3).any()  # another state than the next row's


def explicit_fisher(policy, theta, observations):
    """F = mean of Jᵀ M J, every matrix formed."""
    outputs = policy.outputs(theta, observations)
    n = outputs.shape[-1]
    jacobian = np.stack([policy.pulled_back(theta, observations, unit) for unit in np.eye(n)], axis=1)
    if hasattr(policy, "log_std"):
        diagonal = np.concatenate([np.exp(-2 * outputs[:, n // 2 :]), 2 + 0 * outputs[:, n // 2 :]], axis=1)
        information = diagonal[:, :, np.newaxis] * np.eye(n)
    else:
        p = policy.probabilities(theta, observations)
        information = p[:, :, np.newaxis] * np.eye(n) - p[:, :, np.newaxis] * p[:, np.newaxis, :]
    return np.einsum("bjp,bjk,bkq->pq", jacobian, information, jacobian) / len(observations)


@pytest.mark.parametrize("which", ["cartpole", "pendulum"])
def test_fisher_vector_products(which, request):
    env, policy = request.getfixturevalue(which)
    learner, theta = begun(env, policy)
    theta = theta.astype(np.float32)
    region = TrustRegion(policy, learner.like_action, learner.batch, theta)
    fisher = explicit_fisher(policy, theta, learner.batch.observations)
    for seed in range(3):
        vector = np.random.default_rng(seed).normal(size=len(theta)).astype(np.float32)
        expected = fisher @ vector
        product = region.product(vector)
        np.testing.assert_allclose(product, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

    gradient = region.gradient()
    scores = policy.score(theta, learner.batch.observations, unflattened(policy, learner.batch))
    expected = (learner.batch.advantages[:, np.newaxis] * scores).mean(axis=0)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

    # Of steps there and back, so that the terms of third order cancel.
    small = 1e-2 * vector / np.sqrt(vector @ fisher @ vector)
    there, back = (region.outcome((theta + sign * small).astype(np.float32)) for sign in (1, -1))
    assert (there[1] + back[1]) / 2 == pytest.approx(0.5 * small @ fisher @ small, rel=0.05)
    assert (there[0] - back[0]) / 2 == pytest.approx(gradient @ small, rel=0.02, abs=1e-5)


@pytest.mark.parametrize("which", ["cartpole", "pendulum"])
def test_the_divergence_is_the_mean_of_the_log_ratio(which, request):
    """By its definition, an average over actions of the one policy, within 4 standard errors."""
    _, policy = request.getfixturevalue(which)
    rng = np.random.default_rng(0)
    row, other = 0.5 * rng.normal(size=(2, len(policy.row())))
    n = 200_000
    actions = policy.sample(tuple(np.tile(row, (n, 1))), None, rng)
    log_ratios = policy.log_prob(tuple(np.tile(row, (n, 1))), None, actions)
    log_ratios = log_ratios - policy.log_prob(tuple(np.tile(other, (n, 1))), None, actions)
    error = log_ratios.std() / np.sqrt(n)
    assert abs(policy.divergence(row, other) - log_ratios.mean()) < 4 * error
    assert policy.divergence(row, row) == pytest.approx(0.0, abs=1e-12)


def test_a_step_of_trpo_is_within_its_region_and_an_improvement(cartpole):
    env, policy = cartpole
    algorithm = fastpg.TRPO(n_envs=24, n_steps=20, max_kl=0.01, epochs=2, minibatch=200)
    learner, theta = begun(env, policy, algorithm)
    region = TrustRegion(policy, learner.like_action, learner.batch, learner.theta.copy())
    region.gradient()
    before = region.outcome(learner.theta)[0]
    statistics = algorithm.improve(learner, 0, 1e-3)
    surrogate, divergence, _ = region.outcome(learner.theta.copy())
    assert surrogate > before and 0.001 < divergence <= 0.01
    assert statistics.kl == pytest.approx(divergence, rel=1e-3)
    assert (learner._ascent.parameters[policy.n_parameters :] != learner.initial_state[0]).any()


def trained(env, policy, n_updates=4, algorithm=PPO, **settings):
    settings = {"n_updates": n_updates, "seed": 3, "horizon": HORIZON, **settings}
    return fastpg.train(env, policy, algorithm=algorithm, **settings)


def same(first, second):
    np.testing.assert_array_equal(first.theta, second.theta)
    for one, other in zip(first.optimizer_state, second.optimizer_state, strict=True):
        np.testing.assert_array_equal(one, other)
    for name in set(first.history.dtype.names) - {"seconds"}:
        np.testing.assert_array_equal(first.history[name], second.history[name])


ALGORITHMS = [
    PPO,
    fastpg.A2C(n_envs=24, n_steps=20, max_norm=None),
    fastpg.TRPO(n_envs=24, n_steps=20, epochs=2, minibatch=200),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=["PPO", "A2C", "TRPO"])
def test_the_same_bits_for_any_number_of_threads_and_resumed(cartpole, algorithm, tmp_path):
    whole = trained(*cartpole, algorithm=algorithm, threads=1)
    trained(*cartpole, n_updates=2, algorithm=algorithm, threads=2).save(tmp_path / "half")
    half = fastpg.load(tmp_path / "half")
    assert half.estimator == algorithm and len(half.history) == 2
    same(whole, fastpg.train(cartpole[0], n_updates=2, seed=3, resume=half))
    assert whole.history["n_steps"].tolist() == [480, 960, 1440, 1920]
    assert np.isfinite(whole.history["kl"]).all() and np.isnan(whole.history["signal_to_noise"]).all()


def test_ctrl_c_keeps_the_finished_updates(cartpole):
    def press(update, improvement):
        if update == 1:
            raise KeyboardInterrupt

    with pytest.raises(fastpg.TrainingInterrupted) as stopped:
        trained(*cartpole, progress=press)
    same(stopped.value.run, trained(*cartpole, n_updates=2))


def test_no_further_epoch_beyond_the_divergence(cartpole):
    run = trained(*cartpole, algorithm=PPO._replace(max_kl=1e-9, epochs=5, learning_rate=1e-2), n_updates=1)
    assert run.optimizer_state[3].tolist() == [2]  # steps of Adam: one epoch of 480 / 200 minibatches
    run = trained(*cartpole, algorithm=PPO._replace(epochs=5, learning_rate=1e-2), n_updates=1)
    assert run.optimizer_state[3].tolist() == [10]


def test_the_learning_rate_may_be_a_schedule(cartpole):
    schedule = fastpg.LinearSchedule(1e-3, 0.0, 3)
    run = trained(*cartpole, algorithm=PPO._replace(learning_rate=schedule), n_updates=3)
    np.testing.assert_allclose(run.history["learning_rate"], [1e-3, 5e-4, 0.0])


def test_ppo_learns(cartpole):
    algorithm = fastpg.PPO(n_envs=24, n_steps=64, epochs=8, minibatch=256, learning_rate=3e-3)
    run = fastpg.train(*cartpole, algorithm=algorithm, n_updates=12, seed=0)
    assert run.history["mean_return"][0] < 40
    assert fastpg.evaluate(*cartpole, run.theta, n_trajectories=50, seed=1).mean_return > 150


def test_a_rollout_of_a_neural_policy_with_its_critic(cartpole):
    env, policy = cartpole
    run = trained(*cartpole)
    critic = policy.network.with_outputs(1)
    rolled = fastpg.rollout(
        env, policy, run.theta, n_steps=20, n_envs=24, critic=critic, value_parameters=run.optimizer_state[0]
    )
    assert rolled.observations.dtype == rolled.log_probs.dtype == np.float32
    flat = rolled.observations.reshape(-1, 4)
    expected = policy.log_prob(run.theta, flat, rolled.actions.reshape(-1))
    np.testing.assert_allclose(rolled.log_probs.reshape(-1), expected, rtol=0, atol=1e-5)
    values = values_of(critic, run.optimizer_state[0], flat)
    np.testing.assert_allclose(rolled.values.reshape(-1), values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"algorithm": "sarsa"}, "algorithm='sarsa'"),
        ({"algorithm": fastpg.PPO}, "must be an algorithm"),
        ({"algorithm": fastpg.Adam()}, "must be an algorithm"),
        ({"algorithm": PPO._replace(n_envs=0)}, "n_envs=0"),
        ({"algorithm": PPO._replace(epochs=1.5)}, "epochs=1.5"),
        ({"algorithm": PPO._replace(clip=0.0)}, "clip=0.0"),
        ({"algorithm": PPO._replace(entropy=-1.0)}, "entropy=-1.0"),
        ({"algorithm": PPO._replace(learning_rate="fast")}, "learning_rate='fast'"),
        ({"algorithm": PPO._replace(normalize_advantages=2)}, "normalize_advantages=2"),
        ({"algorithm": PPO._replace(max_norm=-1)}, "max_norm"),
        ({"algorithm": fastpg.TRPO(damping=-1.0)}, "damping=-1.0"),
        ({"optimizer": fastpg.Adam()}, "optimizer="),
        ({"n_trajectories": 10}, "n_trajectories=10"),
        ({"estimator": fastpg.REINFORCE()}, "estimator="),
    ],
)
def test_what_is_refused(cartpole, settings, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        trained(*cartpole, **settings)


def test_a_policy_without_a_network_is_refused(cartpole):
    env, _ = cartpole
    with pytest.raises(ValueError, match="needs a neural policy"):
        trained(env, fastpg.SoftmaxLinear.for_env(env))


def test_an_algorithm_cannot_go_on_with_another_run(cartpole):
    env, policy = cartpole
    run = trained(*cartpole, n_updates=1)
    with pytest.raises(ValueError, match="estimator="):
        trained(*cartpole, algorithm=PPO._replace(clip=0.1), resume=run)


def test_a_run_goes_on_with_its_algorithm_by_name(cartpole):
    run = trained(*cartpole, n_updates=1)
    whole = trained(*cartpole, n_updates=2)
    same(whole, fastpg.train(cartpole[0], algorithm="ppo", n_updates=1, seed=3, resume=run))
    with pytest.raises(ValueError, match="algorithm='a2c': the run to resume has PPO"):
        fastpg.train(cartpole[0], algorithm="a2c", n_updates=1, resume=run)


def test_an_algorithm_without_a_policy_makes_as_many_updates_as_are_asked_for(cartpole):
    run = fastpg.train(cartpole[0], algorithm=PPO, n_updates=2)
    assert len(run.history) == 2 and isinstance(run.policy, fastpg.SoftmaxMLP)


def test_what_is_kept_of_an_update():
    assert set(Statistics._fields) <= set(fastpg.runs.HISTORY.names)
