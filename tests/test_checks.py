"""check_env: what it finds right, and how it names the usual mistakes; the compiler's errors, readable."""

import importlib
import math
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

import fastpg
from fastpg.environment_checks import check_env
from fastpg.random import uniform
from fastpg.simd import sin
from fastpg.tables import lookup

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")


class Position(NamedTuple):
    x: float


class Walk(NamedTuple):
    """A correct environment; the others are this one with a mistake."""

    wind: float = 0.3

    horizon = 50
    observation_space = Box(-10.0, 10.0, (1,))
    action_space = Discrete(3)

    def reset(self, rng):
        return Position(uniform(rng, 0) - 0.5)

    def observe(self, state):
        return (state.x,)

    def step(self, state, action, rng):
        x = state.x + (action - 1) * 0.5 + self.wind * (uniform(rng, 0) - 0.5)
        return Position(x), -x * x, abs(x) > 5.0


def test_a_correct_environment_is_reported_as_one():
    report = check_env(Walk())
    assert report.errors == report.warnings == []
    assert report.vectorised is True
    assert report.draws == {"reset": [0], "step": [0]}
    assert str(report).startswith("Walk: a correct environment; vectorised\n")


@pytest.mark.parametrize("id", sorted(fastpg.registry))
def test_fastpgs_own_are_correct_and_vectorised(id):
    """All of them: the loop over lanes is SIMD code."""
    env = fastpg.make(id)
    report = check_env(env)
    assert report.vectorised is not id.startswith("MinAtar"), str(report)  # whose states hold arrays
    assert report.warnings == []


class Whole(Walk):
    """Rounds to an integer in reset, and then does not."""

    __slots__ = ()

    def reset(self, rng):
        return Position(0)


class Varying(Walk):
    __slots__ = ()

    def observe(self, state):
        return (state.x,) if state.x < 0.0 else (state.x, 1.0)


class Listed(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return Position([state.x, 1.0]), 0.0, False


class Pair(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return state, 0.0


class Bare(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return (state.x,), 0.0, False


class Unsure(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return state, 0.0, 0.5


class Raising(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        if state.x > 100.0:
            raise ValueError("too far")
        return state, 0.0, False


class Misspelt(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return Position(state.y), 0.0, False


class Impure(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return Position(np.random.rand()), 0.0, False


class Writing(NamedTuple):
    table: np.ndarray

    horizon = 50
    observation_space = Box(-10.0, 10.0, (1,))
    action_space = Discrete(3)
    reset = Walk.reset
    observe = Walk.observe

    def step(self, state, action, rng):
        self.table[0] = 1.0
        return state, 0.0, False


class Overflowing(Walk):
    """Integers have 64 bits in compiled code, and any number in Python."""

    __slots__ = ()

    def step(self, state, action, rng):
        return Position(1.0 if (action + 3) * 2**62 > 0 else 0.0), 0.0, False


class Spot(NamedTuple):
    """Like `Position`, but another class."""

    x: float


class Moved(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return Spot(state.x), 0.0, False


MISTAKES = {
    "a state of another class": (Moved(), "returns a state of class Spot, and reset one of class Position"),
    "an integer at first": (Whole(), r"step returns x=.*a float, where reset has 0, an integer"),
    "an observation that varies": (Varying(), "observe returns 2 numbers.*the length must not vary"),
    "a list in the state": (Listed(), r"step returns x=\[.*\] in the state"),
    "no terminated": (Pair(), r"must return \(state, reward, terminated\)"),
    "a state without a class": (Bare(), "step returns the state .*must be a NamedTuple"),
    "half terminated": (Unsure(), "terminated=0.5, must be a boolean"),
    "an exception": (Raising(), "Raising.step raises"),
    "random numbers of NumPy's": (Impure(), "step gives another state from the same arguments"),
    "a parameter written to": (Writing(np.zeros(3)), "an array among the parameters was written to"),
    "integers that overflow": (Overflowing(), "step compiled is not step in ordinary Python"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    env, message = MISTAKES[mistake]
    with pytest.raises(TypeError, match=message):
        check_env(env)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Misspelt(), "Misspelt cannot be compiled: in ordinary Python: AttributeError.*'y'"),
        (Whole(), "Whole cannot be compiled: step returns x="),
        (Pair(), "Pair cannot be compiled: step returns"),
    ],
)
def test_a_gradient_names_them_too(env, message):
    policy = fastpg.SoftmaxLinear.for_env(env)
    with pytest.raises(TypeError, match=message) as caught:
        fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=2)
    assert len(str(caught.value)) < 500


class Unreadable(NamedTuple):
    """Ordinary Python runs it; Numba does not know that floats have hex()."""

    horizon = 5
    observation_space = Box(-10.0, 10.0, (1,))
    action_space = Discrete(3)
    reset = Walk.reset
    observe = Walk.observe

    def step(self, state, action, rng):
        return Position(1.0 * len(state.x.hex())), 0.0, False


def test_what_only_the_compiler_refuses_is_quoted_with_its_line():
    with pytest.raises(TypeError, match=r"Unreadable: cannot be compiled: .*test_checks.py.*hex"):
        check_env(Unreadable())


class Thing:
    """An object of Python's."""

    size = 1.0


THING = Thing()


class Holding(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return Position(state.x + THING.size), 0.0, False


def test_objects_of_python_are_named_for_what_they_are():
    with pytest.raises(TypeError, match=r"'THING'.*test_checks.py.*no other objects of Python"):
        check_env(Holding())


class Slow(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return Position(math.sin(state.x)), 0.0, False


class Quick(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return Position(math.pi * sin(state.x)), 0.0, False  # a sine, and something of math, but no math.sin


class Twice(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return Position(uniform(rng, 3) - uniform(rng, 3)), 0.0, False


class Beyond(Walk):
    __slots__ = ()

    observation_space = Box(-0.01, 0.01, (1,))


class Long(Walk):
    """Newton's method for as long as it takes."""

    __slots__ = ()

    def step(self, state, action, rng):
        x = abs(state.x) + 1.0
        y = x
        while abs(y * y - x) > 1e-12 * x:
            y = 0.5 * (y + x / y)
        return Position(y), 0.0, False


def test_slow_code_is_warned_of():
    report = check_env(Slow())
    assert report.vectorised is False
    assert any("math.sin in Slow.step" in text and "fastpg.simd.sin" in text for text in report.warnings)
    report = check_env(Quick())
    assert report.vectorised is True and report.warnings == []
    report = check_env(Long())
    assert report.vectorised is False and "a loop whose length depends on the state" in report.warnings[0]


class Narrow(Walk):
    """NumPy's small integers, which would run over."""

    __slots__ = ()

    def reset(self, rng):
        return Position(np.int8(0))

    def observe(self, state):
        return (1.0 * state.x,)

    def step(self, state, action, rng):
        return Position(np.int8(1)), 0.0, False


class Unequal(Walk):
    """Its start is another in compiled code, where integers have 64 bits."""

    __slots__ = ()

    def reset(self, rng):
        n = int(uniform(rng, 0) * 1e6) + 1_000_000
        return Position(1e-24 * (n * n * n * n))


class Ragged(NamedTuple):
    """Reads a table, and ends where the table ends."""

    table: np.ndarray

    horizon = 50
    observation_space = Discrete(10)
    action_space = Discrete(3)

    def reset(self, rng):
        return Place(0)

    def observe(self, state):
        return state.place

    def step(self, state, action, rng):
        place = state.place + 1
        return Place(place), lookup(self.table, state.place), place >= self.table.shape[0]


class Place(NamedTuple):
    place: int


class Endless(Walk):
    __slots__ = ()
    horizon = 0


class Dividing(Walk):
    __slots__ = ()

    def step(self, state, action, rng):
        return state, 1.0 / (state.x - state.x), False


class OfTwoChoices(Walk):
    __slots__ = ()
    action_space = MultiDiscrete([2, 2])


def test_mistakes_of_attributes_are_named():
    with pytest.raises(TypeError, match="horizon=0: must be between 1 and"):
        check_env(Endless())
    with pytest.raises(TypeError, match=r"float division by zero \(in step, test_checks.py:\d+\)"):
        check_env(Dividing())
    with pytest.raises(TypeError, match="action_space=MultiDiscrete.*must be Discrete, or a Box of one axis"):
        check_env(OfTwoChoices())


def test_the_environment_in_the_readme_is_correct_and_learns(tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    code = readme.split("### An environment of your own\n")[1].split("```python\n")[1].split("```")[0]
    assert code.count("\n") < 40
    (tmp_path / "crossing.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    run = importlib.import_module("crossing").run
    assert capsys.readouterr().out.startswith("Crossing: a correct environment; vectorised\n")
    before, after = run.history["mean_return"][[0, -1]]
    assert after > 1.5 * before  # of a hundred: the boat is held on its course more often


def test_more_mistakes_are_named():
    with pytest.raises(TypeError, match="floats and integers of 64 bits"):
        check_env(Narrow())
    with pytest.raises(TypeError, match="reset compiled is not reset in ordinary Python"):
        check_env(Unequal())


def test_nothing_is_stepped_beyond_its_end():
    """Every row of the table behind the end is NaN: whoever reads it shows it."""
    memory = np.full(200, np.nan)
    memory[:5] = 1.0
    env = Ragged(memory[:5])
    assert check_env(env).errors == []
    envs = fastpg.VectorEnv(env, 20)
    envs.reset(seed=0)
    rewards = [envs.step(np.zeros(20, np.int64))[1] for _ in range(30)]
    assert set(np.unique(rewards)) == {0.0, 1.0}


def test_odd_draws_and_observations_are_warned_of():
    assert "draw 3 twice" in check_env(Twice()).warnings[0]
    assert "outside the observation_space" in check_env(Beyond()).warnings[0]


def test_bad_arguments():
    with pytest.raises(TypeError, match="env='CartPole-v1': must be an environment, not a name"):
        check_env("CartPole-v1")
    with pytest.raises(ValueError, match="n_steps=0"):
        check_env(Walk(), n_steps=0)
