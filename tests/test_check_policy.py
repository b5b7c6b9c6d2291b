"""check_policy: every policy of fastpg and a user's own pass, and the usual mistakes are named."""

import math
from typing import NamedTuple

import numba
import numpy as np
import pytest

import fastpg
from fastpg import vectors
from fastpg.random import normal, uniform
from fastpg.simd import exp

compiled = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")
FEW = {"n_observations": 5, "n_samples": 300 if numba.config.DISABLE_JIT else 800}


class Logistic(NamedTuple):
    """Push right with a probability that grows with the angle and the speed of CartPole's pole."""

    slope: float = 10.0

    n_parameters = 2

    def initial(self):
        return np.zeros(2)

    def right(self, theta, observation):
        return 1.0 / (1.0 + exp(-self.slope * (theta[0] * observation[2] + theta[1] * observation[3])))

    def sample(self, theta, observation, rng):
        return 1 if uniform(rng, 0) < self.right(theta, observation) else 0

    def log_prob(self, theta, observation, action):
        right = self.right(theta, observation)
        return math.log(right if action == 1 else 1.0 - right)

    def score(self, theta, observation, action):
        error = self.slope * (action - self.right(theta, observation))
        return error * observation[2], error * observation[3]


class EpsilonSoftmax(NamedTuple):
    """A linear softmax that explores: π(a) = (1 − ε) p(a) + ε / A, with ∇ log π = (1 − ε) ∇p(a) / π(a)."""

    n_observations: int
    n_actions: int
    epsilon: float = 0.1

    @property
    def n_parameters(self):
        return self.n_actions * (self.n_observations + 1)

    def initial(self):
        return np.zeros(self.n_parameters)

    def softmax(self, theta, observation):
        return vectors.softmax(vectors.affine(theta, observation))

    def probabilities(self, theta, observation):
        probabilities = self.softmax(theta, observation)
        return vectors.scale(probabilities, 1.0 - self.epsilon, self.epsilon / self.n_actions)

    def sample(self, theta, observation, rng):
        return fastpg.random.categorical(rng, 0, self.probabilities(theta, observation))

    def score(self, theta, observation, action):
        p = self.softmax(theta, observation)
        factor = (1.0 - self.epsilon) * p[action] / self.probabilities(theta, observation)[action]
        error = vectors.scale(vectors.indicator_minus(action, p), factor, 0.0)
        return vectors.outer_with_bias(error, observation)


class Laplace(NamedTuple):
    """A continuous policy that is not Gaussian: a = θ₀ + θ₁ x + Laplace(1), by inversion."""

    n_observations: int = 3

    n_parameters = 2

    def initial(self):
        return np.zeros(2)

    def sample(self, theta, observation, rng):
        u = uniform(rng, 0) - 0.5
        size = -fastpg.simd.log(1.0 - 2.0 * abs(u))
        return (theta[0] + theta[1] * observation[0] + (size if u > 0.0 else -size),)

    def log_prob(self, theta, observation, action):
        return -abs(action[0] - theta[0] - theta[1] * observation[0]) - math.log(2.0)

    def score(self, theta, observation, action):
        sign = 1.0 if action[0] > theta[0] + theta[1] * observation[0] else -1.0
        return sign, sign * observation[0]


OWN = ["Bandit-v0", "Blackjack-v1", "CartPole-v1", "FrozenLake-v1", "Pendulum-v1", "Taxi-v4"]


@pytest.mark.parametrize("id", OWN)
def test_policies_of_fastpg_are_correct(id):
    env = fastpg.make(id)
    report = fastpg.check_policy(fastpg.policy_for(env), env, **FEW)
    assert report.errors == report.warnings == []
    assert report.verified["score = central differences of log_prob"]
    fastpg.check_policy(fastpg.policy_for(env), **FEW)  # observations from its sizes


@pytest.mark.parametrize(
    "log_std", [-0.5, "learned", "state-dependent"] if not numba.config.DISABLE_JIT else ["state-dependent"]
)
def test_gaussian_policies_of_several_actions_are_correct(log_std):
    env = fastpg.make("LinearQuadratic-v0", B=np.eye(2), R=np.eye(2))
    policy = fastpg.GaussianLinear.for_env(env, log_std)
    report = fastpg.check_policy(policy, env, **FEW)
    assert report.draws == {"sample": [0, 1, 16384, 16385]}


def test_observations_may_be_far_from_zero():
    """θ and the differences are scaled, or probabilities were 0 and differences crude."""
    env = fastpg.make("LinearQuadratic-v0", start_covariance=1e8 * np.eye(2))
    assert fastpg.check_policy(fastpg.GaussianLinear.for_env(env, "state-dependent"), env, **FEW).errors == []


@pytest.mark.parametrize("policy", [Logistic(), EpsilonSoftmax(4, 2)])
def test_a_policy_of_ones_own_is_correct_and_learns(policy, env):
    report = fastpg.check_policy(policy, env, **FEW)
    assert report.errors == report.warnings == []
    assert str(report).startswith(f"{type(policy).__name__}: a correct policy\n  sample draws [0]\n")
    if not numba.config.DISABLE_JIT:
        assert report.verified["compiled = ordinary Python"] == "to 1e-09"
        run = fastpg.train(env, policy, n_updates=60, n_trajectories=300)
        assert run.history["mean_return"][-1] > 400


def test_a_density_of_ones_own_is_correct():
    assert fastpg.check_policy(Laplace(), **FEW).errors == []


class WrongSign(Logistic):
    __slots__ = ()

    def score(self, theta, observation, action):
        error = self.slope * (self.right(theta, observation) - action)
        return error * observation[2], error * observation[3]


class MissingFactor(Logistic):
    """E[score] = 0 holds; only differences show that the slope is forgotten."""

    __slots__ = ()

    def score(self, theta, observation, action):
        error = action - self.right(theta, observation)
        return error * observation[2], error * observation[3]


class MissingBias(fastpg.SoftmaxLinear):
    __slots__ = ()

    def score(self, theta, observation, action):
        whole = fastpg.SoftmaxLinear.score(self, theta, observation, action)
        return whole * (np.arange(len(whole)) % (self.n_observations + 1) < self.n_observations)


class TooFew(Logistic):
    __slots__ = ()

    def score(self, theta, observation, action):
        return ((action - self.right(theta, observation)) * observation[2],)


class NotNormalised(Logistic):
    __slots__ = ()

    def log_prob(self, theta, observation, action):
        return Logistic.log_prob(self, theta, observation, action) + 0.01


class OtherSample(Logistic):
    """Its log-probability and score fit each other, and not what it does."""

    __slots__ = ()

    def sample(self, theta, observation, rng):
        return 1 if uniform(rng, 0) > self.right(theta, observation) else 0


class Impure(Logistic):
    __slots__ = ()

    def sample(self, theta, observation, rng):
        return np.random.randint(1_000_000)


class Fractional(Logistic):
    __slots__ = ()

    def sample(self, theta, observation, rng):
        return 0.5


class Beyond(Logistic):
    __slots__ = ()

    def sample(self, theta, observation, rng):
        return 2 * Logistic.sample(self, theta, observation, rng)

    def log_prob(self, theta, observation, action):
        return Logistic.log_prob(self, theta, observation, action // 2 if action == 2 else action)


class WrongMode(Logistic):
    __slots__ = ()

    def mode(self, theta, observation):
        return 0


class Misspelt(Logistic):
    __slots__ = ()

    def log_prob(self, theta, observation, action):
        return math.log(self.rihgt(theta, observation))


class Half(fastpg.SoftmaxLinear):
    """Its running score lacks the balancing row's sign."""

    __slots__ = ()

    def whole_score(self, theta, running):
        width = len(theta) - len(running)
        return np.concatenate([running, np.asarray(running)[:width]])


class Twice(fastpg.SoftmaxTabular):
    """What is recorded of the score is not the score."""

    __slots__ = ()

    def factor(self, theta, observation, action):
        return vectors.scale(fastpg.SoftmaxTabular.factor(self, theta, observation, action), 2.0, 0.0)

    def score(self, theta, observation, action):
        return fastpg.SoftmaxTabular(*self).score(theta, observation, action)


class Stray(fastpg.SoftmaxTabular):
    __slots__ = ()

    def spread(self, array, observation, factor, weight):
        start, width = fastpg.SoftmaxTabular.spread(self, array, observation, factor, weight)
        return start, width - 1


class Unequal(fastpg.SoftmaxTabular):
    """The section is longer in the second half of the states."""

    __slots__ = ()

    def spread(self, array, observation, factor, weight):
        start, width = fastpg.SoftmaxTabular.spread(self, array, observation, factor, weight)
        return (start, width) if observation < 8 else (start - width, 2 * width)


class CertainSign(fastpg.SoftmaxLinear):
    __slots__ = ()

    def entropy(self, theta, observation):
        return -fastpg.SoftmaxLinear.entropy(self, theta, observation)


class SteepEntropy(Logistic):
    """Its gradient of the entropy has nothing to do with it."""

    def entropy(self, theta, observation):
        p = self.right(theta, observation)
        return -(p * math.log(p) + (1 - p) * math.log(1 - p))

    def entropy_score(self, theta, observation):
        return 7.0, 8.0


class Narrow(fastpg.GaussianLinear):
    __slots__ = ()

    def entropy(self, theta, observation):
        return fastpg.GaussianLinear.entropy(self, theta, observation) - 0.5


class Wider(Laplace):
    """It samples with twice the scale; the score of the mean has expectation zero all the same."""

    __slots__ = ()

    def sample(self, theta, observation, rng):
        mean = theta[0] + theta[1] * observation[0]
        (action,) = Laplace.sample(self, theta, observation, rng)
        return (mean + 2.0 * (action - mean),)


class Unscaled(Laplace):
    __slots__ = ()

    def log_prob(self, theta, observation, action):
        return -abs(action[0] - theta[0] - theta[1] * observation[0])


class Shifted(Laplace):
    __slots__ = ()

    def sample(self, theta, observation, rng):
        (action,) = Laplace.sample(self, theta, observation, rng)
        return (action + 0.5,)


class Constant(Laplace):
    __slots__ = ()

    def sample(self, theta, observation, rng):
        return (0.25,)


class UnnormalisedPair(fastpg.GaussianLinear):
    """A density of two numbers that lacks a constant: for importance sampling to find."""

    __slots__ = ()

    def log_prob(self, theta, observation, action):
        return fastpg.GaussianLinear.log_prob(self, theta, observation, action) + 0.3


class ConstantLength(Logistic):
    __slots__ = ()

    n_parameters = 2.0


class LongStart(Logistic):
    __slots__ = ()

    def initial(self):
        return np.zeros(3)


MISTAKES = {
    "the wrong sign": (WrongSign(), "CartPole-v1", r"score is not the gradient.*component [01] is (-?)"),
    "a forgotten factor": (MissingFactor(), "CartPole-v1", "score is not the gradient of log_prob"),
    "no bias in the score": (MissingBias(4, 2), "CartPole-v1", "component 4 is 0, central differences give"),
    "a short score": (TooFew(), "CartPole-v1", r"must be a tuple of 2 \(n_parameters\) finite numbers"),
    "probabilities above 1": (NotNormalised(), "CartPole-v1", r"probabilities.*sum to 1\.01"),
    "another sample": (OtherSample(), "CartPole-v1", "sample does not follow log_prob: action 0"),
    "NumPy's random numbers": (Impure(), None, "sample gives another action with the same random numbers"),
    "half an action": (Fractional(), None, "sample returns 0.5, must be an integer"),
    "an action there is not": (Beyond(), None, r"must be one of \[0, 1\]"),
    "an action beyond the space": (
        Beyond(),
        "CartPole-v1",
        r"returns 2, where the action_space is Discrete\(2",
    ),
    "a mode that is none": (WrongMode(), "CartPole-v1", "mode returns 0, and action 1 is more probable"),
    "a name misspelt": (Misspelt(), "CartPole-v1", "in ordinary Python: AttributeError.*rihgt"),
    "a row of the wrong sign": (Half(4, 2), "CartPole-v1", "running_score and whole_score do not give score"),
    "a factor twice": (Twice((16,), (0.0,) * 4), "FrozenLake-v1", "factor and spread do not give score"),
    "a section too short": (Stray((16,), (0.0,) * 4), "FrozenLake-v1", "spread adds outside the section"),
    "sections of two lengths": (
        Unequal((16,), (0.0,) * 4),
        "FrozenLake-v1",
        r"sections of lengths \[4, 8\], must be of one",
    ),
    "an entropy of the wrong sign": (CertainSign(4, 2), "CartPole-v1", r"entropy is -.*, not -E\[log π\] = "),
    "another entropy's gradient": (
        SteepEntropy(),
        "CartPole-v1",
        "gradient of entropy has component 0 7,",
    ),
    "half a nat too little": (Narrow(2, (0.0,)), None, r"entropy is .*, not -E\[log π\] = "),
    "a wider sample": (Wider(), "Pendulum-v1", r"sample does not follow log_prob in E\["),
    "a density that is none": (Unscaled(), "Pendulum-v1", r"integrates to 2\b"),
    "a sample aside": (Shifted(), "Pendulum-v1", r"E\[score\] is not 0: component 0"),
    "always the same": (Constant(), "Pendulum-v1", "sample returns .* every time"),
    "a pair without its constant": (UnnormalisedPair(2, (0.0, 0.0)), None, "log_prob does not normalise: "),
    "a float for a length": (ConstantLength(), "CartPole-v1", "n_parameters=2.0: must be a positive integer"),
    "a start too long": (LongStart(), "CartPole-v1", r"initial: theta: has shape \(3,\), must have \(2,\)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    policy, id, message = MISTAKES[mistake]
    env = None if id is None else fastpg.make(id)
    if env is None and isinstance(policy, Logistic):
        cls = type(policy)
        policy = type(cls.__name__, (cls,), {"__slots__": (), "n_observations": 4, "n_actions": 2})()
    with pytest.raises(TypeError, match=message) as caught:
        fastpg.check_policy(policy, env)
    assert str(caught.value).startswith(f"policy: {type(policy).__name__}: not a policy fastpg can trust\n")


class Uncompilable(Logistic):
    __slots__ = ()

    def score(self, theta, observation, action):
        scores = {a: Logistic.score(self, theta, observation, a) for a in (0, 1)}
        return scores[action]


class Overflowing(Logistic):
    """Integers have 64 bits in compiled code, and any number in Python."""

    __slots__ = ()

    def score(self, theta, observation, action):
        big = (action + 3) * 2**62
        error = self.slope * (action - self.right(theta, observation)) * (1.0 if big > 0 else -1.0)
        return error * observation[2], error * observation[3]


class OverflowingSample(Logistic):
    __slots__ = ()

    def sample(self, theta, observation, rng):
        big = (int(4.0 * uniform(rng, 1)) + 3) * 2**62
        draw = uniform(rng, 0)
        return 1 if (draw if big > 0 else 1.0 - draw) < self.right(theta, observation) else 0


@compiled
def test_mistakes_that_only_compiled_code_shows(env):
    with pytest.raises(
        TypeError, match="Uncompilable: not a policy.*\n(.*\n)*  error: cannot be compiled: .+"
    ):
        fastpg.check_policy(Uncompilable(), env)
    with pytest.raises(TypeError, match="the score compiled is not score in ordinary Python: component"):
        fastpg.check_policy(Overflowing(), env)
    with pytest.raises(TypeError, match="sample compiled is not sample in ordinary Python: [01], not [01]"):
        fastpg.check_policy(OverflowingSample(), env)


class Bare(NamedTuple):
    n_parameters: int = 2


class OneForm(fastpg.SoftmaxLinear):
    __slots__ = ()

    whole_score = property()  # not there


def test_what_is_missing_is_named(env):
    with pytest.raises(TypeError, match=r"lacks sample, score\n.*lacks log_prob \(or probabilities\)"):
        fastpg.check_policy(Bare())
    with pytest.raises(TypeError, match="only one of running_score and whole_score"):
        fastpg.check_policy(OneForm(4, 2))


class NormalTwice(Laplace):
    """Correct but for a number that is drawn twice, and without a start."""

    __slots__ = ()

    initial = property()  # not there

    def sample(self, theta, observation, rng):
        a = normal(rng, 0)
        return (theta[0] + theta[1] * observation[0] + 0.5 * (a + normal(rng, 0)),)

    def log_prob(self, theta, observation, action):
        return -0.5 * (action[0] - theta[0] - theta[1] * observation[0]) ** 2 - 0.5 * math.log(2 * math.pi)

    def score(self, theta, observation, action):
        error = action[0] - theta[0] - theta[1] * observation[0]
        return error, error * observation[0]


def test_what_is_unusual_is_warned_of():
    report = fastpg.check_policy(NormalTwice(), **FEW)
    assert "sample uses draw 0 twice" in "\n".join(report.warnings)
    assert "lacks initial" in report.warnings[0]


def test_bad_arguments(env, policy):
    with pytest.raises(TypeError, match="must be an instance of a typing.NamedTuple class"):
        fastpg.check_policy(fastpg.SoftmaxLinear, env)
    with pytest.raises(TypeError, match="not a name"):
        fastpg.check_policy(policy, "CartPole-v1")
    with pytest.raises(ValueError, match="env=None: must be given, for Logistic has neither"):
        fastpg.check_policy(Logistic())
    with pytest.raises(ValueError, match="is for other actions than the environment's"):
        fastpg.check_policy(policy, fastpg.make("Acrobot-v1"))
    with pytest.raises(ValueError, match="n_observations=0"):
        fastpg.check_policy(policy, env, n_observations=0)
    with pytest.raises(ValueError, match="n_samples=99"):
        fastpg.check_policy(policy, env, n_samples=99)
