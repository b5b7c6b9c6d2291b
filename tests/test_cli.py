"""The command line, end to end on small sizes."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pytest
from gymnasium.spaces import Discrete
from typer.testing import CliRunner

import fastpg
from fastpg import cli, options, terminal
from fastpg.cli import app
from fastpg.defaults import settings_for

SMALL = ["--updates", "3", "--trajectories", "50", "--episodes", "2"]


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_list_is_an_array_parameter():
    result = invoke("gradient", "Bandit-v0", "--param", "means=[0, 1]", "--trajectories", "100")
    assert result.exit_code == 0, result.output


def test_the_package_is_a_program():
    done = subprocess.run([sys.executable, "-m", "fastpg", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "train" in done.stdout


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


def test_policy_is_a_network_of_that_size(tmp_path):
    options = ["--policy", "mlp", "--hidden", "16,12", "--horizon", 30, "--out", tmp_path / "run"]
    result = invoke("train", "CartPole-v1", *SMALL, *options)
    assert result.exit_code == 0, result.output
    run = fastpg.load(tmp_path / "run")
    assert run.policy == fastpg.SoftmaxMLP.for_env(run.env, (16, 12))
    assert run.optimizer == fastpg.Adam(0.01)
    for wrong in (
        ["--hidden", "8"],
        ["--policy", "mlp", "--hidden", "8,x"],
        ["--policy", "mlp", "--hidden", "0"],
    ):
        refused = invoke("train", "CartPole-v1", *SMALL, *wrong)
        assert refused.exit_code == 2


def test_an_algorithm_with_its_known_settings_and_resumed(tmp_path):
    few = ["--updates", 2, "--episodes", 2]
    options = ["--algorithm", "ppo", "--policy", "mlp", "--learning-rate", 0.001, "--entropy", 0.02]
    result = invoke("train", "CartPole-v1", *few, *options, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    run, known = fastpg.load(tmp_path / "run"), settings_for(fastpg.make("CartPole-v1"), "ppo")
    assert run.policy == known.policy and len(run.history) == 2
    assert run.estimator == known.algorithm._replace(learning_rate=0.001, entropy=0.02)
    result = invoke("train", "--resume", tmp_path / "run", *few, "--out", tmp_path / "on")
    assert result.exit_code == 0, result.output
    assert len(fastpg.load(tmp_path / "on").history) == 4
    for wrong in (["--trajectories", 5], ["--kl", 0.1], ["--discount", 2.0], ["--policy", "linear"]):
        refused = invoke("train", "CartPole-v1", *few, "--algorithm", "ppo", *wrong, "--out", tmp_path / "no")
        assert refused.exit_code == 2 and not (tmp_path / "no").exists()


def test_train_without_options_uses_the_settings_known_to_work(tmp_path):
    result = invoke("train", "CliffWalking-v1", *SMALL, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    run, known = fastpg.load(tmp_path / "run"), settings_for(fastpg.make("CliffWalking-v1"))
    assert (run.policy, run.optimizer, run.horizon) == (known.policy, known.optimizer, known.horizon)
    assert run.estimator == fastpg.REINFORCE("mean")
    same = fastpg.train(run.env, n_updates=3, n_trajectories=50)
    np.testing.assert_array_equal(same.theta, run.theta)


def test_options_change_the_known_settings():
    """One by one: what is not given stays as it is known."""
    known = fastpg.RewardToGo(0.95, "value")
    gpomdp, time = options.Estimator.gpomdp, options.Baseline.time
    assert options.estimator_from(None, None, 50, None, None, None) is None
    assert options.estimator_from(known, None, 50, None, None, None) == known
    assert options.estimator_from(known, None, 50, None, 0.5, None) == fastpg.RewardToGo(0.5, "value")
    assert options.estimator_from(known, gpomdp, 50, None, None, None) == fastpg.GPOMDP(1.0, "mean")
    assert options.estimator_from(None, gpomdp, 1, time, 0.9, 0.01) == fastpg.GPOMDP(0.9, "time", 0.01)
    reinforce = options.Estimator.reinforce
    assert options.estimator_from(known, reinforce, 1, None, 0.9, None) == fastpg.REINFORCE("none", 0.9)
    nothing = None, None, 10, None, None
    natural = fastpg.NaturalGradient(0.5, 0.1)
    assert options.optimizer_from(None, None, *nothing) == fastpg.Adam()
    assert options.optimizer_from(natural, None, *nothing) == natural
    assert options.optimizer_from(natural, options.Optimizer.natural, None, None, 10, 0.2, None) == (
        fastpg.NaturalGradient(0.2, 0.1)
    )
    assert options.optimizer_from(natural, options.Optimizer.sgd, *nothing) == fastpg.SGD()
    assert options.optimizer_from(fastpg.Adam(0.3), None, None, 0.1, 10, None, None) == (
        fastpg.Adam(fastpg.LinearSchedule(0.3, 0.1, 10))
    )


def test_the_natural_gradient_from_the_shell_stops_at_its_target(tmp_path):
    options = ["--optimizer", "natural", "--kl", 0.05, "--damping", 0.1, "--target", 1]
    result = invoke("train", "CartPole-v1", *SMALL, "--updates", 9, *options, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    run = fastpg.load(tmp_path / "run")
    assert run.optimizer == fastpg.NaturalGradient(0.05, 0.1)
    assert len(run.history) == 3 and "the target was reached after 3 updates" in result.output
    more = ["--updates", 5, "--target", 1, "--episodes", 2]
    result = invoke("train", "--resume", tmp_path / "run", *more, "--out", tmp_path / "more")
    assert result.exit_code == 0, result.output
    assert len(fastpg.load(tmp_path / "more").history) == 4


def test_gradient_prints_estimates_and_throughput(env, policy):
    result = invoke("gradient", "CartPole-v1", "--trajectories", 2000, "--seed", 4)
    assert result.exit_code == 0, result.output
    estimate = fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=2000, seed=4)
    told = str(estimate).splitlines()[1:]
    assert result.output.splitlines()[-len(told) - 1 : -1] == told
    assert result.output.splitlines()[-1].endswith(" steps/s")


def test_envs_lists_what_can_be_made():
    result = invoke("envs")
    assert result.exit_code == 0
    assert all(id in result.output for id in fastpg.registry)
    assert "masscart=1" in result.output


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["gradient"], ["compare"], ["envs"]])
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
        (["gradient", "Bandit-v0", "--param", "means=[0,"], "must be numbers"),
        (["train", "CartPole-v1", "--param", "gravity=nan"], "must be finite"),
        (["train", "CartPole-v1", "--updates", "0"], "n_updates"),
        (["train", "CartPole-v1", "--trajectories", "0"], "n_trajectories"),
        (["train", "CartPole-v1", "--trajectories", "1", "--baseline", "mean"], "leaves one out"),
        (["train", "CartPole-v1", "--threads", "4096"], "threads"),
        (["train", "CartPole-v1", "--seed", "-1"], "seed"),
        (["train", "CartPole-v1", "--horizon", "-5"], "horizon"),
        (["train", "CartPole-v1", "--learning-rate", "nan"], "learning_rate"),
        (["train", "CartPole-v1", "--episodes", "0"], "episodes"),
        (["gradient", "CartPole-v1", "--trajectories", "0"], "n_trajectories"),
        (["gradient", "Pole"], "no such environment"),
        (["train"], "ENV: must be given, or --resume RUN"),
        (["train", "--resume", "nowhere"], "holds no run"),
        (["train", "CartPole-v1", "--resume", "nowhere"], "ENV: must not be given with --resume"),
        (["train", "--resume", "nowhere", "--learning-rate", "0.1"], "--learning-rate: must not be given"),
        (["train", "--resume", "nowhere", "--param", "gravity=1"], "--param: must not be given"),
        (["compare", "nowhere"], "holds no run"),
        (["train", "CartPole-v1", "--kl", "0.1"], "--kl: Adam has none; it has learning_rate"),
        (["train", "CliffWalking-v1", "--learning-rate", "0.1"], "--learning-rate: NaturalGradient has none"),
        (["train", "CliffWalking-v1", "--kl", "-1"], "kl=-1.0: must be finite and at least 0"),
        (["train", "CliffWalking-v1", "--damping", "-1"], "damping=-1.0: must be finite and at least 0"),
        (["train", "CartPole-v1", "--algorithm", "trpo", "--entropy", "0.1"], "--entropy: TRPO has none"),
        (["train", "CartPole-v1", "--baseline", "best"], "'best' is not one of"),
        (["train", "CartPole-v1", "--estimator", "gpomdp", "--discount", "2"], "discount=2.0: must be"),
        (["train", "CartPole-v1", "--target", "nan"], "target_return=nan"),
    ],
)
def test_bad_input_is_told_in_one_line_and_writes_nothing(arguments, message, tmp_path):
    out = tmp_path / "deep" / "run"
    result = invoke(*arguments, *(["--out", out] if arguments[0] == "train" else []))
    assert result.exit_code == 2
    assert message in result.output and "Traceback" not in result.output
    assert "updates" not in result.output.replace("n_updates", "")  # no progress bar
    assert list(tmp_path.iterdir()) == []


def test_evaluating_what_is_not_a_run(tmp_path):
    result = invoke("evaluate", tmp_path)
    assert result.exit_code == 2 and "holds no run" in result.output


def test_a_directory_in_use_is_refused_before_training(tmp_path):
    (tmp_path / "notes").touch()
    result = invoke("train", "CartPole-v1", "--updates", 10**6, "--out", tmp_path)
    assert result.exit_code == 2 and "already holds notes" in result.output


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_ctrl_c_keeps_the_finished_updates(tmp_path, name):
    """A real signal to a real process, some updates into a training that would take hours."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "fastpg.cli", "train", "CartPole-v1", "--updates", "1000000"]
    with subprocess.Popen(
        [*command, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        # A suite that runs in the background of a shell ignores interrupts, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            time.sleep(10)  # the kernel is warm in this suite's cache; starting takes some two seconds
            process.send_signal(signal.Signals[name])
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, output
    assert "finished updates kept in" in output
    run = fastpg.load(out)
    assert 0 < len(run.history) < 1_000_000
    assert f"{len(run.history)} finished updates" in output


def test_a_ctrl_c_that_was_lost_is_raised_later():
    """As in a callback of LLVM's while a kernel compiles."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with terminal.interrupts() as raise_lost:
            raise_lost()
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                raise_lost()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_single_trajectory_needs_no_baseline(tmp_path):
    result = invoke("train", "CartPole-v1", *SMALL, "--trajectories", 1, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert fastpg.load(tmp_path / "run").estimator == fastpg.REINFORCE("none")


def test_an_empty_working_directory_is_filled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("train", "CartPole-v1", *SMALL, "--out", ".")
    assert result.exit_code == 0, result.output
    assert "(config.json, history.csv, learning_curve.png, policy.npz)" in result.output
    assert len(fastpg.load(tmp_path).history) == 3


def test_a_run_that_cannot_be_saved_is_kept_elsewhere(tmp_path, monkeypatch):
    """Another process takes the directory while this one trains."""
    out, temporary = tmp_path / "run", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(cli, "check_output", lambda path: out.write_text("taken"))
    result = invoke("train", "CartPole-v1", *SMALL, "--out", out)
    assert result.exit_code == 1
    (kept,) = temporary.iterdir()
    assert "is a file" in result.output and f"the run is kept in {kept} instead" in result.output
    assert len(fastpg.load(kept).history) == 3


def test_an_error_in_training_keeps_the_finished_updates(tmp_path, monkeypatch):
    def rate(schedule, update):
        return 0.1 if update < 2 else -1.0

    monkeypatch.setattr(fastpg.LinearSchedule, "__call__", rate)
    out = tmp_path / "run"
    result = invoke("train", "CartPole-v1", *SMALL, "--final-learning-rate", 0.1, "--out", out)
    assert result.exit_code == 1
    assert "2 finished updates kept in" in result.output
    assert "error: learning_rate=-1.0" in result.output
    assert len(fastpg.load(out).history) == 2


def test_ctrl_c_in_the_evaluation_comes_after_the_place_of_the_run(tmp_path, monkeypatch):
    def press(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "evaluate_run", press)
    result = invoke("train", "CartPole-v1", *SMALL, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert f"run kept in {tmp_path / 'run'}" in result.output and "interrupted" in result.output


def test_a_path_with_brackets_is_printed_as_it_is(tmp_path):
    out = tmp_path / "run[bold]"
    result = invoke("train", "CartPole-v1", *SMALL, "--out", out)
    assert f"run kept in {out}" in result.output and f"fastpg evaluate '{out}'" in result.output


def test_gradient_of_a_run_is_that_of_its_environment_and_policy(tmp_path):
    env = fastpg.make("CartPole-v1", gravity=3.7)
    policy = fastpg.SoftmaxLinear.for_env(env)
    run = fastpg.train(env, policy, n_updates=2, n_trajectories=50)
    run.save(tmp_path / "run")
    result = invoke("gradient", "CartPole-v1", "--run", tmp_path / "run", "--trajectories", 500)
    estimate = fastpg.policy_gradient(env, policy, run.theta, n_trajectories=500)
    told = str(estimate).splitlines()[1:]
    assert result.output.splitlines()[-len(told) - 1 : -1] == told
    other = invoke("gradient", "CartPole-v0", "--run", tmp_path / "run", "--trajectories", 500)
    assert other.exit_code == 2 and "must be CartPole-v1, as in --run" in other.output


@pytest.mark.parametrize(
    ("options", "estimator"),
    [
        (["--estimator", "gpomdp", "--baseline", "time", "--discount", 0.9], fastpg.GPOMDP(0.9, "time")),
        (["--estimator", "reward-to-go", "--baseline", "optimal"], fastpg.RewardToGo(0.99, "optimal")),
        (["--baseline", "value"], fastpg.REINFORCE("value")),
    ],
)
def test_gradient_has_every_estimator_with_its_baselines(options, estimator):
    result = invoke("gradient", "CartPole-v1", *options, "--trajectories", 300, "--horizon", 20)
    assert result.exit_code == 0, result.output
    env = fastpg.make("CartPole-v1")
    policy = fastpg.policy_for(env)
    estimate = fastpg.policy_gradient(
        env, policy, policy.initial(), estimator, n_trajectories=300, horizon=20
    )
    assert all(line in result.output for line in str(estimate).splitlines()[1:])


def test_bad_trajectories_of_gradient_are_refused_before_anything_compiles(monkeypatch):
    def started(*arguments, **options):
        raise AssertionError("an estimate was started")

    monkeypatch.setattr(fastpg, "policy_gradient", started)
    for arguments in (["--trajectories", 0], ["--trajectories", 1, "--baseline", "mean"]):
        result = invoke("gradient", "CartPole-v1", *arguments)
        assert result.exit_code == 2 and "n_trajectories=" in result.output


class Unusual(NamedTuple):
    """Parameters that are no numbers, one without a default, and a horizon that is computed."""

    size: int
    table: np.ndarray = np.zeros(2)
    name: str = "[red]"

    action_space = Discrete(2)

    @property
    def horizon(self):
        return self.size


def test_envs_lists_parameters_of_any_kind(monkeypatch):
    monkeypatch.setitem(fastpg.registry, "Unusual-v0", fastpg.environment.Spec("Unusual-v0", Unusual, {}))
    result = invoke("envs")
    assert result.exit_code == 0, result.output
    for text in ("depends", "size, table=[0. 0.], name=[red]"):
        assert text in " ".join(result.output.split())


def test_an_operating_system_error_is_one_line(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError("disk full")

    invoke("train", "CartPole-v1", *SMALL, "--out", tmp_path / "run")
    monkeypatch.setattr("fastpg.interop.gymnasium.record", full)
    result = invoke("evaluate", tmp_path / "run", "--episodes", 1, "--render", tmp_path / "episode.gif")
    assert result.exit_code == 2 and "error: disk full" in result.output


def test_version():
    result = invoke("--version")
    assert result.exit_code == 0 and result.output == f"fastpg {fastpg.__version__}\n"


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    options = ["--trajectories", 50, "--episodes", 2, "--seed", 5]
    settings = [*options, "--optimizer", "momentum", "--param", "gravity=3.7", "--horizon", 60]
    invoke("train", "CartPole-v1", "--updates", 5, *settings, "--out", tmp_path / "whole")
    invoke("train", "CartPole-v1", "--updates", 2, *settings, "--out", tmp_path / "half")
    rest = ["--updates", 3, "--episodes", 2, "--threads", 1, "--out", tmp_path / "rest"]
    result = invoke("train", "--resume", tmp_path / "half", *rest)
    assert result.exit_code == 0, result.output
    whole, half, resumed = (fastpg.load(tmp_path / name) for name in ("whole", "half", "rest"))
    np.testing.assert_array_equal(resumed.theta, whole.theta)
    np.testing.assert_array_equal(resumed.history["mean_return"], whole.history["mean_return"])
    added = resumed.history["n_steps"][-1] - half.history["n_steps"][-1]
    assert f"trained on {added:,} environment steps" in result.output


def test_a_resumed_run_goes_to_a_new_directory_named_after_its_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    invoke("train", "CartPole-v1", *SMALL, "--out", "run")
    result = invoke("train", "--resume", "run", "--updates", 1, "--episodes", 2)
    assert result.exit_code == 0, result.output
    (kept,) = (tmp_path / "runs").iterdir()
    assert kept.name.startswith("CartPole-v1-") and len(fastpg.load(kept).history) == 4
    refused = invoke("train", "--resume", "run", "--out", "run")
    assert refused.exit_code == 2 and "already holds a run" in refused.output


def test_compare_prints_a_table_and_draws(tmp_path, monkeypatch):
    for seed in (0, 1):
        invoke("train", "CartPole-v1", *SMALL, "--seed", seed, "--out", tmp_path / f"adam-{seed}")
    invoke("train", "CartPole-v1", *SMALL, "--optimizer", "sgd", "--out", tmp_path / "sgd-0")
    directories = [tmp_path / name for name in ("adam-0", "adam-1", "sgd-0")]
    out = tmp_path / "picture.png"
    result = invoke("compare", *directories, "--out", out)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(terminal.console, "width", 40)
    narrow = invoke("compare", *directories, "--out", out)
    assert narrow.output == result.output  # nothing is broken into lines or cut
    for group in fastpg.comparison.grouped(directories):
        row = next(line for line in result.output.splitlines() if group.label in line)
        outcome = group.outcome()
        assert f"{outcome.mean_return:.2f} ± {outcome.half_width:.2f}" in row
        assert f" {outcome.n_seeds} " in row and f"{outcome.n_steps:,.0f}" in row
    twice = invoke("compare", directories[0], directories[0], "--out", tmp_path / "other.png")
    assert twice.exit_code == 2 and "the settings and the seed" in twice.output
    assert not (tmp_path / "other.png").exists()


def test_an_environment_of_a_module_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "heavier_cartpole.py").write_text(
        "import fastpg\n"
        "from fastpg.envs.cartpole import CartPole\n"
        "class Heavier(CartPole):\n"
        "    __slots__ = ()\n"
        'fastpg.register("Heavier-v0", Heavier)\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("fastpg.environment.registry", dict(fastpg.registry))
    absent = invoke("gradient", "heavier_cartpole:Lighter-v0")
    assert absent.exit_code == 2 and "'Lighter-v0': there is no such environment" in absent.output
    assert type(fastpg.make("heavier_cartpole:Heavier-v0")).__name__ == "Heavier"
    assert type(fastpg.make("heavier_cartpole:Heavier")).__name__ == "Heavier"
    nowhere = invoke("gradient", "not_there:Heavier-v0")
    assert nowhere.exit_code == 2 and "No module named 'not_there'" in nowhere.output
