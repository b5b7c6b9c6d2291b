"""What the recursions of `test_exact_answers` do not tell, against the integral over all trajectories.

An entropy bonus and importance weights over the 3,456 trajectories of two states and three steps; Gaussian
policies by Gauss-Hermite quadrature over two steps of a linear system. Each component of the mean is within 4
standard errors of the exact one, and variances in their intervals, as there.
"""

from typing import NamedTuple

import numba
import numpy as np
import pytest
from fastpg.envs import LinearQuadratic
from test_exact import paths
from test_exact_answers import GAMMA, N, assert_variances, case_of, in_parts

from fastpg import GPOMDP, REINFORCE, GaussianLinear, RewardToGo
from fastpg.features import Polynomial, RadialBasis

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="needs compiled kernels")


class Steps(NamedTuple):
    """Trajectories step by step: arrays of numbers, or of vectors with the components last; T of each."""

    scores: list
    rewards: list
    entropies: list
    entropy_slopes: list


def term(estimator, steps):
    """Return Σ_t g_t (what the estimator credits a_t with) and the direct derivative of the bonus."""
    gamma, beta, T = estimator.discount, estimator.entropy, len(steps.scores)
    x = 0.0
    for t in range(T):
        since = 0 if isinstance(estimator, REINFORCE) else t
        credit = sum(gamma**k * steps.rewards[k] for k in range(since, T))
        # H_t does not depend on a_t: only REINFORCE, which multiplies with all there is, has it here.
        later = since if isinstance(estimator, REINFORCE) else t + 1
        credit = credit + beta * sum((gamma**k * steps.entropies[k] for k in range(later, T)), 0.0)
        scale = gamma**-t if isinstance(estimator, RewardToGo) else 1.0
        direct = beta * gamma**t * steps.entropy_slopes[t]
        x = x + scale * (np.asarray(credit)[..., np.newaxis] * steps.scores[t] + direct)
    return x


def assert_exact(gradients, variances, probability, x):
    """Means and variances of parts of a batch are those of x, shape (outcomes, P)."""
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-12)
    mean = probability @ x
    variance = probability @ (x - mean) ** 2
    assert (np.abs(gradients.mean(axis=0) - mean) <= 4 * np.sqrt(variance / N)).all()
    assert_variances(variances, variance)


# --- enumeration ---


def enumerated(policy, estimator, behavior=None):
    """Probability of every trajectory under the behaviour policy, and its weighted term."""
    case = case_of(policy, "2 states")
    asked, T = case.at_states(case.policy), case.mdp.horizon
    entropies, slopes = [], []
    for state in range(case.mdp.n_states):
        p = asked.probabilities(case.theta, state)
        scores = np.array([asked.score(case.theta, state, a) for a in range(len(p))])
        entropies.append(-p @ np.log(p))
        slopes.append(-(p * np.log(p)) @ scores)
    own = list(paths(case.mdp, asked, case.theta, T))
    terms = [
        term(
            estimator,
            Steps(path.scores, path.rewards, *([of[s] for s in path.states] for of in (entropies, slopes))),
        )
        for path in own
    ]
    probability, x = np.array([path.probability for path in own]), np.array(terms)
    if behavior is None:
        return probability, x
    others = np.array([path.probability for path in paths(case.mdp, asked, behavior, T)])
    return others, (probability / others)[:, np.newaxis] * x


KINDS = GPOMDP, RewardToGo, REINFORCE


@pytest.mark.parametrize("policy", ["tabular", "linear", "few features", "features"])
@pytest.mark.parametrize("kind", KINDS)
def test_entropy_bonus(policy, kind):
    case, estimator = case_of(policy, "2 states"), kind(discount=GAMMA, entropy=0.4)
    gradients, variances, _ = in_parts(case.env, case.policy, case.theta, estimator)
    assert_exact(gradients, variances, *enumerated(policy, estimator))


@pytest.mark.parametrize(
    ("policy", "kind", "entropy"),
    [
        ("tabular", GPOMDP, 0.0),
        ("tabular", REINFORCE, 0.4),
        ("linear", GPOMDP, 0.4),
        ("linear", RewardToGo, 0.0),
        ("features", GPOMDP, 0.0),
    ],
)
def test_importance_weights(policy, kind, entropy):
    """With and without an entropy bonus, which is that of θ and not of the behaviour policy."""
    case, estimator = case_of(policy, "2 states"), kind(discount=GAMMA, entropy=entropy)
    behavior = case.theta + 0.3 * np.random.default_rng(9).normal(size=len(case.theta))
    gradients, variances, _ = in_parts(case.env, case.policy, case.theta, estimator, behavior=behavior)
    assert_exact(gradients, variances, *enumerated(policy, estimator, behavior))


# --- quadrature ---

SYSTEM = LinearQuadratic.from_matrices(
    [[0.9]], [[0.5]], [[1.0]], [[0.2]], noise=0.05, start_mean=[0.4], start_covariance=0.3, horizon=2
)
GAUSSIAN = {
    "state-dependent": {"log_std": "state-dependent"},
    "features": {"log_std": "learned", "features": Polynomial(2, low=-6.0, high=6.0)},
    "features, state-dependent": {"log_std": "state-dependent", "features": Polynomial(2, -6.0, 6.0)},
    "radial": {"log_std": -0.4, "features": RadialBasis(4, low=-6.0, high=6.0)},
    "radial, state-dependent": {
        "log_std": "state-dependent",
        "features": RadialBasis(3, normalised=True, low=-6.0, high=6.0),
    },
}


def horizon_of(policy):
    """With log σ linear in the state itself, a second step's would be doubly exponential, without moments."""
    return 1 if policy == "state-dependent" else 2


def integrated(policy, theta, estimator, horizon, n=24):
    """Weight of each outcome of (start, action, noise, action), and its term."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    z = np.stack(np.meshgrid(*[nodes] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    w = np.stack(np.meshgrid(*[weights / weights.sum()] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    x = SYSTEM.start_mean[0] + SYSTEM.start_root[0, 0] * z[:, :1]
    steps = Steps([], [], [0.0] * 2, [0.0] * 2)
    for action_noise, noise in ((z[:, 1:2], z[:, 2:3]), (z[:, 3:4], 0.0))[:horizon]:
        u = policy.mean(theta, x) + np.exp(policy.log_std_at(theta, x)) * action_noise
        steps.scores.append(policy.score(theta, x, u))
        steps.rewards.append(-(SYSTEM.Q[0, 0] * x**2 + SYSTEM.R[0, 0] * u**2)[:, 0])
        x = SYSTEM.A[0, 0] * x + SYSTEM.B[0, 0] * u + SYSTEM.noise_root[0, 0] * noise
    return w.prod(axis=1), term(estimator, steps)


@pytest.mark.parametrize("policy", GAUSSIAN)
@pytest.mark.parametrize("kind", [GPOMDP, REINFORCE])
def test_gaussian_policies(policy, kind):
    made, estimator = GaussianLinear.for_env(SYSTEM, **GAUSSIAN[policy]), kind(discount=GAMMA)
    theta = 0.3 * np.random.default_rng(6).normal(size=made.n_parameters)
    env = SYSTEM._replace(horizon=horizon_of(policy))
    gradients, variances, _ = in_parts(env, made, theta, estimator)
    assert_exact(gradients, variances, *integrated(made, theta, estimator, env.horizon))


def test_quadrature_has_converged():
    """Fewer nodes tell the same mean, to a hundredth of an error, and second moments to 1e-3."""
    for policy, asked in GAUSSIAN.items():
        made, estimator = GaussianLinear.for_env(SYSTEM, **asked), GPOMDP(GAMMA)
        theta = 0.3 * np.random.default_rng(6).normal(size=made.n_parameters)
        (few, x), (many, y) = (integrated(made, theta, estimator, horizon_of(policy), n) for n in (16, 24))
        mean, second = many @ y, many @ y**2
        error = np.sqrt((second - mean**2) / N)
        assert (np.abs(few @ x - mean) < 0.01 * error).all()
        np.testing.assert_allclose(few @ x**2, second, rtol=1e-3)
