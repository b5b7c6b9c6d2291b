"""Runs on disk: the same after a round trip, written whole or not at all."""

import csv
import json
import os
import sys
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from fastpg.envs.cartpole import CartPole

import fastpg
from fastpg import runs


@pytest.fixture(scope="module")
def run(policy):
    env = fastpg.make("CartPole-v1", gravity=3.7, semi_implicit=True)
    return fastpg.train(env, policy, n_updates=3, n_trajectories=20, seed=2**64 - 1, horizon=77)


def test_round_trip(run, tmp_path):
    run.save(tmp_path / "run")
    loaded = fastpg.load(tmp_path / "run")
    for name in ("env", "policy", "estimator", "optimizer", "n_trajectories", "horizon", "seed"):
        assert getattr(loaded, name) == getattr(run, name)
        assert type(getattr(loaded, name)) is type(getattr(run, name))
    np.testing.assert_array_equal(loaded.theta, run.theta)
    for name in run.history.dtype.names:  # one by one: NaN is not NaN in a row
        np.testing.assert_array_equal(loaded.history[name], run.history[name])
    np.testing.assert_array_equal(loaded.optimizer_state, run.optimizer_state)


def test_files(run, tmp_path):
    directory = run.save(tmp_path / "deep" / "run")
    names = {"policy.npz", "history.csv", "config.json", "learning_curve.png"}
    assert {path.name for path in directory.iterdir()} == names
    with open(directory / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean_return"]) for row in rows] == run.history["mean_return"].tolist()
    config = json.loads((directory / "config.json").read_text())
    assert config["env"]["fields"]["gravity"] == 3.7
    assert (directory / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_config_names_the_environment_and_what_is_unusual_of_it(run, tmp_path):
    config = run.config()
    assert config["env_id"] == "CartPole-v1"
    assert config["env_parameters"] == {"gravity": 3.7, "semi_implicit": True}
    for id in ("CartPole-v0", "FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalkingSlippery-v1", "Taxi-v4"):
        env = fastpg.make(id)
        assert runs.id_of(env) == id and runs.has_default_parameters(env)
        assert replace(run, env=env).config()["env_parameters"] == {}
    other = replace(run, env=Table(np.zeros((5, 5)))).config()
    assert other["env_id"] is None
    assert other["env_parameters"] == {"transitions": "array of shape (5, 5)", "name": None}
    assert runs.plain(np.arange(3)) == [0, 1, 2] and not runs.has_default_parameters(run.env)


class Needy(NamedTuple):
    size: int


def test_an_environment_that_needs_parameters_has_a_name_all_the_same(monkeypatch):
    spec = fastpg.environment.Spec("Needy-v0", Needy, {})
    monkeypatch.setitem(fastpg.registry, "Needy-v0", spec)
    assert runs.id_of(Needy(3)) == "Needy-v0" and not runs.has_default_parameters(Needy(3))


def test_the_history_has_the_signal_to_noise_ratio(run):
    history = run.history
    expected = history["gradient_norm"] / history["gradient_error"]
    np.testing.assert_allclose(history["signal_to_noise"], expected, rtol=1e-14)


def test_a_run_of_a_version_without_that_column_is_loaded_and_resumed(run, policy, tmp_path, monkeypatch):
    """Written as that version did: a history with fewer columns."""
    old = np.dtype([(name, runs.HISTORY[name]) for name in runs.HISTORY.names if name != "signal_to_noise"])
    history = np.array([tuple(row[name] for name in old.names) for row in run.history], old)
    monkeypatch.setattr(runs, "HISTORY", old)
    replace(run, history=history).save(tmp_path / "run")
    monkeypatch.undo()
    loaded = fastpg.load(tmp_path / "run")
    assert loaded.history.dtype == runs.HISTORY
    np.testing.assert_allclose(loaded.history["signal_to_noise"], run.history["signal_to_noise"], rtol=1e-14)
    np.testing.assert_array_equal(loaded.history["mean_return"], run.history["mean_return"])
    settings = {"n_updates": 1, "n_trajectories": 20, "seed": run.seed, "horizon": run.horizon}
    resumed = fastpg.train(run.env, policy, resume=loaded, **settings)
    direct = fastpg.train(run.env, policy, resume=run, **settings)
    np.testing.assert_array_equal(resumed.theta, direct.theta)


def test_columns_that_are_not_known_are_nan(run):
    history = runs._with_all_columns(run.history[["update", "n_steps", "gradient_norm", "gradient_error"]])
    assert np.isnan(history["mean_return"]).all() and np.isfinite(history["signal_to_noise"]).all()
    np.testing.assert_array_equal(history["n_steps"], run.history["n_steps"])


def test_a_directory_that_holds_something_is_refused(run, tmp_path):
    run.save(tmp_path / "run")
    before = (tmp_path / "run" / "policy.npz").read_bytes()
    with pytest.raises(ValueError, match="already holds a run"):
        run.save(tmp_path / "run")
    assert (tmp_path / "run" / "policy.npz").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").touch()
    with pytest.raises(ValueError, match="already holds notes"):
        run.save(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    run.save(tmp_path / "empty")


def test_a_path_that_cannot_be_written_is_refused(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        run.save(tmp_path / "file")
    with pytest.raises(ValueError, match="cannot be written"):
        run.save(tmp_path / "file" / "below")


def test_nothing_is_left_of_a_save_that_fails(run, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(runs.csv, "writer", fail)
    with pytest.raises(OSError, match="disk full"):
        run.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "deep" / "run", tmp_path / "empty"):
        with pytest.raises(OSError, match="disk full"):
            run.save(path)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_loading_what_is_not_a_run(run, tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        fastpg.load(tmp_path / "nothing")
    file = run.save(tmp_path / "run") / "policy.npz"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match="cannot be read"):
        fastpg.load(tmp_path / "run")


def test_a_function_as_learning_rate_must_be_given_again(policy, env, tmp_path):
    """A function cannot be kept; all else can, and resuming asks for it."""
    optimizer = fastpg.SGD(lambda update: 0.01)
    fastpg.train(env, policy, n_updates=1, n_trajectories=20, optimizer=optimizer).save(tmp_path / "run")
    loaded = fastpg.load(tmp_path / "run")
    with pytest.raises(ValueError, match="optimizer.*give it again"):
        fastpg.train(env, policy, n_updates=1, n_trajectories=20, resume=loaded)
    resumed = fastpg.train(env, policy, n_updates=1, n_trajectories=20, resume=loaded, optimizer=optimizer)
    assert len(resumed.history) == 2


class Table(NamedTuple):
    transitions: np.ndarray
    name: str | None = None


def test_parameters_that_are_arrays_are_kept():
    table = Table(np.arange(6, dtype=np.float32).reshape(2, 3) / 3)
    decoded = runs.decode(json.loads(json.dumps(runs.encode(table))))
    np.testing.assert_array_equal(decoded.transitions, table.transitions)
    assert decoded.transitions.dtype == np.float32 and decoded.name is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links and a umask")
def test_an_empty_directory_behind_a_link_is_filled_in_place(run, tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "volume")
    before = os.umask(0o027)
    try:
        run.save(tmp_path / "link")
        run.save(tmp_path / "new")
    finally:
        os.umask(before)
    assert (tmp_path / "volume" / "policy.npz").is_file() and (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o750


def test_checking_an_output_makes_nothing(tmp_path):
    runs.check_output(tmp_path / "deep" / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_fails_does_not_take_the_run_with_it(run, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.warns(UserWarning, match="learning_curve.png could not be drawn: no fonts"):
        run.save(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "policy.npz",
        "history.csv",
        "config.json",
    }
    fastpg.load(tmp_path / "run")


class Outer:
    class Plain(fastpg.REINFORCE):
        __slots__ = ()


def test_a_class_within_a_class_is_found_again(env, policy, tmp_path):
    run = fastpg.train(env, policy, Outer.Plain(), n_updates=1, n_trajectories=20)
    run.save(tmp_path / "run")
    assert type(fastpg.load(tmp_path / "run").estimator) is Outer.Plain


def test_a_class_that_could_not_be_loaded_is_refused(env, policy, tmp_path):
    class Local(fastpg.REINFORCE):
        __slots__ = ()

    run = fastpg.train(env, policy, Local(), n_updates=1, n_trajectories=20)
    with pytest.raises(ValueError, match="estimator=Local.*top level of a module"):
        run.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["os:system", "builtins:exec", "builtins:dict", "fastpg:train"])
def test_only_named_tuples_are_made_from_a_file(name):
    with pytest.raises(TypeError, match="must name a typing.NamedTuple class"):
        runs.decode({"class": name, "fields": {}})


def test_settings_that_are_numpy_integers_can_be_saved(env, policy, tmp_path):
    settings = {"n_updates": np.int64(1), "n_trajectories": np.int32(20), "horizon": np.int64(9)}
    fastpg.train(env, policy, **settings).save(tmp_path / "run")
    assert fastpg.load(tmp_path / "run").n_trajectories == 20


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.array])
def test_numpy_numbers_are_parameters(kind):
    gravity = fastpg.make("CartPole-v1", gravity=kind(3)).gravity
    assert gravity == 3.0 and type(gravity) is float
    assert fastpg.make("CartPole-v1", semi_implicit=np.True_).semi_implicit is True


class Named(CartPole):
    __slots__ = ()

    @classmethod
    def make(cls, planet="earth", *, length=0.5):
        return cls(gravity={"earth": 9.8, "moon": 1.62}[planet], length=length)


def test_make_has_plain_arguments_and_keywords_alone(monkeypatch):
    monkeypatch.setattr(fastpg.environment, "registry", dict(fastpg.environment.registry))
    fastpg.register("Named-v0", Named)
    env = fastpg.make("Named-v0", planet="moon", length=0.25)
    assert (env.gravity, env.length) == (1.62, 0.25)
    with pytest.raises(TypeError, match="gravity=3.7: Named has no such parameter; there are planet, length"):
        fastpg.make("Named-v0", gravity=3.7)


def test_runs_and_evaluations_are_a_line(env, policy):
    run = fastpg.train(env, policy, n_updates=2, n_trajectories=20)
    assert repr(run).startswith("<Run of REINFORCE in CartPole: 2 updates, last mean return ")
    evaluation = fastpg.evaluate(env, policy, run.theta, n_trajectories=10)
    assert repr(evaluation).startswith("<Evaluation of 10 trajectories: mean return ")


def test_parameters_of_a_registration_are_checked(monkeypatch):
    monkeypatch.setattr(fastpg.environment, "registry", dict(fastpg.registry))
    fastpg.register("CartPole-moon", "fastpg.envs.cartpole:CartPole", gravity=2)
    assert type(fastpg.make("CartPole-moon").gravity) is float
    fastpg.register("CartPole-typo", "fastpg.envs.cartpole:CartPole", gravty=2)
    with pytest.raises(TypeError, match="did you mean gravity"):
        fastpg.make("CartPole-typo")
