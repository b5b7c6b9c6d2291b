"""The environments as Gymnasium's `VectorEnv` and `Env`: against `SyncVectorEnv`, and ordinary Python."""

import copy
import inspect
import pickle
import subprocess
import sys
import warnings
from typing import NamedTuple

import gymnasium
import numba
import numpy as np
import pytest
from fastpg.envs.cartpole import CartPole, State
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Tuple
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import RecordVideo, TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from scipy import stats

import fastpg
from fastpg.interop.registration import gymnasium_name
from fastpg.nests import leaves_of
from fastpg.random import integer, next_step, seed_key, trajectory_rng, uniform

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")

MODES = list(AutoresetMode)
NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


# --- environments of the other spaces ---


class Place(NamedTuple):
    x: float
    y: float
    gusts: int
    windy: bool


class Drift(NamedTuple):
    """Continuous actions of two components, an observation in float64, noise, every kind of field."""

    wind: float = 0.3

    horizon = 20
    observation_space = Box(-np.inf, np.inf, (4,), np.float64)
    action_space = Box(-1.0, 1.0, (2,))

    def reset(self, rng):
        return Place(uniform(rng, 0) - 0.5, uniform(rng, 1) - 0.5, 0, uniform(rng, 2) < 0.5)

    def observe(self, state):
        return state.x, state.y, state.gusts, state.windy

    def step(self, state, action, rng):
        windy = state.windy ^ (uniform(rng, 0) < 0.2)
        gust = self.wind * (uniform(rng, 1) - 0.5) if windy else 0.0
        x = state.x + 0.3 * min(max(action[0], -1.0), 1.0) + gust
        y = state.y + 0.3 * min(max(action[1], -1.0), 1.0)
        gusts = state.gusts + (1 if windy else 0)
        return Place(x, y, gusts, windy), -x * x - y * y, x * x + y * y > 1.0


class Seat(NamedTuple):
    number: int


class Ring(NamedTuple):
    """A discrete observation and discrete actions, neither of which begins with 0."""

    seats: int = 8

    horizon = 20
    action_space = Discrete(3, start=-1)

    @property
    def observation_space(self):
        return Discrete(self.seats, start=5)

    def reset(self, rng):
        return Seat(integer(rng, 0, self.seats))

    def observe(self, state):
        return state.number + 5

    def step(self, state, action, rng):
        number = state.number + action + integer(rng, 0, 2) + self.seats
        number = number - self.seats if number >= self.seats else number
        number = number - self.seats if number >= self.seats else number
        return Seat(number), action, number == 0


class Hand(NamedTuple):
    total: int
    warned: bool


class Cards(NamedTuple):
    """An observation that is a tuple of integers: draw cards, but not beyond 21."""

    stakes: float = 1.0

    horizon = 6
    observation_space = Tuple((Discrete(32), Discrete(2)))
    action_space = Discrete(2)

    def reset(self, rng):
        return Hand(1 + integer(rng, 0, 10), False)

    def observe(self, state):
        return state.total, state.warned

    def step(self, state, action, rng):
        total = state.total + (1 + integer(rng, 0, 10) if action == 1 else 0)
        return Hand(total, total > 11), self.stakes * (action if total <= 21 else -1), total > 21


OWN = {cls.__name__: cls for cls in (Drift, Ring, Cards)}
BUILT_IN = [
    name
    for name, spec in fastpg.registry.items()
    if isinstance(spec.entry_point, str) and spec.entry_point.startswith("fastpg.envs.")
]


def make(name):
    return OWN[name]() if name in OWN else fastpg.make(name)


def single(env, limit=None):
    limit = limit or env.horizon
    return TimeLimit(fastpg.Env(env, time_limit=False), limit) if limit else fastpg.Env(env)


def sync(env, n, mode=NEXT_STEP, limit=None):
    return SyncVectorEnv([lambda: single(env, limit)] * n, autoreset_mode=mode)


def assert_identical(actual, expected):
    """The same nest of dicts, tuples and arrays: types, shapes and every bit of the numbers."""
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected:
            assert_identical(actual[key], expected[key])
    elif isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            assert_identical(a, b)
    elif isinstance(expected, np.ndarray):
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
        if expected.dtype == object:
            assert_identical(tuple(actual), tuple(expected))
        else:
            np.testing.assert_array_equal(actual, expected)
    else:
        assert actual == expected


def lasting_actions(env, n, steps, seed=0):
    """Random actions, shape (steps, n, ...)."""
    space = batch_space(env.action_space, n)
    space.seed(seed)
    return np.array([space.sample() for _ in range(steps)])


def roll(vector, actions, seed=0, options=None):
    """All that a reset and the steps return, one entry a call; resets what is over in mode DISABLED."""
    results = [vector.reset(seed=seed)]
    for action in actions:
        results.append(vector.step(action))
        over = results[-1][2] | results[-1][3]
        if vector.metadata["autoreset_mode"] is DISABLED and over.any():
            results.append(vector.reset(options={"reset_mask": over}))
    return results


# --- Gymnasium's own checks ---


@pytest.mark.parametrize("name", BUILT_IN)
def test_gymnasiums_checker_passes(name, monkeypatch):
    """With no other warnings than Gymnasium's own environment of that name gets."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")

    def complaints(id):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.filterwarnings("ignore", module="numba")  # where a kernel is compiled meanwhile
            env = gymnasium.make(id)
            check_env(env.unwrapped)
            env.close()
        assert isinstance(env.unwrapped, fastpg.Env) == id.startswith("fastpg")
        return {str(w.message).replace("fastpg/", "") for w in caught}

    ours = complaints(f"fastpg:{gymnasium_name(name)}")
    if name in gymnasium.registry:
        assert ours <= complaints(name)
    else:  # only of the bounds of a Box, which are the environment's own, and of another version
        assert all("Box" in complaint or "out of date" in complaint for complaint in ours)


def test_the_checkers_warnings_for_cartpole():
    """Two, about velocities without bounds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(gymnasium.make("fastpg:fastpg/CartPole-v1").unwrapped, skip_render_check=True)
    assert len(caught) == 2 and all("infinity" in str(w.message) for w in caught)


@pytest.mark.parametrize("name", [*BUILT_IN, *OWN])
def test_spaces_are_batched_as_gymnasium_batches_them(name):
    env = make(name)
    vector, reference = fastpg.VectorEnv(env, 5), sync(env, 5)
    assert isinstance(vector, gymnasium.vector.VectorEnv)
    for space in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(vector, space) == getattr(reference, space), space
    first = fastpg.Env(env)
    assert (first.observation_space, first.action_space) == (env.observation_space, env.action_space)


@pytest.mark.parametrize("name", OWN)
def test_observations_are_inside_the_spaces(name):
    """With the space's dtype, in both interfaces; rewards are float64, flags booleans, infos empty."""
    env = make(name)
    vector, one = fastpg.VectorEnv(env, 5), fastpg.Env(env)
    for observation, *rest in roll(vector, lasting_actions(env, 5, 30)):
        assert observation in vector.observation_space
        if len(rest) == 4:
            assert [(a.dtype, a.shape) for a in rest[:3]] == [(float, (5,)), (bool, (5,)), (bool, (5,))]
        assert rest[-1] == {}
    assert one.reset(seed=0)[0] in one.observation_space
    observation, reward, terminated, truncated, info = one.step(one.action_space.sample())
    assert observation in one.observation_space and info == {}
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)


@pytest.mark.parametrize("mode", MODES)
def test_the_autoreset_mode_is_in_the_metadata(mode):
    """As the enumeration, whether it was given as such or by value; next step unless given."""
    for given in (mode, mode.value):
        assert fastpg.make_vec("CartPole-v1", autoreset_mode=given).metadata["autoreset_mode"] is mode
        vector = gymnasium.make_vec("fastpg:fastpg/CartPole-v1", num_envs=2, autoreset_mode=given)
        assert vector.metadata["autoreset_mode"] is mode
    assert fastpg.make_vec("CartPole-v1").metadata["autoreset_mode"] is NEXT_STEP


def test_metadata_is_no_shared_object():
    """Changing that of one environment leaves Gymnasium's class, and the next, alone."""
    vector = fastpg.make_vec("CartPole-v1")
    vector.metadata["render_fps"] = -1
    fastpg.Env(CartPole()).metadata["render_modes"].clear()
    assert fastpg.make_vec("CartPole-v1").metadata["render_fps"] == 50
    assert "human" in fastpg.Env(CartPole()).metadata["render_modes"]


def test_signatures_are_gymnasiums():
    for ours, theirs in ((fastpg.VectorEnv, gymnasium.vector.VectorEnv), (fastpg.Env, gymnasium.Env)):
        for method in ("reset", "step", "render"):
            names = list(inspect.signature(getattr(ours, method)).parameters)
            assert names == list(inspect.signature(getattr(theirs, method)).parameters)
        parameters = inspect.signature(ours.reset).parameters
        assert parameters["seed"].default is None and parameters["options"].default is None


def test_returned_arrays_are_the_callers():
    """Neither a later step nor the caller's writing into them reaches the other."""
    vector, again = (fastpg.make_vec("CartPole-v1", 3) for _ in range(2))
    expected = roll(again, np.ones((30, 3), int))
    results = [vector.reset(seed=0)]
    for t in range(30):
        assert_identical(results[-1], expected[t])
        for array in results[-1][:-1]:
            array[...] = 1
        results.append(vector.step(np.ones(3, int)))
    states = vector.states
    states.x[...] = 99.0
    assert vector.states.x.max() < 99.0


def test_the_action_space_is_seeded_apart():
    first, second = (fastpg.make_vec("CartPole-v1", 50) for _ in range(2))
    for vector in (first, second):
        vector.action_space.seed(3)
        vector.reset(seed=3 if vector is first else 4)
    for _ in range(5):
        action = first.action_space.sample()
        assert isinstance(first.action_space, MultiDiscrete) and first.action_space.contains(action)
        np.testing.assert_array_equal(action, second.action_space.sample())


def test_gymnasiums_vector_wrappers_work():
    """RecordEpisodeStatistics adds up the episodes' returns, in the modes that begin episodes."""
    for mode in (NEXT_STEP, SAME_STEP):
        wrapped = RecordEpisodeStatistics(fastpg.make_vec("CartPole-v1", 4, autoreset_mode=mode))
        results = roll(wrapped, lasting_actions(CartPole(), 4, 100))
        ends = [(over, infos) for _, _, over, _, infos in results[1:] if over.any()]
        assert len(ends) > 5
        for over, infos in ends:
            np.testing.assert_array_equal(infos["_episode"], over)
            np.testing.assert_array_equal(infos["episode"]["r"], infos["episode"]["l"])
            assert infos["episode"]["l"][over].min() >= 8


# --- making them ---


MAKING = """
{imports}
single = gymnasium.make("fastpg:fastpg/CartPole-v1", max_episode_steps=3, gravity=3.7)
assert single.unwrapped.env == fastpg.make("CartPole-v1", gravity=3.7)
single.reset(seed=0)
assert [single.step(0)[3] for _ in range(3)] == [False, False, True]
compiled, reference = fastpg.VectorEnv, gymnasium.vector.SyncVectorEnv
for mode, kind in ((None, compiled), ("vector_entry_point", compiled), ("sync", reference)):
    vector = gymnasium.make_vec("fastpg:fastpg/CartPole-v1", num_envs=3, vectorization_mode=mode, gravity=3.7)
    assert type(vector) is kind and vector.num_envs == 3, mode
    assert vector.reset(seed=0)[0].shape == (3, 4)
    assert vector.step(vector.action_space.sample())[1].tolist() == [1.0] * 3
    vector.close()
assert type(fastpg.make_vec("CartPole-v1", 3, gravity=3.7).reset()[1]) is dict
print("made")
"""


@pytest.mark.parametrize("first", ["fastpg", "gymnasium"])
def test_gymnasium_makes_them_in_a_fresh_process(first):
    """Whichever is imported first, or fastpg by Gymnasium alone."""
    second = {"fastpg": "gymnasium", "gymnasium": "fastpg"}[first]
    code = MAKING.format(imports=f"import {first}\nimport {second}")
    if first == "gymnasium":  # "fastpg:" imports it
        code = "import gymnasium\ngymnasium.make('fastpg:fastpg/CartPole-v1').reset()" + code
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], text=True, capture_output=True)
    assert done.stdout == "made\n", done.stderr


def test_gymnasiums_time_limit_arrives():
    for vector in (
        gymnasium.make_vec("fastpg:fastpg/CartPole-v1", num_envs=2, max_episode_steps=4),
        fastpg.make_vec("CartPole-v1", 2, max_episode_steps=4),
        fastpg.VectorEnv(CartPole(), 2, max_episode_steps=4),
    ):
        truncated = [result[3].tolist() for result in roll(vector, np.zeros((4, 2), int))[1:]]
        assert truncated == [[False, False]] * 3 + [[True, True]]
    assert gymnasium.spec("fastpg/CartPole-v0").max_episode_steps == 200
    assert gymnasium.spec("fastpg/CartPole-v1").max_episode_steps == 500


def test_two_environments_of_one_name_in_gymnasium(monkeypatch):
    """Which has one namespace, so that a slash within a name is a hyphen there."""
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    monkeypatch.setattr(gymnasium, "registry", gymnasium.envs.registration.registry)
    monkeypatch.setattr(fastpg.environment, "registry", dict(fastpg.environment.registry))
    fastpg.register("Own/Pole-v0", "fastpg.envs.cartpole:CartPole")
    fastpg.register("Own/Pole-v0", "fastpg.envs.cartpole:CartPole", gravity=1.6)  # anew
    with pytest.raises(ValueError, match="'fastpg/Own-Pole-v0' to Gymnasium, which is 'Own/Pole-v0'"):
        fastpg.register("Own-Pole-v0", "fastpg.envs.cartpole:CartPole")
    assert "Own-Pole-v0" not in fastpg.environment.registry


def test_time_limits_in_the_registry_are_gymnasiums():
    for name in BUILT_IN:
        limit = gymnasium.spec(gymnasium_name(name)).max_episode_steps
        assert limit is None or limit == fastpg.make(name).horizon
        if name in gymnasium.registry:
            assert limit == gymnasium.spec(name).max_episode_steps


def test_parameters_that_are_no_fields_are_passed_on():
    """FrozenLake is made by the name of a map."""
    for vector in (
        gymnasium.make_vec("fastpg:fastpg/FrozenLake-v1", num_envs=2, map_name="8x8"),
        fastpg.make_vec("FrozenLake-v1", 2, map_name="8x8"),
    ):
        assert vector.single_observation_space == Discrete(64)


def test_the_specification_makes_another():
    vector = gymnasium.make_vec("fastpg:fastpg/CartPole-v1", num_envs=3, gravity=3.7, max_episode_steps=9)
    again = gymnasium.make_vec(vector.spec)
    actions = lasting_actions(CartPole(), 3, 30)
    assert again.env == vector.env and again.num_envs == 3
    assert_identical(tuple(roll(again, actions)), tuple(roll(vector, actions)))


# --- equal to SyncVectorEnv ---


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", [*BUILT_IN, *OWN])
def test_equal_to_the_single_environments_in_turn(name, mode):
    """Everything that is returned, bit for bit, over 200 steps with a short time limit."""
    env, n, limit = make(name), 6, {"Blackjack-v1": 2, "Bandit-v0": 1}.get(name, 13)
    vector = fastpg.VectorEnv(env, n, autoreset_mode=mode, max_episode_steps=limit)
    actions, seeds = lasting_actions(env, n, 200, seed=1), [11, 2**64 - 1, 0, 11, 12, 10**9]
    actual, expected = (roll(v, actions, seeds) for v in (vector, sync(env, n, mode, limit)))
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        assert_identical(ours, theirs)

    terminated, truncated = (np.array([r[i] for r in actual if len(r) == 5]) for i in (2, 3))
    assert truncated.any()
    if name in ("CartPole-v1", "Drift", "Ring"):  # each of the flags alone, and the two at once
        assert {(False, False), (True, False), (False, True), (True, True)} == set(
            zip(terminated.ravel().tolist(), truncated.ravel().tolist(), strict=True)
        )
    if mode is SAME_STEP:
        over = terminated | truncated
        for (_, _, _, _, infos), ended in zip(actual[1:], over, strict=True):
            assert ("final_obs" in infos) == ended.any()
            if ended.any():
                np.testing.assert_array_equal(infos["_final_obs"], ended)
                assert [observation is not None for observation in infos["final_obs"]] == ended.tolist()
                assert all(o in vector.single_observation_space for o in infos["final_obs"][ended])


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_equal_to_the_single_environments_from_injected_states(mode):
    """From states near the thresholds, some of which fail at once."""
    env, n = CartPole(), 40
    rng = np.random.default_rng(5)
    states = State(*(rng.uniform(-s, s, n) for s in (2.5, 2.0, 0.22, 2.0)))
    vector, reference = fastpg.VectorEnv(env, n, autoreset_mode=mode), sync(env, n, mode)
    for v in (vector, reference):
        v.reset(seed=list(range(n)))
    vector.set_states(states)
    for i, one in enumerate(reference.envs):
        one.unwrapped.set_state(State(*(float(column[i]) for column in states)))
    ended = 0
    for action in lasting_actions(env, n, 60):
        actual, expected = vector.step(action), reference.step(action)
        assert_identical(actual, expected)
        over = actual[2] | actual[3]
        ended += over.sum()
        if mode is DISABLED and over.any():
            resets = (v.reset(options={"reset_mask": over.copy()}) for v in (vector, reference))
            assert_identical(*resets)
    assert ended > 2 * n


def test_masked_resets_are_those_of_the_single_environments():
    """Of environments in mid-episode, with and without new seeds: the others go on, time limit and all."""
    env, n, limit = Drift(), 5, 9
    vector = fastpg.VectorEnv(env, n, autoreset_mode="Disabled", max_episode_steps=limit)
    reference = sync(env, n, DISABLED, limit)
    assert_identical(vector.reset(seed=[1, 2, 3, 4, 5]), reference.reset(seed=[1, 2, 3, 4, 5]))
    rng = np.random.default_rng(3)
    for t, action in enumerate(lasting_actions(env, n, 60)):
        actual, expected = vector.step(action), reference.step(action)
        assert_identical(actual, expected)
        mask = actual[2] | actual[3] | (rng.random(n) < 0.1)
        if mask.any():
            seed = rng.integers(0, 100, n).tolist() if t % 3 == 0 else None
            resets = [v.reset(seed=seed, options={"reset_mask": mask.copy()}) for v in (vector, reference)]
            assert_identical(*resets)


def test_a_step_after_the_end_ignores_the_action_and_pays_nothing():
    """In the default mode: it returns the first observation of the next episode, as float32 states."""
    vector = fastpg.make_vec("CartPole-v1", 4, max_episode_steps=3)
    *_, (_, _, _, truncated, _) = roll(vector, np.ones((3, 4), int))
    assert truncated.all() and vector.over.all()
    observations, rewards, terminated, truncated, infos = vector.step(np.zeros(4, int))
    assert rewards.tolist() == [0.0] * 4 and not (terminated | truncated).any() and infos == {}
    assert np.abs(observations).max() <= 0.05 and not vector.over.any()
    np.testing.assert_array_equal(observations, np.transpose(vector.states).astype(np.float32))


def test_the_action_of_who_begins_anew_counts_for_nothing():
    """Not even one that is none: SyncVectorEnv does not look at it."""
    vector = fastpg.make_vec("CartPole-v1", 3, max_episode_steps=2)
    vector.reset(seed=0)
    vector.step([0, 1, 0])
    vector.step([0, 1, 0])
    assert vector.over.all()
    assert vector.step([-1, 7, 1])[1].tolist() == [0.0] * 3
    with pytest.raises(AssertionError, match="invalid"):
        vector.step([-1, 0, 0])
    box = fastpg.VectorEnv(Drift(), 2, max_episode_steps=1)
    box.reset(seed=0)
    box.step(np.zeros((2, 2)))
    assert box.step(np.full((2, 2), np.nan))[1].tolist() == [0.0] * 2


def test_no_time_limit():
    """-1, as in `gymnasium.make`."""
    vector = gymnasium.make_vec("fastpg:fastpg/Pendulum-v1", num_envs=2, max_episode_steps=-1)
    vector.reset(seed=0)
    assert not any(vector.step(np.zeros((2, 1)))[3].any() for _ in range(300))


def test_nothing_is_drawn_before_the_first_reset():
    for env in (fastpg.Env(CartPole(), render_mode="rgb_array"), fastpg.VectorEnv(CartPole(), 2)):
        with pytest.raises(gymnasium.error.ResetNeeded, match="call reset before render"):
            env.render()


def test_terminated_is_apart_from_truncated():
    """A pole that falls on the last allowed step is both, a step earlier or later one of the two."""
    results = roll(fastpg.make_vec("CartPole-v1", 1), np.zeros((15, 1), int))[1:]
    falls = 1 + [bool(terminated[0]) for _, _, terminated, _, _ in results].index(True)
    for limit, flags in ((falls - 1, (False, True)), (falls, (True, True)), (falls + 1, (True, False))):
        vector = fastpg.make_vec("CartPole-v1", 1, max_episode_steps=limit)
        last = roll(vector, np.zeros((min(limit, falls), 1), int))[-1]
        assert (bool(last[2][0]), bool(last[3][0])) == flags


# --- random numbers ---


@pytest.mark.parametrize("name", ["CartPole-v1", *OWN])
def test_episodes_are_those_of_ordinary_python(name):
    """Environment i in its episode e has the random numbers of trajectory e 2^32 + i: method by method."""
    env, n, seed = make(name), 3, 21
    vector = fastpg.VectorEnv(env, n, autoreset_mode="SameStep")
    actions = lasting_actions(env, n, 60, seed=2)
    results = roll(vector, actions, seed)
    for i in range(n):
        episode, rng = 0, trajectory_rng(seed_key(seed), i)
        state, time = env.reset(rng), 0
        for action, (observation, rewards, terminated, truncated, _) in zip(
            actions[:, i], results[1:], strict=True
        ):
            rng = next_step(rng)
            action = tuple(action.tolist()) if action.shape else int(action)
            state, reward, ended = env.step(state, action, rng)
            time += 1
            assert (bool(terminated[i]), bool(truncated[i])) == (ended, time == env.horizon)
            np.testing.assert_allclose(rewards[i], reward, rtol=1e-14)
            if ended or time == env.horizon:
                episode += 1
                rng = trajectory_rng(seed_key(seed), (episode << 32) + i)
                state, time = env.reset(rng), 0
            expected = env.observe(state)
            seen = [part[i] for part in observation] if name == "Cards" else observation[i]
            np.testing.assert_allclose(seen, expected, rtol=1e-6, atol=1e-7)
        assert episode > 1


def test_environment_i_starts_where_trajectory_i_of_policy_gradient_does():
    """The returns of its first trajectories, under a policy that is all but certain, are those here."""
    env = CartPole()
    policy = fastpg.SoftmaxLinear.for_env(env)
    theta = np.zeros(policy.n_parameters)
    theta[policy.n_parameters // 2 + 2] = 1e9  # pushes with the pole's angle, too late: it swings and falls
    totals = [0.0]
    for n in range(1, 6):
        estimate = fastpg.policy_gradient(
            env, policy, theta, fastpg.REINFORCE("none"), n_trajectories=n, seed=8
        )
        totals.append(estimate.mean_return * n)
    vector = fastpg.VectorEnv(env, 5, autoreset_mode="SameStep")
    vector.reset(seed=8)
    lengths, first = np.zeros(5), np.ones(5, bool)
    while first.any():
        _, _, terminated, truncated, _ = vector.step((vector.states.theta > 0).astype(int))
        lengths += first
        first &= ~(terminated | truncated)
    np.testing.assert_allclose(np.diff(totals), lengths, rtol=1e-12)
    assert len(set(lengths.tolist())) > 2


def start_states(seed, n=1000):
    vector = fastpg.make_vec("CartPole-v1", n)
    vector.reset(seed=seed)
    return vector.states


def test_start_states_are_all_different():
    """Between environments, between episodes, and between neighbouring seeds: 24,000 draws of 52 bits."""
    starts = []
    for seed in range(3):
        vector = fastpg.make_vec("CartPole-v1", 1000)
        vector.reset(seed=seed)
        starts.append(vector.states)
        vector.reset()  # goes on
        starts.append(vector.states)
    assert len(np.unique(np.ravel(starts))) == 24_000


def test_start_states_do_not_depend_on_the_number_of_environments():
    for seed in (0, 7, 2**64 - 1):
        few, many = start_states(seed, 7), start_states(seed, 1000)
        np.testing.assert_array_equal(few, np.array(many)[:, :7])
        python = [CartPole().reset(trajectory_rng(seed_key(seed), i)) for i in range(7)]
        np.testing.assert_allclose(np.transpose(few), python, rtol=0, atol=1e-17)


def test_a_seed_fixes_everything_and_without_one_all_differ():
    actions = lasting_actions(CartPole(), 8, 50)
    vector = fastpg.make_vec("CartPole-v1", 8)
    first, again, other = (tuple(roll(vector, actions, seed)) for seed in (5, 5, 6))
    assert_identical(again, first)
    assert (other[0][0] != first[0][0]).all()
    unseeded = [fastpg.make_vec("CartPole-v1", 8).reset()[0] for _ in range(3)]
    assert len(np.unique(unseeded)) == 3 * 8 * 4


def test_np_random_seed_tells_the_seeds():
    vector = fastpg.make_vec("CartPole-v1", 3)
    drawn = vector.np_random_seed
    assert len(drawn) == 3
    first = vector.reset()[0]
    assert vector.np_random_seed == drawn
    np.testing.assert_array_equal(vector.reset(seed=drawn[0])[0], first)
    vector.reset(seed=7)
    assert vector.np_random_seed == (7, 7, 7)
    vector.reset()
    assert vector.np_random_seed == (7, 7, 7)
    vector.reset(seed=[1, None, 3])
    assert vector.np_random_seed[::2] == (1, 3)
    before = vector.np_random_seed
    vector.reset(seed=[4, 5, 6], options={"reset_mask": np.array([False, False, True])})
    assert vector.np_random_seed == (*before[:2], 6)


def test_a_list_of_seeds_gives_each_what_the_single_environment_has():
    seeds = [3, 3, 2**40, 0]
    observations, _ = fastpg.make_vec("CartPole-v1", 4).reset(seed=seeds)
    for seed, observation in zip(seeds, observations, strict=True):
        np.testing.assert_array_equal(fastpg.Env(CartPole()).reset(seed=seed)[0], observation)
    np.testing.assert_array_equal(
        fastpg.Env(CartPole()).reset(seed=3)[0], fastpg.make_vec("CartPole-v1", 9).reset(seed=3)[0][0]
    )


def test_the_single_environment_goes_on_from_its_seed():
    """Later resets without a seed give further episodes, the same ones again under the same seed."""
    env = fastpg.Env(CartPole())
    first = [env.reset(seed=s)[0] for s in (4, None, None)]
    again = [env.reset(seed=s)[0] for s in (4, None, None)]
    np.testing.assert_array_equal(again, first)
    assert len(np.unique(first)) == 12


# --- how many, and how ---


@pytest.fixture(scope="module")
def hundred_thousand():
    """Actions of 40 steps and what they lead to, in 100,000 environments."""
    actions = lasting_actions(CartPole(), 100_000, 40, seed=4)
    return actions, roll(fastpg.make_vec("CartPole-v1", 100_000, max_episode_steps=25), actions)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 129, 1000, 30_011])
def test_results_do_not_depend_on_the_number_of_environments(hundred_thousand, n):
    """The first n of 100,000 are those of a batch of n, on both sides of the widths of vectors and lanes."""
    actions, many = hundred_thousand
    few = roll(fastpg.make_vec("CartPole-v1", n, max_episode_steps=25), actions[:, :n])
    for ours, theirs in zip(few, many, strict=True):
        assert_identical(ours[:-1], tuple(part[:n] for part in theirs[:-1]))


def test_a_hundred_thousand_environments_end_and_begin(hundred_thousand):
    _, many = hundred_thousand
    terminated, truncated = (np.array([r[i] for r in many[1:]]) for i in (2, 3))
    assert terminated.any(axis=0).mean() > 0.5 and truncated.any(axis=0).mean() > 0.05
    assert (terminated | truncated).any(axis=0).all()


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_results_do_not_depend_on_the_threads(mode):
    actions = lasting_actions(CartPole(), 20_000, 40, seed=6)
    one, two = (
        roll(fastpg.make_vec("CartPole-v1", 20_000, autoreset_mode=mode, threads=threads), actions)
        for threads in (1, 2)
    )
    assert_identical(tuple(two), tuple(one))


def test_a_million_environments():
    """Start states on either side of zero, rewards of 1, and an observation that follows from the states."""
    vector = fastpg.make_vec("CartPole-v1", 10**6)
    observations, _ = vector.reset(seed=0)
    assert observations.shape == (10**6, 4) and np.abs(observations).max() <= 0.05
    np.testing.assert_array_less(np.abs(observations.mean(axis=0)), 4 * 0.1 / 12**0.5 / 10**3)
    actions = np.arange(10**6) % 2
    for _ in range(3):
        observations, rewards, terminated, truncated, _ = vector.step(actions)
    assert rewards.sum() == 10**6 and not (terminated | truncated).any()
    np.testing.assert_array_equal(observations, np.transpose(vector.states).astype(np.float32))
    assert ((observations[:, 1] > 0) == (actions == 1)).all()  # three pushes one way


# --- copies ---


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", ["CartPole-v1", "Blackjack-v1", "MinAtar/Breakout-v1"])
def test_a_copy_goes_on_like_the_original_and_by_itself(name, mode, copied):
    """In mid-episode, of a number that is no multiple of eight."""
    env, n, limit = make(name), 11, 9
    vector = fastpg.VectorEnv(env, n, autoreset_mode=mode, max_episode_steps=limit)
    actions = lasting_actions(env, n, 60, seed=1)
    roll(vector, actions[:13], seed=3)
    again = copied(vector)

    def goes_on(one):
        for action in actions[13:]:
            yield (result := one.step(action))
            over = result[2] | result[3]
            if mode is DISABLED and over.any():
                yield one.reset(options={"reset_mask": over})

    expected = tuple(goes_on(again))
    assert_identical(tuple(goes_on(vector)), expected)  # the one has not moved the other
    ours, theirs = (leaves_of(one.states) for one in (vector, again))
    assert_identical(tuple(ours), tuple(theirs))


def test_a_copy_of_a_single_environment():
    env = gymnasium.make("fastpg:fastpg/CartPole-v1")
    env.reset(seed=0)
    env.step(1)
    again = copy.deepcopy(env)
    for action in (0, 0, 1, 0, 1, 1):
        assert_identical(env.step(action), again.step(action))


# --- reset options ---

STARTS = {
    "CartPole-v1": {"low": 0.1, "high": 0.2},
    "Acrobot-v1": {"low": -1.0, "high": 0.5},
    "MountainCar-v0": {"low": -0.9, "high": -0.8},
    "MountainCarContinuous-v0": {"low": -0.9, "high": 0.1},
    "Pendulum-v1": {"x_init": 0.5, "y_init": 0.25},
}


@pytest.mark.parametrize("name", STARTS)
def test_start_states_by_gymnasiums_options(name):
    """Uniform in the same intervals as Gymnasium's, for one and for many (Kolmogorov & Smirnov, 1e-3)."""
    options, n = STARTS[name], 20_000
    vector = fastpg.make_vec(name, n)
    observations, _ = vector.reset(seed=1, options=options)
    states = vector.states
    twin = make(name).gymnasium_twin()
    theirs = []
    for i in range(2_000):
        twin.reset(seed=i, options=options)
        theirs.append(np.array(twin.unwrapped.state, float))
    for ours, others in zip(states, np.transpose(theirs), strict=True):
        if (others == 0).all():
            np.testing.assert_array_equal(ours, 0)
        else:
            assert stats.ks_2samp(ours, others).pvalue > 1e-3
    for i in (0, 7):
        one = type(states)(*(float(field[i]) for field in states))
        np.testing.assert_array_equal(observations[i], np.float32(make(name).observe(one)))
    single = fastpg.Env(make(name))
    observation, _ = single.reset(seed=1, options=options)
    np.testing.assert_array_equal(observation, observations[0])
    defaults = make(name).start_bounds()
    vector.reset(seed=1)
    plain = vector.states
    parameters = inspect.signature(make(name).start_bounds).parameters
    vector.reset(seed=1, options={option: parameter.default for option, parameter in parameters.items()})
    for field, given, low, high in zip(plain, vector.states, *defaults, strict=True):
        np.testing.assert_allclose(given, field, rtol=0, atol=1e-15)
        assert (low <= field).all() and (field <= high).all()


def test_options_go_with_a_mask_and_others_are_passed_over():
    vector = fastpg.make_vec("CartPole-v1", 4)
    vector.reset(seed=0)
    before = vector.states
    mask = np.array([True, False, True, False])
    observations, _ = vector.reset(options={"reset_mask": mask, "low": 1.0, "high": 1.5, "other": "x"})
    assert (observations[mask] >= 1.0).all() and (observations[mask] <= 1.5).all()
    np.testing.assert_array_equal(observations[~mask], np.float32(np.transpose(before))[~mask])
    fastpg.Env(make("Chain-v0")).reset(seed=0, options={"low": 1.0})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"low": 1.0, "high": 0.5}, ValueError, "the lower end of an interval is above the upper one"),
        ({"low": "a"}, TypeError, r"options\['low'\]='a': must be a number"),
        ({"high": np.inf}, ValueError, r"options\['high'\]=inf: must be finite"),
    ],
)
def test_bad_reset_options(options, error, message):
    with pytest.raises(error, match=message):
        fastpg.make_vec("CartPole-v1", 2).reset(options=options)


# --- Gymnasium's dynamics through the interface ---


def test_steps_are_gymnasiums():
    """10,000 injected states: observations to the rounding to float32, reward and termination exactly."""
    env, n = CartPole(), 10_000
    rng = np.random.default_rng(9)
    states = State(*(rng.uniform(-s, s, n) for s in (3.0, 2.0, 0.3, 2.0)))
    actions = rng.integers(0, 2, n)
    vector = fastpg.VectorEnv(env, n)
    vector.reset(seed=0)
    vector.set_states(states)
    assert_identical(vector.states, states)
    observations, rewards, terminated, truncated, _ = vector.step(actions)
    twin = env.gymnasium_twin().unwrapped
    twin.reset()
    for i in range(n):
        twin.state, twin.steps_beyond_terminated = [column[i] for column in states], None
        observation, reward, ended, _, _ = twin.step(actions[i])
        np.testing.assert_array_max_ulp(observations[i], observation, maxulp=1)
        assert (rewards[i], terminated[i], truncated[i]) == (reward, ended, False)
    assert 0.2 < terminated.mean() < 0.8


def test_states_of_every_kind_are_set_and_read():
    """Floats, integers and booleans, all of them or where an index says; time begins anew."""
    n = 300
    vector = fastpg.VectorEnv(Drift(wind=0.0), n, max_episode_steps=2)
    vector.reset(seed=1)
    vector.step(np.zeros((n, 2)))
    rng = np.random.default_rng(2)
    some = Place(rng.uniform(-0.1, 0.1, n), rng.uniform(-0.1, 0.1, n), np.arange(n), rng.random(n) < 0.5)
    vector.set_states(some)
    assert_identical(vector.states, some)
    observations, rewards, _, truncated, _ = vector.step(np.zeros((n, 2)))
    np.testing.assert_array_equal(observations[:, :2], np.transpose(some[:2]))
    np.testing.assert_allclose(rewards, -(some.x**2) - some.y**2)
    assert not truncated.any()

    where = np.array([5, 299])
    vector.set_states(Place(0.25, 0.5, np.array([7, 8]), True), where)
    after = vector.states
    assert [(after.x[i], after.y[i], after.gusts[i], after.windy[i]) for i in where] == [
        (0.25, 0.5, 7, True),
        (0.25, 0.5, 8, True),
    ]
    others = np.setdiff1d(np.arange(n), where)
    np.testing.assert_array_equal(after.x[others], some.x[others])
    truncated = vector.step(np.zeros((n, 2)))[3]
    assert truncated[others].all() and not truncated[where].any()


def test_the_state_of_a_single_environment():
    env = fastpg.Env(Drift())
    env.reset(seed=0)
    state = Place(0.125, -0.5, 4, False)
    env.set_state(state)
    assert env.state == state and [type(field) for field in env.state] == [float, float, int, bool]


def test_single_environments_do_not_go_on_after_the_end():
    """Gymnasium's do, with a warning; here a table may have no row for it."""
    env = fastpg.Env(CartPole())
    env.reset(seed=0)
    while not env.step(0)[2]:
        pass
    with pytest.raises(gymnasium.error.ResetNeeded, match="the episode is over"):
        env.step(0)
    env.reset()
    assert not env.step(0)[2]


def test_the_horizon_of_a_parameter_is_kept():
    """LinearQuadratic's is a parameter, of which Gymnasium's registry cannot know."""
    env = gymnasium.make("fastpg:fastpg/LinearQuadratic-v0", horizon=5)
    vector = gymnasium.make_vec("fastpg:fastpg/LinearQuadratic-v0", num_envs=2, horizon=5)
    env.reset(seed=0)
    vector.reset(seed=0)
    action = np.zeros(1)
    assert [env.step(action)[3] for _ in range(5)] == [False] * 4 + [True]
    assert [vector.step(np.zeros((2, 1)))[3].all() for _ in range(5)] == [False] * 4 + [True]


def test_none_in_a_list_of_seeds_goes_on():
    """As in SyncVectorEnv: the stream there is, not a new one of the operating system's."""
    starts = []
    for _ in range(2):
        vector = fastpg.make_vec("CartPole-v1", 2)
        vector.reset(seed=0)
        starts.append(vector.reset(seed=[None, 3])[0])
    np.testing.assert_array_equal(*starts)


def test_random_numbers_go_on_after_set_states():
    """A step from the same state slides another way than the one before."""
    vector = fastpg.make_vec("FrozenLake-v1", 64)
    vector.reset(seed=0)
    start, seen = vector.states, set()
    for _ in range(20):
        vector.step(np.full(64, 2))
        seen.add(np.concatenate(vector.states).tobytes())
        vector.set_states(start)
    assert len(seen) == 20


def test_observations_after_set_states_are_of_those_states():
    vector = fastpg.make_vec("CartPole-v1", 2)
    vector.reset(seed=0)
    vector.set_states(State(0.01, 0.02, 0.03, 0.04))
    observations, _ = vector.reset(options={"reset_mask": np.array([True, False])})
    np.testing.assert_array_equal(observations[1], np.float32([0.01, 0.02, 0.03, 0.04]))


# --- pictures ---


def twin_picture(env, state):
    twin = env.gymnasium_twin(render_mode="rgb_array")
    twin.reset(seed=0)
    twin.unwrapped.state = np.array(state)
    picture = twin.render()
    twin.close()
    return picture


@pytest.mark.parametrize(
    "id", [id for id, spec in fastpg.registry.items() if hasattr(spec.environment_class(), "render_state")]
)
def test_everything_gymnasium_draws_is_drawn(id, monkeypatch):
    """A picture of each state, by Gymnasium's renderer; another state makes another one."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = fastpg.Env(fastpg.make(id), render_mode="rgb_array")
    pictures = []
    env.action_space.seed(0)
    for seed in range(12):
        env.reset(seed=seed)
        for _ in range(3):
            if env.step(env.action_space.sample())[2]:
                break
        pictures.append(env.render())
    env.close()
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 for picture in pictures)
    assert any(not np.array_equal(pictures[0], picture) for picture in pictures[1:])


def test_pictures_are_gymnasiums_of_the_same_state(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = CartPole()
    states = State(*np.array([(1.0, 0.0, 0.15, 0.0), (-2.0, 1.0, -0.1, 0.0), (0.0, 0.0, 0.0, 0.0)]).T)
    vector = fastpg.VectorEnv(env, 3, render_mode="rgb_array")
    vector.reset(seed=0)
    vector.set_states(states)
    pictures = vector.render()
    vector.close()
    assert isinstance(pictures, tuple) and len(pictures) == 3
    for i, picture in enumerate(pictures):
        assert picture.dtype == np.uint8 and picture.shape == (400, 600, 3)
        np.testing.assert_array_equal(picture, twin_picture(env, [column[i] for column in states]))
    assert (pictures[0] != pictures[1]).any() and (pictures[1] != pictures[2]).any()

    one = gymnasium.make("fastpg:fastpg/CartPole-v1", render_mode="rgb_array")
    one.reset(seed=3)
    for _ in range(6):
        one.step(1)
    np.testing.assert_array_equal(one.render(), twin_picture(env, one.unwrapped.state))
    one.close()


def test_every_environment_that_gymnasium_draws_is_drawn(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    drawn = []
    for name in BUILT_IN:
        env = fastpg.make(name)
        if hasattr(env, "gymnasium_id") and "rgb_array" in fastpg.Env(env).metadata["render_modes"]:
            one = fastpg.Env(env, render_mode="rgb_array")
            one.reset(seed=0)
            picture = one.render()
            one.close()
            assert picture.dtype == np.uint8 and picture.ndim == 3 and len(np.unique(picture)) > 1
            drawn.append(name)
        else:
            assert not hasattr(env, "gymnasium_id"), name
    assert "CartPole-v1" in drawn


def test_gymnasium_collects_and_records_pictures(monkeypatch, tmp_path):
    """As of its own environments: "rgb_array_list", and the wrapper that writes a film an episode."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    collected = gymnasium.make("fastpg:fastpg/CartPole-v1", render_mode="rgb_array_list")
    film = gymnasium.make("fastpg:fastpg/CartPole-v1", render_mode="rgb_array", max_episode_steps=5)
    film = RecordVideo(
        film, str(tmp_path / "films"), episode_trigger=lambda episode: True, disable_logger=True
    )
    for env in (collected, film):
        env.reset(seed=0)
        for _ in range(5):
            env.step(0)
    assert [picture.shape for picture in collected.render()] == [(400, 600, 3)] * 6
    collected.close()
    film.close()
    assert [path.suffix for path in (tmp_path / "films").glob("*.mp4")] == [".mp4"]


def test_rendering_without_a_mode_warns():
    for env in (fastpg.make_vec("CartPole-v1", 2), fastpg.Env(CartPole())):
        env.reset(seed=0)
        with pytest.warns(UserWarning, match="render_mode"):
            assert env.render() is None


# --- bad input ---


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"num_envs": 0}, ValueError, "num_envs=0"),
        ({"num_envs": 2.5}, TypeError, "num_envs=2.5"),
        ({"num_envs": True}, TypeError, "num_envs=True"),
        ({"num_envs": 2**31 + 1}, ValueError, "num_envs"),
        ({"autoreset_mode": "Sometimes"}, ValueError, "autoreset_mode='Sometimes'.*NextStep"),
        ({"max_episode_steps": 0}, ValueError, "max_episode_steps=0"),
        ({"threads": 0}, ValueError, "threads=0"),
        ({"threads": 10**6}, ValueError, "threads=1000000"),
        ({"render_mode": "human"}, ValueError, "render_mode='human'.*rgb_array"),
        ({"gravitas": 1.0}, TypeError, "gravitas.*did you mean gravity"),
        ({"gravity": np.nan}, ValueError, "gravity=nan"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        fastpg.make_vec("CartPole-v1", **arguments)


def test_bad_environments_are_refused():
    with pytest.raises(TypeError, match="not a name"):
        fastpg.VectorEnv("CartPole-v1")
    with pytest.raises(ValueError, match="no such environment"):
        fastpg.make_vec("CartPole-v7")
    with pytest.raises(ValueError, match="render_mode='rgb_array'.*Drift"):
        fastpg.Env(Drift(), render_mode="rgb_array")


@pytest.mark.parametrize(
    "seed, error",
    [(-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("abc", TypeError), ([1, 2], ValueError)],
)
def test_bad_seeds_are_refused(seed, error):
    vector = fastpg.make_vec("CartPole-v1", 3)
    with pytest.raises(error, match="seed"):
        vector.reset(seed=seed)
    with pytest.raises((error, gymnasium.error.Error), match="(?i)seed"):
        fastpg.Env(CartPole()).reset(seed=seed)


OUTSIDE = {
    "too large": [0, 2, 1],
    "negative": [0, -1, 1],
    "floats": [0.0, 1.0, 1.0],
    "booleans": [True, False, True],
    "too few": [0, 1],
    "too many": [0, 1, 0, 1],
    "a matrix": [[0], [1], [1]],
    "a number": 1,
    "nothing": None,
}


@pytest.mark.parametrize("actions", OUTSIDE.values(), ids=OUTSIDE)
def test_actions_outside_the_space_are_refused(actions):
    """With an AssertionError, as Gymnasium's environments do, and nothing has moved."""
    vector = fastpg.make_vec("CartPole-v1", 3)
    vector.reset(seed=0)
    before = vector.states
    with pytest.raises(AssertionError, match="invalid"):
        vector.step(actions)
    assert_identical(vector.states, before)


@pytest.mark.parametrize("action", [2, -1, 1.0, None, [0]])
def test_single_actions_outside_the_space_are_refused_as_by_gymnasium(action):
    for env in (fastpg.Env(CartPole()), CartPole().gymnasium_twin().unwrapped):
        env.reset(seed=0)
        with pytest.raises(AssertionError, match="invalid"):
            env.step(action)


def test_actions_of_other_spaces():
    """Continuous ones are clipped by the environment and only their shape is checked; -1 begins Ring's."""
    vector = fastpg.VectorEnv(Drift(wind=0.0), 2)
    vector.reset(seed=0)
    before = vector.states
    vector.step([[5.0, 0], [0, -9.0]])
    np.testing.assert_allclose(vector.states.x - before.x, [0.3, 0.0], atol=1e-15)
    np.testing.assert_allclose(vector.states.y - before.y, [0.0, -0.3], atol=1e-15)
    for bad in ([0.5, 0.5], [[0.5], [0.5]], [["a", "b"]] * 2, [[0.5, 0.5]] * 3):
        with pytest.raises(AssertionError, match="invalid"):
            vector.step(bad)
    ring = fastpg.VectorEnv(Ring(), 2)
    ring.reset(seed=0)
    assert ring.step([-1, 1])[1].tolist() == [-1.0, 1.0]
    for bad in ([2, 0], np.full(2, 2**64 - 1, np.uint64), [[0], [1, 1]]):
        ring.reset()
        with pytest.raises(AssertionError, match="invalid"):
            ring.step(bad)


def test_a_single_action_is_named_as_it_was_given():
    env = fastpg.Env(Drift())
    env.reset(seed=0)
    for bad in (0.5, [0.5], [np.nan, 0.0], ["a", "b"]):
        with pytest.raises(AssertionError, match=r"invalid: must be finite numbers of shape \(2,\)"):
            env.step(bad)
    pole = fastpg.Env(CartPole())
    pole.reset(seed=0)
    pole.step(True)  # in Gymnasium's Discrete(2), too


BAD_MASKS = {
    "a list": ([True, False, True], TypeError),
    "None": (None, TypeError),
    "integers": (np.array([1, 0, 1]), TypeError),
    "too short": (np.array([True]), ValueError),
    "too long": (np.array([True] * 4), ValueError),
    "a matrix": (np.array([[True, True, True]]), ValueError),
    "false everywhere": (np.zeros(3, bool), ValueError),
}


@pytest.mark.parametrize("mask, error", BAD_MASKS.values(), ids=BAD_MASKS)
def test_bad_masks_are_refused_as_by_gymnasium(mask, error):
    for vector, errors in (
        (fastpg.make_vec("CartPole-v1", 3, autoreset_mode="Disabled"), error),
        (sync(CartPole(), 3, DISABLED), (error, AssertionError)),  # the latter in Gymnasium 1.3
    ):
        vector.reset(seed=0)
        with pytest.raises(errors, match="reset_mask"):
            vector.reset(options={"reset_mask": mask})


def test_the_first_reset_is_of_all_environments():
    vector = fastpg.make_vec("CartPole-v1", 3, autoreset_mode="Disabled")
    with pytest.raises(ValueError, match="reset_mask"):
        vector.reset(options={"reset_mask": np.array([True, True, False])})
    vector.reset(options={"reset_mask": np.array([True, True, True])})
    assert vector.step([0, 1, 0])[1].tolist() == [1.0] * 3


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_a_step_needs_a_reset(mode):
    vector = fastpg.make_vec("CartPole-v1", 2, autoreset_mode=mode)
    assert len(vector.np_random_seed) == 2  # draws one, resets nothing
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        vector.step([0, 0])
    with pytest.raises(gymnasium.error.ResetNeeded):
        gymnasium.make("fastpg:fastpg/CartPole-v1").step(0)


def test_disabled_autoreset_refuses_to_step_what_is_over():
    vector = fastpg.make_vec("CartPole-v1", 2, autoreset_mode="Disabled", max_episode_steps=1)
    vector.reset(seed=0)
    over = vector.step([0, 0])[3]
    with pytest.raises(AssertionError, match="reset_mask"):
        vector.step([0, 0])
    vector.reset(options={"reset_mask": over})
    vector.step([0, 0])


def test_bad_states_are_refused():
    vector = fastpg.VectorEnv(Drift(), 3)
    vector.reset(seed=0)
    good = vector.states
    for bad, message in (
        (good[:3], "states"),
        (good._replace(x=np.zeros(2)), r"states: array 0 has shape \(2,\)"),
        (good._replace(gusts=np.array([0.5, 1.0, 2.0])), "states: array 2 is float64, must be int"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            vector.set_states(bad)
        assert_identical(vector.states, good)
