"""Training: the algorithm, what it keeps, and how it stops."""

import pickle
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from fastpg.envs.cartpole import CartPoleV0
from gymnasium.spaces import Box, Discrete

import fastpg
from fastpg import training
from fastpg.estimators import gradient
from fastpg.estimators.natural import FisherInformation
from fastpg.estimators.problem import Problem
from fastpg.interop.gymnasium import play


def same(first, second):
    np.testing.assert_array_equal(first.theta, second.theta)
    for name in set(first.history.dtype.names) - {"seconds"}:
        np.testing.assert_array_equal(first.history[name], second.history[name])


def test_train_is_sample_differentiate_step_repeat(env, policy):
    """REINFORCE as the formula has it: θ ← θ + α · gradient, with trajectories kN to (k+1)N - 1."""
    run = fastpg.train(
        env,
        policy,
        fastpg.REINFORCE(),
        n_updates=4,
        n_trajectories=30,
        optimizer=fastpg.SGD(0.01),
        seed=3,
    )
    theta = policy.initial()
    for k in range(4):
        estimate = fastpg.policy_gradient(
            env, policy, theta, n_trajectories=30, seed=3, first_trajectory=30 * k
        )
        assert run.history["mean_return"][k] == estimate.mean_return
        theta = theta + 0.01 * estimate.gradient
    np.testing.assert_array_equal(run.theta, theta)
    assert run.history["n_steps"][-1] == (run.history["mean_length"] * 30).sum()


def test_a_single_trajectory_an_update(env, policy):
    run = fastpg.train(env, policy, n_updates=5, n_trajectories=1, optimizer=fastpg.SGD(1e-3))
    assert run.estimator == fastpg.REINFORCE("none")
    assert np.isfinite(run.theta).all() and run.theta.any()
    assert np.isnan(run.history["gradient_error"]).all()


@pytest.mark.parametrize(
    "optimizer", [fastpg.Adam(0.1), fastpg.Momentum(0.01), fastpg.SGD(0.01), fastpg.NaturalGradient(0.1)]
)
def test_a_resumed_run_equals_an_uninterrupted_one(env, policy, optimizer, tmp_path):
    settings = {"n_trajectories": 50, "seed": 5, "optimizer": optimizer}
    whole = fastpg.train(env, policy, n_updates=7, **settings)
    fastpg.train(env, policy, n_updates=3, **settings).save(tmp_path / "half")
    half = fastpg.load(tmp_path / "half")
    del settings["optimizer"]
    same(fastpg.train(env, policy, n_updates=4, resume=half, **settings), whole)


def test_what_is_not_given_is_taken_from_the_run_to_resume(env, policy):
    settings = {"n_trajectories": 50, "horizon": 30, "optimizer": fastpg.Momentum(0.01)}
    half = fastpg.train(env, policy, fastpg.GPOMDP(0.9, "time"), n_updates=2, **settings)
    whole = fastpg.train(env, policy, fastpg.GPOMDP(0.9, "time"), n_updates=3, **settings)
    same(fastpg.train(env, n_updates=1, resume=half), whole)


def test_a_schedule_that_was_not_saved_must_be_given_again(env, policy, tmp_path):
    settings = {"n_updates": 1, "n_trajectories": 50}
    optimizer = fastpg.NaturalGradient(kl=lambda update: 0.1)
    fastpg.train(env, policy, optimizer=optimizer, **settings).save(tmp_path / "run")
    run = fastpg.load(tmp_path / "run")
    with pytest.raises(ValueError, match="optimizer: the saved run's could not be kept"):
        fastpg.train(env, policy, resume=run, **settings)
    assert len(fastpg.train(env, policy, resume=run, optimizer=optimizer, **settings).history) == 2


ESTIMATORS = [fastpg.REINFORCE("optimal"), fastpg.GPOMDP(0.99, "time"), fastpg.RewardToGo(0.9)]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_any_estimator_trains(env, policy, estimator):
    """The steps are those of its gradients, and the policy gets better."""
    run = fastpg.train(env, policy, estimator, n_updates=15, n_trajectories=100, optimizer=fastpg.Adam(0.2))
    theta, state = policy.initial(), run.optimizer.initial(policy.initial())
    for k in range(2):
        estimate = fastpg.policy_gradient(
            env, policy, theta, estimator, n_trajectories=100, first_trajectory=100 * k
        )
        assert run.history["gradient_norm"][k] == np.linalg.norm(estimate.gradient)
        theta, state = run.optimizer.step(theta, estimate.gradient, state, k)
    assert run.history["mean_return"][-1] > 3 * run.history["mean_return"][0]


def test_the_natural_gradient_is_given_the_fisher_information_of_the_batch(env, policy):
    optimizer = fastpg.NaturalGradient(0.05, 0.01)
    run = fastpg.train(env, policy, n_updates=2, n_trajectories=100, optimizer=optimizer, seed=4)
    theta = policy.initial()
    for k in range(2):
        estimate = fastpg.policy_gradient(
            *(env, policy, theta, fastpg.REINFORCE("mean")),
            n_trajectories=100,
            first_trajectory=100 * k,
            seed=4,
            fisher=True,
        )
        theta, _ = optimizer.step(theta, estimate.gradient, (), k, estimate.fisher)
    np.testing.assert_array_equal(run.theta, theta)


def test_for_many_parameters_it_is_not_formed(env, policy, monkeypatch):
    """The same step from products over the same trajectories, up to the residual of conjugate gradients."""
    settings = {"n_updates": 1, "n_trajectories": 500, "optimizer": fastpg.NaturalGradient(0.05, 0.1)}
    whole = fastpg.train(env, policy, **settings)
    monkeypatch.setattr(gradient, "MAX_DENSE", policy.n_parameters - 1)
    products = fastpg.train(env, policy, **settings)
    np.testing.assert_allclose(products.theta, whole.theta, rtol=1e-4)
    monkeypatch.undo()
    problem = Problem(env, policy, whole.theta, 100, 30, 1, 50, 1, [])
    estimate = fastpg.policy_gradient(
        *(env, policy, whole.theta),
        n_trajectories=100,
        horizon=30,
        seed=1,
        first_trajectory=50,
        fisher=True,
    )
    diagonal = FisherInformation(problem).diagonal
    np.testing.assert_allclose(diagonal, np.diagonal(estimate.fisher), rtol=1e-10)


class WithoutStart(NamedTuple):
    n_parameters = 2

    def sample(self, theta, observation, rng):
        return 0

    def score(self, theta, observation, action):
        return 0.0, 0.0


def test_a_policy_without_a_start_needs_theta(env):
    with pytest.raises(TypeError, match="theta=None: must be given, for WithoutStart has no initial()"):
        fastpg.train(env, WithoutStart(), n_updates=1)


@pytest.mark.parametrize("kind", [fastpg.REINFORCE, fastpg.GPOMDP, fastpg.RewardToGo])
def test_defaults_of_an_estimator_are_what_it_says_of_them(kind):
    """`fastpg compare` names the options that are not."""
    assert kind()._asdict() == kind._field_defaults


def test_training_stops_at_its_target(env, policy):
    """After three updates in a row, of which the ones before are those of a training without a target."""
    settings = {"n_trajectories": 200, "optimizer": fastpg.Adam(0.2)}
    whole = fastpg.train(env, policy, n_updates=40, **settings)
    returns = whole.history["mean_return"]
    on_target = returns >= 60
    n = next(k for k in range(3, 40) if on_target[k - 3 : k].all())
    stopped = fastpg.train(env, policy, n_updates=40, target_return=60, **settings)
    same(stopped, fastpg.train(env, policy, n_updates=n, **settings))
    unreached = fastpg.train(env, policy, n_updates=3, target_return=1e6, **settings)
    assert len(unreached.history) == 3


def test_a_resumed_run_sees_the_updates_before_on_their_way_to_the_target(env, policy):
    settings = {"n_trajectories": 50, "optimizer": fastpg.SGD(0.0)}
    run = fastpg.train(env, policy, n_updates=2, target_return=1.0, **settings)
    assert len(run.history) == 2
    assert len(fastpg.train(env, n_updates=5, target_return=1.0, resume=run).history) == 3


def test_resuming_with_other_settings_is_refused(env, policy):
    run = fastpg.train(env, policy, n_updates=1, n_trajectories=50)
    with pytest.raises(ValueError, match="seed=1: the run to resume has 0"):
        fastpg.train(env, policy, n_updates=1, n_trajectories=50, seed=1, resume=run)
    with pytest.raises(ValueError, match="n_trajectories=60"):
        fastpg.train(env, policy, n_updates=1, n_trajectories=60, resume=run)


class Table(NamedTuple):
    """An environment with an array among its parameters; nothing of it is run."""

    transitions: np.ndarray
    horizon = 500
    action_space = Discrete(2)
    observation_space = Box(-1.0, 1.0, (4,))

    def reset(self, rng): ...

    def observe(self, state):
        return 0.0, 0.0, 0.0, 0.0

    def step(self, state, action, rng): ...


def test_resuming_compares_arrays_and_types(env, policy):
    run = fastpg.train(env, policy, n_updates=1, n_trajectories=50)
    table = replace(run, env=Table(np.zeros(2)))
    for other, message in [(Table(np.ones(2)), "env=Table"), (CartPoleV0(*env), "env=CartPoleV0")]:
        with pytest.raises(ValueError, match=message):
            fastpg.train(other, policy, n_updates=1, n_trajectories=50, horizon=500, resume=table)
    assert training._resumed(table, None, None, env=Table(np.zeros(2))) is table  # equal, another object


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": fastpg.Momentum(0.1)}, "optimizer=Momentum.*the same class"),
        ({"optimizer": fastpg.SGD(0.1)}, "optimizer=SGD.*the same class"),
        ({"estimator": fastpg.REINFORCE("none")}, "estimator=.*the run to resume has"),
        ({"theta": np.zeros(10)}, "theta: must not be given with resume"),
    ],
)
def test_resuming_takes_theta_estimator_and_optimizer_from_the_run(env, policy, given, message):
    run = fastpg.train(env, policy, n_updates=1, n_trajectories=50)
    with pytest.raises(ValueError, match=message):
        fastpg.train(env, policy, n_updates=1, n_trajectories=50, resume=run, **given)
    allowed = {"optimizer": fastpg.Adam(0.01), "estimator": fastpg.REINFORCE("mean")}
    resumed = fastpg.train(env, policy, n_updates=1, n_trajectories=50, resume=run, **allowed)
    assert resumed.history["learning_rate"].tolist() == [0.1, 0.01]


def test_any_error_carries_the_finished_updates(env, policy):
    def progress(update, estimate):
        if update == 2:
            raise RuntimeError("the callback's own")

    with pytest.raises(RuntimeError, match="own") as stopped:
        fastpg.train(env, policy, n_updates=10, n_trajectories=50, progress=progress)
    same(stopped.value.run, fastpg.train(env, policy, n_updates=3, n_trajectories=50))


def test_threads_do_not_change_a_run(env, policy):
    runs = [fastpg.train(env, policy, n_updates=5, n_trajectories=200, threads=n) for n in (1, 2)]
    same(*runs)


@pytest.mark.parametrize("seed", range(10))
def test_the_defaults_solve_cartpole_in_gymnasium(env, policy, seed):
    """Gymnasium's reward threshold, 475 over 100 episodes, for each of ten seeds."""
    run = fastpg.train(env, policy, seed=seed)
    assert play(env, policy, run.theta, episodes=100, seed=seed).mean_return >= 475


def test_ctrl_c_keeps_the_finished_updates(env, policy):
    def press(update, estimate):
        if update == 2:
            raise KeyboardInterrupt

    with pytest.raises(fastpg.TrainingInterrupted) as stopped:
        fastpg.train(env, policy, n_updates=10, n_trajectories=50, progress=press)
    same(stopped.value.run, fastpg.train(env, policy, n_updates=3, n_trajectories=50))


@pytest.mark.parametrize("error", [fastpg.TrainingInterrupted, fastpg.TrainingDiverged])
def test_what_stops_a_training_comes_out_of_a_process_pool_with_its_run(env, policy, error):
    run = fastpg.train(env, policy, n_updates=1, n_trajectories=50)
    sent = pickle.loads(pickle.dumps(error(run)))
    assert type(sent) is error and str(sent) == str(error(run))
    same(sent.run, run)


def test_divergence_keeps_the_updates_before(env, policy):
    rate = {0: 1e-3, 1: 1e-3, 2: 1e308}.get  # the gradient is of size 10: 1e308 times that overflows
    with pytest.raises(fastpg.TrainingDiverged, match="update 2 is not finite") as stopped:
        fastpg.train(env, policy, n_updates=5, n_trajectories=50, optimizer=fastpg.SGD(rate))
    assert len(stopped.value.run.history) == 2
    assert np.isfinite(stopped.value.run.theta).all()


def test_the_learning_rate_is_in_the_history(env, policy):
    schedule = fastpg.LinearSchedule(0.3, 0.1, 3)
    run = fastpg.train(env, policy, n_updates=3, n_trajectories=20, optimizer=fastpg.Adam(schedule))
    np.testing.assert_allclose(run.history["learning_rate"], [0.3, 0.2, 0.1])


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ({"n_updates": 0}, ValueError),
        ({"n_updates": 2.0}, TypeError),
        ({"n_trajectories": 0}, ValueError),
        ({"seed": -1}, ValueError),
        ({"horizon": 0}, ValueError),
        ({"threads": 10**6}, ValueError),
        ({"theta": np.zeros(3)}, ValueError),
        ({"target_return": "high"}, TypeError),
        ({"target_return": float("nan")}, ValueError),
    ],
)
def test_bad_arguments_are_named(env, policy, argument, error):
    with pytest.raises(error, match=next(iter(argument))):
        fastpg.train(env, policy, **argument)
