"""Training to solved: whole trainings with the defaults, until the target, kernels compiled before."""

import pytest

import fastpg

TARGETS = {"CartPole-v1": 475.0, "Acrobot-v1": -100.0, "FrozenLake8x8-v1": 0.8}


@pytest.mark.benchmark(group="training to solved")
@pytest.mark.parametrize("id", TARGETS)
def test_training(benchmark, id):
    """Until three updates in a row have had the mean return that solves it."""
    env = fastpg.make(id)
    fastpg.train(env, n_updates=1)  # compiles
    run = benchmark.pedantic(lambda: fastpg.train(env, target_return=TARGETS[id]), rounds=3)
    benchmark.extra_info["steps"] = int(run.history["n_steps"][-1])
    benchmark.extra_info["mean_return"] = float(run.history["mean_return"][-1])
    assert (run.history["mean_return"][-3:] >= TARGETS[id]).all()
