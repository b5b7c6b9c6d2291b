"""Feature maps against their published formulas; policies that are linear in them against the oracles."""

import itertools
import math
from typing import NamedTuple

import numba
import numpy as np
import oracles
import pytest
from fastpg.envs import MountainCar
from gymnasium.spaces import Box, Discrete

from fastpg import linear_forms
from fastpg.features import Constant, Fourier, Polynomial, RadialBasis, TileCoding
from fastpg.policies.gaussian_features import GaussianFeatures
from fastpg.policies.gaussian_linear import GaussianLinear
from fastpg.policies.softmax_features import SoftmaxFeatures
from fastpg.policies.softmax_linear import SoftmaxLinear
from fastpg.random import Rng
from fastpg.runs import decode, encode

COMPILED = not numba.config.DISABLE_JIT
# Products of a handful of factors of size 1, each right to some roundings (1.1e-16).
ROUNDING = 1e-13


class Spaces(NamedTuple):
    observation_space: object
    action_space: object = Discrete(3)


# Bounded, unbounded, unbounded on one side, and bounded only in Gymnasium's way of saying that it is not.
SPACE = Box(
    np.array([-2.0, -np.inf, 0.0, -3.4028235e38], np.float32),
    np.array([3.0, np.inf, np.inf, 3.4028235e38], np.float32),
)
ENV = Spaces(SPACE)
MAPS = [
    Polynomial(1),
    Polynomial((3, 0, 2, 1)),
    Fourier(1),
    Fourier((2, 3, 0, 9)),
    RadialBasis(2),
    RadialBasis((1, 4, 3, 9), width=0.3),
    RadialBasis((3, 2, 1, 17), width=0.05, normalised=True),
    TileCoding(8, 2),
    TileCoding(3, (1, 4, 2, 3)),
]
each_map = pytest.mark.parametrize("features", MAPS, ids=repr)


def observations(n=40, seed=0):
    """Some of them outside the bounds."""
    return np.random.default_rng(seed).normal(0.0, 2.0, (n, 4))


def on_unit_interval(x, low, high):
    if abs(low) < 1e38 and abs(high) < 1e38:
        return min(max((x - low) / (high - low), 0.0), 1.0)
    return 0.5 + 0.5 * x / (1.0 + abs(x))


def scaled(observation):
    return [on_unit_interval(*triple) for triple in zip(observation, SPACE.low, SPACE.high, strict=True)]


def formula(features, observation):
    """The features as the papers write them, one at a time."""
    s = scaled(observation)
    if isinstance(features, Polynomial):
        grid = itertools.product(*(range(n + 1) for n in features.degree))
        return [math.prod((2 * x - 1) ** c for x, c in zip(s, cs, strict=True)) for cs in grid]
    if isinstance(features, Fourier):
        grid = itertools.product(*(range(n + 1) for n in features.order))
        return [math.cos(math.pi * sum(x * c for x, c in zip(s, cs, strict=True))) for cs in grid]
    if isinstance(features, RadialBasis):
        grid = itertools.product(*(range(n) for n in features.centres))
        squares = [
            sum(((n - 1) * x - c) ** 2 for x, c, n in zip(s, cs, features.centres, strict=True))
            for cs in grid
        ]
        least = min(squares) if features.normalised else 0.0
        bumps = [math.exp(-(square - least) / (2 * features.width**2)) for square in squares]
        return [bump / math.fsum(bumps) for bump in bumps] if features.normalised else bumps
    values = []
    for tiling in range(features.tilings):
        shifts = [(2 * k + 1) * tiling % features.tilings / features.tilings for k in range(4)]
        tiles = [
            min(math.floor(x * n + shift), n) for x, n, shift in zip(s, features.tiles, shifts, strict=True)
        ]
        grid = itertools.product(*(range(n + 1) for n in features.tiles))
        values += [float(list(cell) == tiles) for cell in grid]
    return values


@each_map
def test_features_are_the_published_formulas(features):
    features = features.for_env(ENV)
    for observation in observations():
        expected = formula(features, observation)
        assert len(expected) == features.n_features
        np.testing.assert_allclose(features(observation), expected, rtol=0, atol=ROUNDING)


@each_map
def test_batch_axes_come_in_front(features):
    features = features.for_env(ENV)
    batch = observations(6).reshape(2, 3, 4)
    result = features(batch)
    assert result.shape == (2, 3, features.n_features)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(result[i, j], features(batch[i, j]), rtol=0, atol=ROUNDING)


@each_map
def test_weights_of_the_constant(features):
    features = features.for_env(ENV)
    if isinstance(features, RadialBasis) and not features.normalised:
        with pytest.raises(ValueError, match="must be normalised"):
            features.constant()
    else:
        np.testing.assert_allclose(features(observations()) @ features.constant(), 1.0, rtol=1e-14)


def test_own_bounds_take_the_place_of_the_space_s():
    features = Fourier(1, low=-1.0, high=(1.0, 2.0, 3.0, 4.0)).for_env(ENV)
    assert features == Fourier((1, 1, 1, 1), (-1.0,) * 4, (1.0, 2.0, 3.0, 4.0))
    s = np.array([0.25, 0.5, 0.75, 1.0])
    observation = -1.0 + s * np.array([2.0, 3.0, 4.0, 5.0])
    grid = np.array(list(itertools.product((0, 1), repeat=4)))
    np.testing.assert_allclose(features(observation), np.cos(np.pi * grid @ s), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (
            Fourier(-1),
            ValueError,
            r"features=Fourier\(order=-1.*order must be integers of at least 0, not -1",
        ),
        (Fourier(1.5), ValueError, "order must be integers"),
        (Fourier(True), ValueError, "order must be integers"),
        (Polynomial((1, 2)), ValueError, "degree must be one number or 4"),
        (RadialBasis(0), ValueError, "centres must be integers of at least 1"),
        (RadialBasis(2, width=0.0), ValueError, "width must be a positive number"),
        (RadialBasis(2, width=math.nan), ValueError, "width must be a positive number"),
        (TileCoding(0, 2), ValueError, "tilings must be integers of at least 1"),
        (TileCoding(8, 0), ValueError, "tiles must be integers of at least 1"),
        (Fourier(1, low=1.0, high=1.0), ValueError, "low must be less than high"),
        (Fourier(1, low=math.nan), ValueError, "low must be less than high"),
        (Fourier(1, low="a"), ValueError, "low must be"),
        (Fourier(1, low=(0.0, 0.0)), ValueError, "low must be one number or 4"),
        (Fourier(99), ValueError, "makes 100000000 features, at most 1048576"),
        (lambda x: x, TypeError, "must be a map of fastpg.features"),
        ("fourier", TypeError, "must be a map of fastpg.features"),
    ],
)
def test_bad_features(features, error, message):
    with pytest.raises(error, match=message):
        SoftmaxLinear.for_env(ENV, features=features)


def test_features_need_a_box():
    with pytest.raises(ValueError, match="env: "):
        SoftmaxLinear.for_env(Spaces(Discrete(3)), features=Fourier(1))
    with pytest.raises(ValueError, match="env: features need a one-dimensional Box"):
        Fourier(1).for_env(Spaces(Box(0.0, 1.0, (2, 2))))


# --- policies ---


def softmax(features, n_actions=3):
    return SoftmaxLinear.for_env(Spaces(SPACE, Discrete(n_actions, start=-1)), features=features)


def gaussian(features, **options):
    return GaussianLinear.for_env(Spaces(SPACE, Box(-1.0, 1.0, (2,))), features=features, **options)


POLICIES = [
    softmax(Polynomial(1), 2),
    softmax(Fourier((1, 2, 0, 3))),
    softmax(RadialBasis(2, normalised=True), 2),
    softmax(TileCoding(4, 2)),
    gaussian(Polynomial((2, 0, 1, 0)), log_std=-0.5),
    gaussian(Fourier((1, 2, 0, 3)), initial_log_std=0.3),
    gaussian(Fourier((1, 0, 2, 0)), log_std="state-dependent", initial_log_std=-0.2),
    gaussian(TileCoding(4, 1), log_std="state-dependent"),
    gaussian(TileCoding(4, 1)),
]
each_policy = pytest.mark.parametrize("policy", POLICIES, ids=repr)

# Compiled code for each takes seconds: products and tiles, each kind of log σ.
some_policies = pytest.mark.parametrize("policy", [POLICIES[i] for i in (1, 3, 6, 8)], ids=repr)


def theta_of(policy, seed=1):
    return policy.initial() + np.random.default_rng(seed).normal(0.0, 0.4, policy.n_parameters)


def test_for_env_says_what_the_policy_is():
    assert softmax(Fourier(1)) == SoftmaxFeatures(Fourier(1).for_env(ENV), (-1, 0, 1))
    assert gaussian(Fourier(1)) == GaussianFeatures(Fourier(1).for_env(ENV), (0.0, 0.0), Constant())
    assert isinstance(SoftmaxLinear.for_env(ENV), SoftmaxLinear)  # without features, as it was
    with pytest.raises(ValueError, match="log_std='other'"):
        gaussian(Fourier(1), log_std="other")
    with pytest.raises(ValueError, match="must be normalised"):
        gaussian(RadialBasis(2), log_std="state-dependent", initial_log_std=1.0)


@each_policy
def test_a_policy_is_hashable_and_saveable(policy):
    assert hash(policy) == hash(decode(encode(policy)))
    assert decode(encode(policy)) == policy
    assert type(decode(encode(policy))) is type(policy)


def test_initial_policies():
    assert (softmax(Fourier(1)).probabilities(np.zeros(48), observations()) == 1 / 3).all()
    for policy in POLICIES[4:]:
        np.testing.assert_allclose(policy.mean(policy.initial(), observations()), 0.0)
        log_std = policy.log_std_at(policy.initial(), observations())
        np.testing.assert_allclose(log_std, np.broadcast_to(policy.log_std, (40, 2)), rtol=1e-14)


def actions_for(policy, theta, seen, seed=2):
    return policy.sample(theta, seen, np.random.default_rng(seed))


@each_policy
def test_score_is_the_derivative_of_log_prob(policy):
    """Central differences with step h = 1e-5: truncation h² and rounding 1e-16 / h, both below 1e-8."""
    theta, h = theta_of(policy), 1e-5
    seen = observations(3)
    actions = actions_for(policy, theta, seen)
    score = policy.score(theta, seen, actions)
    for at in np.random.default_rng(3).choice(policy.n_parameters, 30):
        step = np.zeros(len(theta))
        step[at] = h
        ends = (policy.log_prob(theta + sign * step, seen, actions) for sign in (1, -1))
        np.testing.assert_allclose(score[:, at], np.subtract(*ends) / (2 * h), rtol=0, atol=1e-8)


@each_policy
def test_expected_score_is_zero(policy):
    """The exact sum over actions, or 4 standard errors over 20,000 of them."""
    theta, observation = theta_of(policy), observations(1)[0]
    if isinstance(policy, SoftmaxFeatures):
        scores = np.array([policy.score(theta, observation, action) for action in policy.actions])
        np.testing.assert_allclose(policy.probabilities(theta, observation) @ scores, 0.0, atol=ROUNDING)
    else:
        seen = np.tile(observation, (20_000, 1))
        factors = policy.factor(theta, seen, actions_for(policy, theta, seen))
        assert (abs(factors.mean(axis=0)) <= 4 * factors.std(axis=0) / math.sqrt(len(seen))).all()


@each_policy
def test_factor_and_spread_are_the_score(policy):
    theta = theta_of(policy)
    for observation in observations(3):
        action = actions_for(policy, theta, observation[np.newaxis])[0]
        found = np.zeros(policy.n_parameters)
        start, width = policy.spread(found, observation, policy.factor(theta, observation, action), 2.0)
        assert (start, width) == (0, policy.n_parameters)
        score = policy.score(theta, observation, action)
        np.testing.assert_allclose(found, 2.0 * score, rtol=0, atol=ROUNDING)


# --- compiled ---

if COMPILED:

    @numba.njit
    def compiled_actions(policy, theta, seen, rng):
        return policy.sample(theta, (seen[0], seen[1], seen[2], seen[3]), rng)

    @numba.njit(error_model="numpy")
    def compiled_logits(theta, features, seen, result, actions):
        for i in range(len(seen)):
            observation = (seen[i, 0], seen[i, 1], seen[i, 2], seen[i, 3])
            values = linear_forms.logits(theta, features, observation, actions)
            for a in range(len(actions)):
                result[i, a] = values[a]

    @numba.njit
    def compiled_score(policy, theta, seen, factors, like, score, starts):
        """The streaming sum of `spread`, and the recorded one."""
        streamed = np.zeros(len(score))
        for i in range(len(seen)):
            observation = (seen[i, 0], seen[i, 1], seen[i, 2], seen[i, 3])
            factor = like
            for k in range(len(like)):
                factor = numba.cpython.unsafe.tuple.tuple_setitem(factor, k, factors[i, k])
            policy.spread(streamed, observation, factor, 1.0)
        policy.recorded_score(
            score, starts, seen.ravel(), factors.ravel(), 0, len(seen), (0.0, 0.0, 0.0, 0.0), like
        )
        return streamed


@pytest.mark.skipif(not COMPILED, reason="compiled code")
@each_map
def test_compiled_features_are_the_python_ones(features):
    """Through logits, in a loop that calls packs; the last actions' are 0 in compiled code."""
    features, actions = features.for_env(ENV), (0, 1, 2)
    theta = np.random.default_rng(5).normal(size=3 * features.n_features)
    seen = observations(83)
    result = np.empty((83, 3))
    compiled_logits(theta, features, seen, result, actions)
    expected = linear_forms.logits(theta, features, seen, actions)
    expected -= expected[:, 2:]
    np.testing.assert_allclose(result, expected, rtol=0, atol=ROUNDING * features.n_features)


@pytest.mark.skipif(not COMPILED, reason="compiled code")
@some_policies
def test_recorded_and_streaming_scores_agree(policy):
    """Over trajectories that fill no pack, one, a block, and more; both are the score of ordinary Python."""
    theta = theta_of(policy)
    for n in (1, 7, 8, 25, 70):
        seen = observations(n)
        actions = actions_for(policy, theta, seen)
        factors = np.ascontiguousarray(policy.factor(theta, seen, actions))
        score, starts = np.zeros(policy.n_parameters), np.empty(10_000, np.int64)
        like = (0.0,) * factors.shape[1]
        streamed = compiled_score(policy, theta, seen, factors, like, score, starts)
        expected = policy.score(theta, seen, actions).sum(axis=0)
        np.testing.assert_allclose(score, expected, rtol=0, atol=1e-11)
        np.testing.assert_allclose(streamed, expected, rtol=0, atol=1e-11)


@pytest.mark.skipif(not COMPILED, reason="compiled code")
@some_policies
def test_compiled_actions_are_the_python_ones(policy):
    theta = theta_of(policy)
    for i, observation in enumerate(observations(20)):
        rng = Rng(np.uint64(oracles.mix64(i)), np.uint64(1))
        compiled = compiled_actions(policy, theta, observation, rng)
        np.testing.assert_allclose(compiled, policy.sample(theta, observation, rng), rtol=0, atol=1e-12)


@pytest.mark.parametrize("features", [Fourier((0, 20_000)), Polynomial((20_000, 0))])
def test_features_of_too_many_functions_are_refused(features):
    """Whose tables would not fit on a thread's stack."""
    with pytest.raises(ValueError, match="products of 1 and 20001 functions, of 4096 in all"):
        features.for_env(MountainCar())
