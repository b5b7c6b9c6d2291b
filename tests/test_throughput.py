"""What measures speed measures what it says: steps, seconds, processes. How many is no test's affair."""

import time
from typing import NamedTuple

import pytest
from gymnasium.spaces import Discrete
from typer.testing import CliRunner

import fastpg
from fastpg import cli, throughput


class SlowGames:
    """A vector environment of ten whose step takes a hundredth of a second."""

    num_envs = 10
    single_action_space = Discrete(2)

    def __init__(self):
        self.actions = []

    def reset(self, seed):
        self.actions.clear()

    def step(self, actions):
        assert len(actions) == self.num_envs
        self.actions.append(tuple(actions))
        time.sleep(0.01)


def test_stepping_timer_counts_every_environment():
    """A thousand steps a second, less what sleeping takes longer."""
    games = SlowGames()
    speed = throughput.stepping_timer(games, 0.1)()
    assert 0.0 < speed <= 10 / 0.01 / 1e6
    assert len(set(games.actions)) > 2  # other actions in the next step


class Estimate(NamedTuple):
    """Of ten steps a trajectory, at two thousand trajectories a second."""

    n_steps: int
    seconds: float


def test_gradient_timer_fills_the_time(monkeypatch):
    """As many trajectories as take about so long; the horizon of the environment, or one if it has none."""
    calls = []

    def gradient(env, policy, theta, estimator, *, n_trajectories, horizon, threads):
        calls.append((n_trajectories, horizon, threads))
        return Estimate(10 * n_trajectories, n_trajectories / 2000)

    monkeypatch.setattr(throughput, "policy_gradient", gradient)
    env = fastpg.make("CartPole-v1")
    policy = fastpg.policy_for(env)
    speed = throughput.gradient_timer(env, policy, policy.initial(), 4.0, threads=1)()
    assert speed == pytest.approx(10 * 2000 / 1e6)
    assert calls[-1] == (8000, 500, 1)
    cliff = fastpg.make("CliffWalking-v1")
    throughput.gradient_timer(cliff, policy, policy.initial(), 4.0)
    assert calls[-1][1] == throughput.DEFAULT_HORIZON


def test_threads_double_up_to_the_cores():
    assert throughput.thread_counts(1) == [1]
    assert throughput.thread_counts(2) == [1, 2]
    assert throughput.thread_counts(6) == [1, 2, 4, 6]


def test_start_is_a_process_with_a_gradient(tmp_path, monkeypatch):
    """From start to exit, and with the cache that it is given."""
    code = "import os, time; time.sleep(0.2); open(os.environ['FASTPG_CACHE_DIR'] + '/was-here', 'w')"
    monkeypatch.setattr(throughput, "START", code)
    assert throughput.start_seconds(tmp_path) >= 0.2
    assert (tmp_path / "was-here").exists()


def test_bench_tells_the_three(monkeypatch):
    """The table of environments, the threads, the start; without the wait for a cold one."""
    monkeypatch.setattr(throughput, "START", "")
    result = CliRunner().invoke(cli.app, ["bench", "CartPole-v1", "--seconds", "0.01", "--threads", "1"])
    assert result.exit_code == 0, result.output
    for told in ("CartPole-v1", "SoftmaxLinear (10)", "1.00 ×", "with nothing compiled"):
        assert told in result.output
    refused = CliRunner().invoke(cli.app, ["bench", "NoSuchEnv-v0"])
    assert refused.exit_code == 2 and "NoSuchEnv-v0" in refused.output
