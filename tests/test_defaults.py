"""The settings that are known to work: accepted, used, overridden. What they reach: ``bench/training.py``."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
from fastpg.envs.cartpole import CartPole

import fastpg
from fastpg.defaults import _KNOWN, ALGORITHMS, Settings, settings_for

AN_UPDATE_OF_EACH = """
import numpy as np, fastpg
from fastpg.defaults import settings_for
for id in fastpg.registry:
    env = fastpg.make(id)
    known = settings_for(env, n_updates=1)
    run = fastpg.train(env, n_updates=1, n_trajectories=4, horizon=5, seed=1, threads=1)
    assert run.policy == known.policy and run.horizon == 5 and len(run.history) == 1, id
    assert run.estimator == (known.estimator or fastpg.REINFORCE("mean")), id
    assert run.optimizer == (known.optimizer or fastpg.Adam()), id
    assert np.isfinite(run.theta).all(), id
print("all done")
"""


def test_an_update_with_the_defaults_of_each_environment():
    """That the settings go together: in ordinary Python, where nothing is compiled for it."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", AN_UPDATE_OF_EACH], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "all done\n", done.stderr


def test_the_settings_of_algorithms_go_together():
    """For every environment whose policy can be a perceptron."""
    for name in ALGORITHMS:
        for id in fastpg.registry:
            env = fastpg.make(id)
            if getattr(env.observation_space, "shape", ()) and len(env.observation_space.shape) == 1:
                known = settings_for(env, name)
                known.algorithm.check()
                known.policy.check_environment(env)
                assert isinstance(known.algorithm, ALGORITHMS[name])
    with pytest.raises(ValueError, match="algorithm='dqn'"):
        settings_for(fastpg.make("CartPole-v1"), "dqn")


def test_every_registered_environment_is_known():
    assert set(_KNOWN) == set(fastpg.registry)


def test_the_settings_of_train_are_those_of_the_defaults():
    arguments = inspect.signature(fastpg.train).parameters
    assert set(Settings._fields) <= set(arguments)
    assert all(arguments[name].default is None for name in Settings._fields)


def test_train_without_a_policy_is_train_with_the_settings():
    env = fastpg.make("CliffWalking-v1")
    settings = settings_for(env, n_updates=2)._replace(n_trajectories=20, horizon=20)
    run = fastpg.train(env, n_updates=2, n_trajectories=20, horizon=20)
    np.testing.assert_array_equal(run.theta, fastpg.train(env, **settings._asdict()).theta)
    assert run.optimizer == settings.optimizer and run.policy == settings.policy
    assert settings_for(env).horizon == 200  # Gymnasium has no time limit here


def test_a_target_is_of_the_registered_parameters():
    assert settings_for(fastpg.make("CliffWalking-v1")).target_return == -13
    changed = settings_for(CartPole(gravity=3.7))
    assert changed == settings_for(CartPole())._replace(target_return=None)


class Mine(CartPole):
    """Registered nowhere."""

    __slots__ = ()


def test_an_environment_of_ones_own_has_the_policy_of_its_spaces():
    assert settings_for(Mine()) == Settings(fastpg.SoftmaxLinear.for_env(Mine()))


def test_a_falling_learning_rate_falls_over_the_updates_that_are_asked_for():
    for id, algorithm, part in (
        ("MinAtar/Asterix", "ppo", "algorithm"),
        ("MountainCarContinuous-v0", None, "optimizer"),
    ):
        env = fastpg.make(id)
        known, longer = settings_for(env, algorithm), settings_for(env, algorithm, 5000)
        rate = getattr(known, part).learning_rate
        assert rate.n_updates == known.n_updates < 5000 == longer.n_updates
        assert getattr(longer, part) == getattr(known, part)._replace(
            learning_rate=rate._replace(n_updates=5000)
        )


def test_other_settings_are_those_of_any_number_of_updates():
    env = fastpg.make("Pendulum-v1")
    assert settings_for(env, n_updates=7) == settings_for(env)._replace(n_updates=7)


def test_fewer_updates_than_known_are_the_first_of_them():
    env = fastpg.make("MinAtar/Asterix")
    assert settings_for(env, "ppo", 50).algorithm == settings_for(env, "ppo").algorithm
