"""The command line, end to end on small sizes."""

import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

import fastpg
from fastpg.cli import app

SMALL = ["--updates", "3", "--trajectories", "50", "--episodes", "2"]


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_train_evaluate_and_record(tmp_path):
    out = tmp_path / "run"
    trained = invoke("train", "CartPole-v1", *SMALL, "--param", "gravity=3.7", "--out", out)
    assert trained.exit_code == 0, trained.output
    assert "mean return in Gymnasium's own environment, 2 episodes" in trained.output
    assert str(out) in trained.output
    assert fastpg.load(out).env.gravity == 3.7
    played = invoke("evaluate", out, "--episodes", 2, "--render", tmp_path / "episode.gif")
    assert played.exit_code == 0, played.output
    assert (tmp_path / "episode.gif").exists()


def test_options_of_train_reach_the_run(tmp_path):
    options = ["--optimizer", "sgd", "--learning-rate", 0.02, "--final-learning-rate", 0.01, "--seed", 7]
    options += ["--baseline", "optimal", "--horizon", 30, "--threads", 1, "--param", "semi_implicit=true"]
    result = invoke("train", "CartPole-v1", *SMALL, *options, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    run = fastpg.load(tmp_path / "run")
    assert run.optimizer == fastpg.SGD(fastpg.LinearSchedule(0.02, 0.01, 3))
    assert (run.estimator, run.seed, run.horizon) == (fastpg.REINFORCE("optimal"), 7, 30)
    assert run.env.semi_implicit is True and len(run.history) == 3 and run.n_trajectories == 50


def test_gradient_prints_estimates_and_throughput(env, policy):
    result = invoke("gradient", "CartPole-v1", "--trajectories", 2000, "--seed", 4)
    assert result.exit_code == 0, result.output
    estimate = fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=2000, seed=4)
    assert f"{estimate.gradient[3]:.6g}" in result.output
    assert "million steps a second" in result.output


def test_envs_lists_what_can_be_made():
    result = invoke("envs")
    assert result.exit_code == 0
    assert all(id in result.output for id in fastpg.registry)
    assert "masscart=1" in result.output


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["gradient"], ["envs"]])
def test_help(command):
    result = invoke(*command, "--help")
    assert result.exit_code == 0 and "Usage" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "CartPol-v1"], "did you mean CartPole-v1"),
        (["train", "CartPole-v1", "--param", "gravty=1"], "did you mean gravity"),
        (["train", "CartPole-v1", "--param", "gravity"], "name=value"),
        (["train", "CartPole-v1", "--param", "gravity=heavy"], "must be a number"),
        (["train", "CartPole-v1", "--param", "gravity=nan"], "must be finite"),
        (["train", "CartPole-v1", "--updates", "0"], "n_updates"),
        (["train", "CartPole-v1", "--trajectories", "0"], "n_trajectories"),
        (["train", "CartPole-v1", "--trajectories", "1"], "leaves one out"),
        (["train", "CartPole-v1", "--threads", "4096"], "threads"),
        (["train", "CartPole-v1", "--seed", "-1"], "seed"),
        (["train", "CartPole-v1", "--horizon", "-5"], "horizon"),
        (["train", "CartPole-v1", "--learning-rate", "nan"], "learning_rate"),
        (["train", "CartPole-v1", "--episodes", "0"], "episodes"),
        (["gradient", "CartPole-v1", "--trajectories", "0"], "n_trajectories"),
        (["gradient", "Pole"], "no such environment"),
    ],
)
def test_bad_input_is_told_in_one_line_and_writes_nothing(arguments, message, tmp_path):
    out = tmp_path / "run"
    result = invoke(*arguments, *(["--out", out] if arguments[0] == "train" else []))
    assert result.exit_code == 2
    assert message in result.output and "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_evaluating_what_is_not_a_run(tmp_path):
    result = invoke("evaluate", tmp_path)
    assert result.exit_code == 2 and "holds no run" in result.output


def test_a_directory_in_use_is_refused_before_training(tmp_path):
    (tmp_path / "notes").touch()
    result = invoke("train", "CartPole-v1", "--updates", 10**6, "--out", tmp_path)
    assert result.exit_code == 2 and "already holds notes" in result.output


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_keeps_the_finished_updates(tmp_path):
    """A real interrupt of a real process, some updates into a training that would take hours."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "fastpg.cli", "train", "CartPole-v1", "--updates", "1000000"]
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    try:
        time.sleep(6)  # the kernel is warm in this suite's cache; starting takes a second or two
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "finished updates kept in" in output
    run = fastpg.load(out)
    assert 0 < len(run.history) < 1_000_000
    assert f"{len(run.history)} finished updates" in output
