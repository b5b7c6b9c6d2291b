"""The exact gradients, against enumeration, dense recursions, differences, each other, and one simulation."""

import math
from typing import NamedTuple

import gymnasium
import numba
import numpy as np
import pytest
from fastpg.envs import Bandit, FiniteMDP, FrozenLake, LinearQuadratic
from scipy.linalg import solve_discrete_lyapunov

import fastpg
from fastpg import GaussianLinear, SoftmaxTabular, exact

JIT = not numba.config.DISABLE_JIT
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}
BASELINES = ("none", "mean", "optimal")


class Featured(NamedTuple):
    """A softmax of linear preferences, with features of states and actions: θ is shorter than S · A."""

    features: np.ndarray  # (S, A, P)

    @property
    def n_parameters(self):
        return self.features.shape[2]

    def probabilities(self, theta, observation):
        weights = np.exp(self.features[observation] @ theta)
        return weights / weights.sum()

    def score(self, theta, observation, action):
        features = self.features[observation]
        return features[action] - self.probabilities(theta, observation) @ features

    def sample(self, theta, observation, rng):
        return rng.choice(self.features.shape[1], p=self.probabilities(theta, observation))


def random_mdp(n_states, n_actions, n_outcomes, horizon, seed):
    """Any outcome may end the episode, the same next state may occur twice."""
    rng = np.random.default_rng([seed, n_states])
    shape = n_states, n_actions, n_outcomes
    probability = rng.dirichlet(np.ones(n_outcomes), shape[:2])
    successor = rng.integers(0, n_states, shape)
    ends = rng.random(shape) < 0.15
    start = rng.dirichlet(np.ones(n_states))
    rewards = rng.normal(0.5, 1.0, shape)
    return FiniteMDP.from_outcomes(probability, successor, rewards, ends, start, horizon=horizon)


def frozen_lake():
    return FiniteMDP.from_gymnasium(gymnasium.make("FrozenLake-v1"))


def with_tabular(mdp, seed=7):
    policy = SoftmaxTabular.for_env(mdp)
    return mdp, policy, np.random.default_rng(seed).normal(0.0, 0.7, policy.n_parameters)


def with_features(mdp, p=3, seed=8):
    rng = np.random.default_rng(seed)
    policy = Featured(rng.normal(size=(mdp.n_states, mdp.n_actions, p)))
    return mdp, policy, rng.normal(size=p)


def two_states():
    return random_mdp(2, 2, 2, horizon=3, seed=1)


SMALL = {
    "tabular": with_tabular(two_states()),
    "features": with_features(two_states()),
    "without ends": with_tabular(
        FiniteMDP.from_arrays(
            [[[0.3, 0.7], [0.9, 0.1]], [[0.5, 0.5], [0.2, 0.8]]],
            [[1.0, -2.0], [0.5, 3.0]],
            [0.4, 0.6],
            horizon=3,
        )
    ),
}
LARGE = {
    "FrozenLake": with_tabular(frozen_lake()),
    "20 states, 4 actions": with_tabular(random_mdp(20, 4, 3, horizon=30, seed=2)),
    "20 states, features": with_features(random_mdp(20, 4, 3, horizon=30, seed=2), p=5),
}
small = pytest.mark.parametrize("case", SMALL)
large = pytest.mark.parametrize("case", LARGE)
each_discount = pytest.mark.parametrize("discount", [1.0, 0.8, 0.0])


# --- the slow and obvious way ---


class Path(NamedTuple):
    probability: float
    states: tuple
    scores: tuple
    rewards: tuple


def paths(mdp, policy, theta, horizon):
    """Every trajectory there can be."""

    def follow(path, state, steps):
        if steps == 0:
            yield path
            return
        pi = policy.probabilities(theta, state)
        for a in range(mdp.n_actions):
            g = policy.score(theta, state, a)
            for p, following, reward, ended in zip(*(table[state, a] for table in mdp.outcomes), strict=True):
                if p > 0:
                    longer = Path(
                        path.probability * pi[a] * p,
                        (*path.states, state),
                        (*path.scores, g),
                        (*path.rewards, reward),
                    )
                    yield from follow(longer, int(following), 0 if ended else steps - 1)

    for state, probability in enumerate(mdp.start):
        yield from follow(Path(probability, (), (), ()), state, horizon)


def rewards_to_go(path, discount):
    """ρ_t = Σ_{u≥t} γ^{u-t} r_u."""
    n = len(path.rewards)
    return [sum(discount ** (u - t) * path.rewards[u] for u in range(t, n)) for t in range(n)]


def mean(weights, terms):
    return np.tensordot(weights, np.array(terms), axes=1)


def mean_and_covariance(weights, terms):
    centre = mean(weights, terms)
    return centre, sum(w * np.outer(x - centre, x - centre) for w, x in zip(weights, terms, strict=True))


def dense_moments(mdp, policy, theta, horizon, discount):
    """E[R^j], E[s R^j], E[s sᵀ R^j] for j = 0, 1, 2: forward, a tensor for each state.

    R is shifted at the end only; every (state, action, outcome) is visited one by one.
    """
    n_states, n_actions, n_outcomes = mdp.probability.shape
    p = policy.n_parameters
    tables = mdp.outcomes
    pi = [policy.probabilities(theta, s) for s in range(n_states)]
    scores = [[policy.score(theta, s, a) for a in range(n_actions)] for s in range(n_states)]

    def empty():
        return np.zeros((3, n_states)), np.zeros((3, n_states, p)), np.zeros((3, n_states, p, p))

    alive, over = empty(), empty()
    alive[0][0] = mdp.start
    for t in range(horizon):
        following = empty()
        for s in range(n_states):
            if alive[0][0, s] == 0.0:
                continue
            for a in range(n_actions):
                g = scores[s][a]
                zeroth, first, second = (moments[:, s] for moments in alive)
                mixed = first[:, :, None] * g
                second = second + mixed + mixed.transpose(0, 2, 1) + zeroth[:, None, None] * np.outer(g, g)
                first = first + zeroth[:, None] * g
                for k in range(n_outcomes):
                    chance = pi[s][a] * tables.probability[s, a, k]
                    if chance == 0.0:
                        continue
                    c = discount**t * tables.reward[s, a, k]
                    shift = chance * np.array([[1.0, 0.0, 0.0], [c, 1.0, 0.0], [c**2, 2 * c, 1.0]])
                    ends = tables.terminated[s, a, k] or t == horizon - 1
                    into = over if ends else following
                    where = tables.next_state[s, a, k]
                    for target, moments in zip(into, (zeroth, first, second), strict=True):
                        target[:, where] += np.tensordot(shift, moments, axes=1)
        alive = following
    return tuple(moments.sum(axis=1) for moments in over)


def central_differences(function, theta, h=1e-5):
    return np.array([(function(theta + e) - function(theta - e)) / (2 * h) for e in h * np.eye(len(theta))])


# --- finite processes ---


@small
@each_discount
def test_enumeration_has_the_same_moments(case, discount):
    """J, ∇J, Var R, the covariance of s R, E[s sᵀ] and E[s sᵀ R], to 1e-12."""
    mdp, policy, theta = SMALL[case]
    everything = list(paths(mdp, policy, theta, 3))
    weights = np.array([path.probability for path in everything])
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    scores = np.array([np.sum(path.scores, axis=0) for path in everything])
    returns = np.array([rewards_to_go(path, discount)[0] for path in everything])
    gradient, covariance = mean_and_covariance(weights, scores * returns[:, None])
    result = exact.policy_gradient(mdp, policy, theta, discount=discount, covariance=True)
    assert result.expected_return == pytest.approx(weights @ returns, rel=1e-12)
    assert result.return_variance == pytest.approx(weights @ returns**2 - (weights @ returns) ** 2, rel=1e-11)
    np.testing.assert_allclose(result.gradient, gradient, **ROUNDING)
    np.testing.assert_allclose(result.covariance, covariance, **ROUNDING)
    outer = scores[:, :, None] * scores[:, None, :]
    np.testing.assert_allclose(result.fisher, mean(weights, outer), **ROUNDING)
    np.testing.assert_allclose(result.fisher_return, mean(weights * returns, outer), **ROUNDING)


@small
@pytest.mark.parametrize("baseline", [*BASELINES, 0.37, "one each"])
def test_enumeration_has_the_same_covariance_with_a_baseline(case, baseline):
    """To 1e-12; the optimal baseline is E[s² R] / E[s²]."""
    mdp, policy, theta = SMALL[case]
    if baseline == "one each":
        baseline = np.linspace(-1.0, 2.0, policy.n_parameters)
    everything = list(paths(mdp, policy, theta, 3))
    weights = np.array([path.probability for path in everything])
    scores = np.array([np.sum(path.scores, axis=0) for path in everything])
    returns = np.array([sum(path.rewards) for path in everything])[:, None]
    b = {
        "none": 0.0,
        "mean": weights @ returns,
        "optimal": mean(weights, scores**2 * returns) / mean(weights, scores**2),
    }.get(baseline if isinstance(baseline, str) else "", baseline)
    _, covariance = mean_and_covariance(weights, scores * (returns - b))
    result = exact.policy_gradient(mdp, policy, theta, covariance=True)
    np.testing.assert_allclose(result.baseline_covariance(baseline), covariance, **ROUNDING)
    np.testing.assert_allclose(result.variance(baseline), np.diag(covariance), **ROUNDING)


class ByState(NamedTuple):
    """A baseline as estimators fit them."""

    values: np.ndarray  # (T, S)

    def value(self, observation, time):
        return self.values[time, observation]


STEP_BASELINES = [
    "none",
    "mean",
    "optimal",
    "time",
    "value",
    "optimal steps",
    0.37,
    "steps",
    "steps, components",
    "steps, states",
]


@small
@each_discount
@pytest.mark.parametrize("baseline", STEP_BASELINES)
@pytest.mark.parametrize("keeps", [True, False])
def test_enumeration_has_the_same_moments_of_rewards_to_go(case, discount, baseline, keeps):
    """Of GPOMDP, whose mean is the gradient, and of RewardToGo, to 1e-12."""
    mdp, policy, theta = SMALL[case]
    p = policy.n_parameters
    everything = list(paths(mdp, policy, theta, 3))
    weights = np.array([path.probability for path in everything])
    if baseline in ("steps", "steps, components", "steps, states"):
        shape = {"steps": (3,), "steps, components": (3, p), "steps, states": (3, 2)}[baseline]
        numbers = np.random.default_rng(3).normal(size=shape)
        baseline = ByState(numbers) if baseline == "steps, states" else numbers
    weight = [discount**t if keeps else 1.0 for t in range(3)]
    # x = A - Σ_t B_t β_t, each of a whole trajectory.
    A = np.array(
        [
            sum(
                w * g * rho
                for w, g, rho in zip(weight, path.scores, rewards_to_go(path, discount), strict=False)
            )
            for path in everything
        ]
    )
    B = np.array([sum(w * g for w, g in zip(weight, path.scores, strict=False)) for path in everything])

    def alive(t):
        """Of the trajectories that are not over at t: probability, state, score and reward-to-go."""
        rows = [path for path in everything if len(path.rewards) > t]
        to_go = np.array([rewards_to_go(path, discount)[t] for path in rows])
        states = np.array([path.states[t] for path in rows])
        weights = np.array([path.probability for path in rows])
        return weights, states, np.array([path.scores[t] for path in rows]), to_go

    def level(t, state):
        weights_t, states, scores, to_go = alive(t)
        if isinstance(baseline, str):
            if baseline == "none":
                return 0.0
            if baseline == "mean":
                total = sum(alive(u)[0] @ alive(u)[3] for u in range(3))
                return total / sum(alive(u)[0].sum() for u in range(3))
            if baseline == "optimal":
                return mean(weights, A * B) / mean(weights, B * B)
            if baseline == "time":
                return weights_t @ to_go / weights_t.sum()
            if baseline == "value":
                here = states == state
                return weights_t[here] @ to_go[here] / weights_t[here].sum()
            return (weights_t * to_go) @ scores**2 / (weights_t @ scores**2)
        if isinstance(baseline, ByState):
            return baseline.values[t, state]
        return baseline[t] if np.ndim(baseline) else baseline

    levels = {(t, s): level(t, s) for t in range(3) for s in range(2)}
    x = [
        a
        - sum(
            weight[t] * g * levels[t, s]
            for t, (s, g) in enumerate(zip(path.states, path.scores, strict=True))
        )
        for a, path in zip(A, everything, strict=True)
    ]
    expectation, covariance = mean_and_covariance(weights, x)
    if keeps:
        result = exact.gpomdp_covariance(mdp, policy, theta, baseline=baseline, discount=discount)
        gradient = exact.policy_gradient(mdp, policy, theta, discount=discount).gradient
    else:
        gradient, result = exact.reward_to_go_moments(
            mdp, policy, theta, baseline=baseline, discount=discount
        )
    np.testing.assert_allclose(result, covariance, **ROUNDING)
    np.testing.assert_allclose(gradient, expectation, **ROUNDING)


@small
@each_discount
@pytest.mark.parametrize("baseline", ["time", 0.37, "steps", "steps, states"])
def test_enumeration_has_the_same_covariance_of_reinforce_with_steps(case, discount, baseline):
    """Σ_t g_t (R - β_t), to 1e-12."""
    mdp, policy, theta = SMALL[case]
    everything = list(paths(mdp, policy, theta, 3))
    weights = np.array([path.probability for path in everything])
    returns = [rewards_to_go(path, discount)[0] for path in everything]
    if baseline in ("steps", "steps, states"):
        numbers = np.random.default_rng(3).normal(size=(3,) if baseline == "steps" else (3, 2))
        baseline = numbers if baseline == "steps" else ByState(numbers)

    def level(t, state):
        if isinstance(baseline, ByState):
            return baseline.values[t, state]
        if not isinstance(baseline, str):
            return baseline[t] if np.ndim(baseline) else baseline
        over = [
            (w, R) for w, R, path in zip(weights, returns, everything, strict=True) if len(path.rewards) > t
        ]
        return sum(w * R for w, R in over) / sum(w for w, _ in over)

    levels = {(t, s): level(t, s) for t in range(3) for s in range(2)}
    x = [
        sum(g * (R - levels[t, s]) for t, (s, g) in enumerate(zip(path.states, path.scores, strict=True)))
        for R, path in zip(returns, everything, strict=True)
    ]
    _, covariance = mean_and_covariance(weights, x)
    result = exact.reinforce_covariance(mdp, policy, theta, baseline=baseline, discount=discount)
    np.testing.assert_allclose(result, covariance, **ROUNDING)


@large
@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_no_constant_is_better_than_the_optimal_one_of_rewards_to_go(case, discount):
    """Of GPOMDP and RewardToGo, per component, up to rounding, and others are worse by b² E[B²]."""
    mdp, policy, theta = LARGE[case]

    def gpomdp(baseline):
        return np.diag(exact.gpomdp_covariance(mdp, policy, theta, baseline=baseline, discount=discount))

    def reward_to_go(baseline):
        return np.diag(
            exact.reward_to_go_moments(mdp, policy, theta, baseline=baseline, discount=discount)[1]
        )

    for variance in (gpomdp, reward_to_go):
        best = variance("optimal")
        slack = 1e-9 * best.max()
        for baseline in ("none", "mean", -3.0, 0.1, 5.0):
            assert (variance(baseline) >= best - slack).all()
        assert (variance(-3.0) > best + 1e-3 * best.max()).any()


def test_reinforce_with_the_same_number_in_every_step_is_that_with_a_constant():
    case = LARGE["20 states, 4 actions"]
    whole = exact.policy_gradient(*case, covariance=True, discount=0.95)
    expected = whole.baseline_covariance(0.7)
    result = exact.reinforce_covariance(*case, baseline=0.7, discount=0.95)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@large
@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_dense_recursion_has_the_same_moments(case, discount):
    """To 1e-11 of each matrix's largest element; the horizon is shortened to 12."""
    mdp, policy, theta = LARGE[case]
    zeroth, first, second = dense_moments(mdp, policy, theta, 12, discount)
    result = exact.policy_gradient(mdp, policy, theta, horizon=12, discount=discount, covariance=True)
    assert result.expected_return == pytest.approx(zeroth[1], rel=1e-12)
    assert result.return_variance == pytest.approx(zeroth[2] - zeroth[1] ** 2, rel=1e-11)
    covariance = second[2] - np.outer(first[1], first[1])
    for actual, expected in (
        (result.gradient, first[1]),
        (result.fisher, second[0]),
        (result.fisher_return, second[1]),
        (result.covariance, covariance),
    ):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@large
@pytest.mark.parametrize(("horizon", "discount"), [(None, 1.0), (None, 0.9), (1, 0.9), (math.inf, 0.9)])
def test_gradient_is_the_derivative(case, horizon, discount):
    """Central differences with h = 1e-5: truncation and rounding below 1e-8 of the largest component."""
    mdp, policy, theta = LARGE[case]

    def expected_return(theta):
        return exact.policy_gradient(mdp, policy, theta, horizon=horizon, discount=discount).expected_return

    result = exact.policy_gradient(mdp, policy, theta, horizon=horizon, discount=discount)
    scale = max(np.abs(result.gradient).max(), abs(result.expected_return))
    np.testing.assert_allclose(
        result.gradient, central_differences(expected_return, theta), rtol=0, atol=1e-8 * scale
    )


@large
def test_moments_change_nothing_else(case):
    mdp, policy, theta = LARGE[case]
    plain = exact.policy_gradient(mdp, policy, theta, discount=0.95)
    full = exact.policy_gradient(mdp, policy, theta, discount=0.95, covariance=True)
    assert plain.expected_return == full.expected_return
    np.testing.assert_allclose(plain.gradient, full.gradient, rtol=0, atol=1e-14)
    assert plain.covariance is plain.fisher is plain.fisher_return is plain.return_variance is None
    with pytest.raises(ValueError, match="covariance=True"):
        plain.variance()


@large
def test_long_horizons_tend_to_the_infinite_one(case):
    """|J_T - J| ≤ γ^T max|r| / (1 - γ); with γ = 0.9 and T = 400 nothing of it is left."""
    mdp, policy, theta = LARGE[case]
    infinite = exact.policy_gradient(mdp, policy, theta, horizon=math.inf, discount=0.9)
    for horizon in (3, 10, 40):
        finite = exact.policy_gradient(mdp, policy, theta, horizon=horizon, discount=0.9)
        bound = 0.9**horizon * np.abs(mdp.reward).max() / (1 - 0.9)
        assert abs(finite.expected_return - infinite.expected_return) <= bound
    finite = exact.policy_gradient(mdp, policy, theta, horizon=400, discount=0.9)
    assert finite.expected_return == pytest.approx(infinite.expected_return, rel=1e-12)
    np.testing.assert_allclose(finite.gradient, infinite.gradient, **ROUNDING)


def test_tabular_gradient_is_visits_times_advantages():
    """Σ_t γ^t d_t(s) π(a|s) A_t(s,a), with dense matrices of the process."""
    mdp, policy, theta = with_tabular(
        FiniteMDP.from_arrays(
            np.random.default_rng(4).dirichlet(np.ones(6), (6, 3)),
            np.random.default_rng(5).normal(size=(6, 3)),
            np.full(6, 1 / 6),
            horizon=9,
        )
    )
    pi = np.exp(theta.reshape(6, 3))
    pi /= pi.sum(axis=1, keepdims=True)
    occupancy, advantages, value = [mdp.start], [], np.zeros(6)
    for _ in range(8):
        occupancy.append(np.einsum("s,sa,sat->t", occupancy[-1], pi, mdp.transition))
    for _ in range(9):
        action_value = mdp.expected_reward + 0.8 * mdp.transition @ value
        value = (pi * action_value).sum(axis=1)
        advantages.insert(0, action_value - value[:, None])
    expected = sum(0.8**t * occupancy[t][:, None] * pi * advantages[t] for t in range(9))
    result = exact.policy_gradient(mdp, policy, theta, discount=0.8)
    np.testing.assert_allclose(result.gradient, expected.ravel(), **ROUNDING)


@large
@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_no_constant_is_better_than_the_optimal_one(case, discount):
    """Per component, up to rounding; beside it the variance is a parabola of curvature E[s²]."""
    mdp, policy, theta = LARGE[case]
    result = exact.policy_gradient(mdp, policy, theta, discount=discount, covariance=True)
    best, optimum = result.variance("optimal"), result.optimal_baseline
    for baseline in ("none", "mean", -3.0, 0.1, 5.0, optimum + 1e-3, optimum - 1e-3):
        assert (result.variance(baseline) >= best * (1 - 1e-12)).all()
    np.testing.assert_allclose(
        result.variance(optimum + 2.0), best + 4.0 * np.diag(result.fisher), rtol=1e-10, atol=1e-14
    )


@large
def test_covariances_are_symmetric_and_semidefinite(case):
    mdp, policy, theta = LARGE[case]
    result = exact.policy_gradient(mdp, policy, theta, covariance=True)
    matrices = [result.fisher, *(result.baseline_covariance(b) for b in BASELINES[:2])]
    matrices += [exact.gpomdp_covariance(mdp, policy, theta, baseline=b) for b in ("none", "time", "value")]
    for matrix in matrices:
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix)[0] >= -1e-12 * np.abs(matrix).max()


def test_reward_to_go_is_the_return_where_only_the_end_is_rewarded():
    """FrozenLake, undiscounted: with a constant baseline GPOMDP and REINFORCE are the same estimator."""
    case = LARGE["FrozenLake"]
    result = exact.policy_gradient(*case, covariance=True)
    for baseline, constant in (("none", 0.0), (0.02, 0.02)):
        np.testing.assert_allclose(
            exact.gpomdp_covariance(*case, baseline=baseline),
            result.baseline_covariance(constant),
            rtol=0,
            atol=1e-14,
        )


def test_a_baseline_per_component_may_be_the_same_for_all():
    """The two ways through gpomdp_covariance agree."""
    case = LARGE["20 states, 4 actions"]
    steps = np.random.default_rng(6).normal(size=30)
    each = np.repeat(steps[:, None], case[1].n_parameters, axis=1)
    expected = exact.gpomdp_covariance(*case, baseline=steps, discount=0.95)
    np.testing.assert_allclose(
        exact.gpomdp_covariance(*case, baseline=each, discount=0.95), expected, rtol=0, atol=1e-12
    )


def test_large_returns_alike_do_not_cancel():
    """A reward of 10⁶ more in every step of a process without ends: the same covariance about the mean.

    The mean return itself is 3 · 10⁶, its square known to 10⁻³; the moments are taken about it.
    """
    mdp, policy, theta = SMALL["without ends"]
    raised = FiniteMDP.from_outcomes(
        mdp.probability, mdp.successor >> 1, mdp.reward + 1e6, mdp.successor & 1 == 1, mdp.start, horizon=3
    )
    expected = exact.policy_gradient(mdp, policy, theta, covariance=True)
    result = exact.policy_gradient(raised, policy, theta, covariance=True)
    np.testing.assert_allclose(result.gradient, expected.gradient, rtol=0, atol=1e-8)
    np.testing.assert_allclose(result.variance("mean"), expected.variance("mean"), rtol=0, atol=1e-8)
    np.testing.assert_allclose(result.variance("optimal"), expected.variance("optimal"), rtol=0, atol=1e-8)


# --- bandits ---

ARMS = {"means": (0.3, -1.5, 2.0), "standard_deviations": (1.0, 0.0, 0.4)}


def test_bandit_is_the_enumerated_one():
    """Σ_a π_a over arms, with E[r²] = μ² + σ², to 1e-12."""
    env, policy, theta = with_tabular(Bandit.make(**ARMS))
    means, deviations = np.array(ARMS["means"]), np.array(ARMS["standard_deviations"])
    pi = np.exp(theta) / np.exp(theta).sum()
    scores = np.eye(3) - pi
    result = exact.bandit_gradient(env, policy, theta)
    assert result.expected_return == pytest.approx(pi @ means, rel=1e-14)
    assert result.return_variance == pytest.approx(pi @ (means**2 + deviations**2) - (pi @ means) ** 2)
    np.testing.assert_allclose(result.gradient, pi * (means - pi @ means), **ROUNDING)
    second = sum(
        pi[a] * (means[a] ** 2 + deviations[a] ** 2) * np.outer(scores[a], scores[a]) for a in range(3)
    )
    np.testing.assert_allclose(
        result.covariance, second - np.outer(result.gradient, result.gradient), **ROUNDING
    )
    # Natural gradient: the arms' means solve F x = ∇J.
    np.testing.assert_allclose(result.fisher @ means, result.gradient, **ROUNDING)


def test_bandit_is_the_process_with_three_outcomes_an_arm():
    """μ and μ ± √3 σ with probabilities 2/3 and 1/6 have the normal distribution's first five moments."""
    env, policy, theta = with_tabular(Bandit.make(**ARMS))
    rewards = env.means[:, None] + env.standard_deviations[:, None] * np.array([0.0, -(3**0.5), 3**0.5])
    shape = 1, 3, 3
    mdp = FiniteMDP.from_outcomes(
        np.broadcast_to([2 / 3, 1 / 6, 1 / 6], shape),
        np.zeros(shape, np.int64),
        rewards[None],
        np.ones(shape, np.bool_),
        [1.0],
        horizon=1,
    )
    result = exact.bandit_gradient(env, policy, theta)
    expected = exact.policy_gradient(mdp, policy, theta, covariance=True)
    assert result.expected_return == pytest.approx(expected.expected_return, rel=1e-14)
    assert result.return_variance == pytest.approx(expected.return_variance, rel=1e-13)
    np.testing.assert_allclose(result.gradient, expected.gradient, **ROUNDING)
    np.testing.assert_allclose(result.moments, expected.moments, **ROUNDING)


# --- linear-quadratic ---


def system(n, m, noise=0.05, start_mean=None, horizon=12):
    """A stable system with dense matrices, a policy's means for it that keep it so, and its biases."""
    rng = np.random.default_rng([n, m])
    A = rng.normal(size=(n, n))
    A *= 0.8 / np.abs(np.linalg.eigvals(A)).max()
    Q, R, start = (
        root @ root.T + 0.1 * np.eye(len(root)) for root in (rng.normal(size=(k, k)) / k for k in (n, m, n))
    )
    env = LinearQuadratic.from_matrices(
        A,
        rng.normal(size=(n, m)),
        Q,
        R,
        noise=noise,
        start_mean=rng.normal(size=n) if start_mean is None else start_mean,
        start_covariance=start,
        horizon=horizon,
    )
    return env, 0.05 * rng.normal(size=(m, n)), 0.3 * rng.normal(size=m)


def linear_case(n, m, log_std):
    env, gain, bias = system(n, m)
    policy = GaussianLinear.for_env(env, log_std=log_std)
    rows = np.column_stack([gain, bias]).ravel()
    return env, policy, np.concatenate([rows, np.linspace(-0.6, 0.2, policy.n_log_std_parameters)])


LINEAR = {
    f"{n} states, {m} actions, log_std {log_std}": linear_case(n, m, log_std)
    for n, m, log_std in ((1, 1, "learned"), (2, 3, "learned"), (4, 2, "learned"), (3, 1, -0.4))
}
linear = pytest.mark.parametrize("case", LINEAR)


def return_of_linear_maps(env, policy, theta, horizon, discount):
    """E of the return, every state and action written as a linear map of all independent draws.

    xᵀQx for x = mean + L z has the mean meanᵀQ mean + tr(LᵀQL).
    """
    n, m = len(env.A), len(env.R)
    rows = theta[: m * (n + 1)].reshape(m, n + 1)
    std = np.exp(theta[m * (n + 1) :] if policy.n_log_std_parameters else policy.log_std)
    draws = n + horizon * (n + m)
    mean, L = np.array(env.start_mean), np.zeros((n, draws))
    L[:, :n] = env.start_root
    total = 0.0
    for t in range(horizon):
        at = n + t * (n + m)
        action, U = rows[:, :n] @ mean + rows[:, n], rows[:, :n] @ L
        U[:, at : at + m] += np.diag(std)
        cost = mean @ env.Q @ mean + np.trace(L.T @ env.Q @ L)
        cost += action @ env.R @ action + np.trace(U.T @ env.R @ U)
        total -= discount**t * cost
        mean, L = env.A @ mean + env.B @ action, env.A @ L + env.B @ U
        L[:, at + m : at + m + n] += env.noise_root
    return total


@linear
@pytest.mark.parametrize("discount", [1.0, 0.9, 0.0])
def test_lqr_return_is_that_of_the_linear_maps(case, discount):
    """To 1e-12."""
    env, policy, theta = LINEAR[case]
    for horizon in (1, 2, 12):
        result = exact.lqr_gradient(env, policy, theta, horizon=horizon, discount=discount)
        expected = return_of_linear_maps(env, policy, theta, horizon, discount)
        assert result.expected_return == pytest.approx(expected, rel=1e-12)


@linear
@pytest.mark.parametrize(
    ("horizon", "discount"), [(None, 1.0), (None, 0.9), (1, 0.9), (math.inf, 0.9), (math.inf, 0.0)]
)
def test_lqr_gradient_is_the_derivative(case, horizon, discount):
    """Central differences with h = 1e-5: truncation and rounding below 1e-8 of the size of J and ∇J."""
    env, policy, theta = LINEAR[case]

    def expected_return(theta):
        return exact.lqr_gradient(env, policy, theta, horizon=horizon, discount=discount).expected_return

    result = exact.lqr_gradient(env, policy, theta, horizon=horizon, discount=discount)
    assert result.gradient.shape == theta.shape
    scale = max(np.abs(result.gradient).max(), abs(result.expected_return))
    np.testing.assert_allclose(
        result.gradient, central_differences(expected_return, theta), rtol=0, atol=1e-8 * scale
    )


@linear
def test_lqr_long_horizons_tend_to_the_infinite_one(case):
    env, policy, theta = LINEAR[case]
    infinite = exact.lqr_gradient(env, policy, theta, horizon=math.inf, discount=0.9)
    finite = exact.lqr_gradient(env, policy, theta, horizon=400, discount=0.9)
    assert finite.expected_return == pytest.approx(infinite.expected_return, rel=1e-12)
    np.testing.assert_allclose(finite.gradient, infinite.gradient, rtol=1e-11, atol=1e-11)


def test_lqr_gradient_is_that_of_fazel_et_al():
    """2 [(R + BᵀPB) K - BᵀPA] Σ_K, lemma 1, for √γ A and √γ B and no noise; Lyapunov equations by SciPy."""
    env, gain, _ = system(4, 2, noise=0.0, start_mean=0.0)
    policy = GaussianLinear.for_env(env, log_std=-300.0)
    theta = np.column_stack([gain, np.zeros(2)]).ravel()
    A, B, K = 0.95**0.5 * env.A, 0.95**0.5 * env.B, -gain
    loop = A - B @ K
    P = solve_discrete_lyapunov(loop.T, env.Q + K.T @ env.R @ K)
    visited = solve_discrete_lyapunov(loop, env.start_covariance)
    by_gain = 2 * ((env.R + B.T @ P @ B) @ K - B.T @ P @ A) @ visited
    result = exact.lqr_gradient(env, policy, theta, horizon=math.inf, discount=0.95)
    assert result.expected_return == pytest.approx(-np.trace(P @ env.start_covariance), rel=1e-12)
    rows = result.gradient.reshape(2, 5)
    # J = -C and W = -K: two changes of sign.
    np.testing.assert_allclose(rows[:, :4], by_gain, rtol=0, atol=1e-12 * np.abs(by_gain).max())
    np.testing.assert_allclose(rows[:, 4], 0.0, rtol=0, atol=1e-12)


def test_lqr_best_gain_has_no_gradient():
    """At K of the Riccati equation, iterated, ∇_W J = 0, with noise and exploration too."""
    env, _, _ = system(3, 2, start_mean=0.0)
    gamma, P = 0.9, env.Q
    for _ in range(1000):
        K = np.linalg.solve(env.R + gamma * env.B.T @ P @ env.B, gamma * env.B.T @ P @ env.A)
        P = env.Q + gamma * env.A.T @ P @ (env.A - env.B @ K)
    policy = GaussianLinear.for_env(env, log_std=-1.0)
    best = np.column_stack([-K, np.zeros(2)]).ravel()
    result = exact.lqr_gradient(env, policy, best, horizon=math.inf, discount=gamma)
    elsewhere = exact.lqr_gradient(env, policy, best + 0.1, horizon=math.inf, discount=gamma)
    assert elsewhere.expected_return < result.expected_return
    assert np.abs(result.gradient).max() <= 1e-12 * np.abs(elsewhere.gradient).max()


@pytest.mark.skipif(not JIT, reason="too slow without the jit")
def test_lqr_gradient_is_estimated():
    """By REINFORCE, J and every component within 4 standard errors."""
    env, policy, theta = LINEAR["2 states, 3 actions, log_std learned"]
    estimate = fastpg.policy_gradient(
        env, policy, theta, fastpg.REINFORCE("mean"), n_trajectories=400_000, seed=11
    )
    result = exact.lqr_gradient(env, policy, theta)
    assert abs(estimate.mean_return - result.expected_return) <= 4 * estimate.return_standard_error
    assert (np.abs(estimate.gradient - result.gradient) <= 4 * estimate.standard_error).all()


# --- what is refused ---


class Skewed(Featured):
    """Its score is not that of its probabilities."""

    def score(self, theta, observation, action):
        return self.features[observation, action]


class Unnormalised(Featured):
    def probabilities(self, theta, observation):
        return np.exp(self.features[observation] @ theta)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mdp": FrozenLake.make()}, TypeError, "mdp=FrozenLake(?s:.*)must be a fastpg.envs.FiniteMDP"),
        ({"policy": "softmax"}, TypeError, "policy='softmax'"),
        ({"policy": SoftmaxTabular((3,), (0.0, 0.0))}, ValueError, "policy=.*other spaces"),
        ({"policy": Skewed(np.ones((2, 2, 4)))}, ValueError, "policy: the expectation of score.* is not 0"),
        ({"policy": Unnormalised(np.ones((2, 2, 4)))}, ValueError, "policy: probabilities.* in state 0"),
        ({"policy": Featured(np.ones((2, 3, 4)))}, ValueError, r"policy: probabilities.*\(3,\).*\(2,\)"),
        ({"theta": np.zeros(3)}, ValueError, r"theta: has shape \(3,\), must have \(4,\)"),
        ({"theta": [0.0, 0.0, 0.0, math.nan]}, ValueError, "theta: must be finite"),
        ({"horizon": 0}, ValueError, "horizon=0"),
        ({"horizon": 2.5}, TypeError, "horizon=2.5: must be an integer"),
        ({"horizon": math.inf}, ValueError, "discount=1.0: must be below 1"),
        ({"horizon": 2**40}, ValueError, "horizon: would need .* GiB"),
        ({"discount": 1.1}, ValueError, "discount=1.1: must be between 0 and 1"),
        ({"discount": -0.1}, ValueError, "discount=-0.1"),
        ({"discount": math.nan}, ValueError, "discount=nan"),
        ({"discount": "0.9"}, TypeError, "discount='0.9': must be a number"),
        ({"discount": True}, TypeError, "discount=True"),
        ({"covariance": "yes"}, TypeError, "covariance='yes'"),
        ({"covariance": True, "horizon": math.inf, "discount": 0.9}, ValueError, "covariance=True: .*finite"),
    ],
)
def test_bad_arguments_are_refused(changes, error, message):
    mdp, policy, theta = SMALL["tabular"]
    arguments = {"mdp": mdp, "policy": policy, "theta": theta} | changes
    with pytest.raises(error, match=message):
        exact.policy_gradient(**arguments)


def test_what_needs_too_much_memory_is_refused_before_it_is_begun():
    n = 700
    shape = n, 6, 1
    mdp = FiniteMDP.from_outcomes(
        np.ones(shape),
        np.zeros(shape, np.int64),
        np.ones(shape),
        np.zeros(shape, np.bool_),
        np.eye(n)[0],
        horizon=2,
    )
    policy = SoftmaxTabular.for_env(mdp)
    for refused in (lambda **k: exact.policy_gradient(covariance=True, **k), exact.gpomdp_covariance):
        with pytest.raises(ValueError, match=r"would need 1\.\d GiB of memory, at most 1"):
            refused(mdp=mdp, policy=policy, theta=policy.initial())
    assert exact.policy_gradient(mdp, policy, policy.initial()).expected_return == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("baseline", "error", "message"),
    [
        ("time", ValueError, "baseline='time': must be 'none', 'mean', 'optimal'"),
        (None, TypeError, "baseline=None"),
        ([1.0, 2.0], ValueError, r"baseline: has the shape \(2,\), must have \(\) or \(4,\)"),
        (math.inf, ValueError, "baseline=inf: must be finite"),
    ],
)
def test_bad_baselines_are_refused(baseline, error, message):
    result = exact.policy_gradient(*SMALL["tabular"], covariance=True)
    with pytest.raises(error, match=message):
        result.variance(baseline)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"baseline": "best"}, ValueError, "baseline='best': must be 'none', 'mean'"),
        (
            {"baseline": np.zeros(5)},
            ValueError,
            r"baseline: has the shape \(5,\), must have \(\), \(3,\) or \(3, 4\)",
        ),
        ({"baseline": True}, TypeError, "baseline=True"),
        ({"horizon": math.inf, "discount": 0.9}, ValueError, "horizon=inf: must be finite"),
    ],
)
def test_bad_arguments_of_gpomdp_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        exact.gpomdp_covariance(*SMALL["tabular"], **changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"baseline": "optimal"}, ValueError, "baseline='optimal': must be 'time'"),
        ({"baseline": np.zeros(5)}, ValueError, r"baseline: has the shape \(5,\), must have \(\) or \(3,\)"),
        ({"horizon": math.inf, "discount": 0.9}, ValueError, "covariance=True: .*finite"),
    ],
)
def test_bad_arguments_of_reinforce_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        exact.reinforce_covariance(*SMALL["tabular"], **changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"env": two_states()}, TypeError, "env=.*must be a fastpg.envs.LinearQuadratic"),
        ({"policy": SMALL["tabular"][1]}, TypeError, "policy=.*must be a GaussianLinear"),
        ({"policy": GaussianLinear(1, (0.0,), 2)}, ValueError, "policy=.*not state-dependent"),
        ({"policy": GaussianLinear(2, (0.0,), 1)}, ValueError, "policy=.*another length"),
        ({"theta": np.zeros(2)}, ValueError, r"theta: has shape \(2,\)"),
        (
            {"theta": [2.0, 0.0, 0.0], "horizon": math.inf, "discount": 0.9},
            ValueError,
            "theta: .*spectral radius",
        ),
        ({"theta": [1e200, 0.0, 0.0]}, ValueError, "theta: .*too large"),
        ({"theta": [0.0, 0.0, 400.0]}, ValueError, "theta: .*too large"),
        ({"horizon": math.inf}, ValueError, "discount=1.0: must be below 1"),
        ({"horizon": 2**40}, ValueError, "horizon: would need .* GiB"),
        ({"discount": 2}, ValueError, "discount=2: must be between 0 and 1"),
    ],
)
def test_bad_arguments_of_lqr_are_refused(changes, error, message):
    env = LinearQuadratic.from_matrices([[0.5]], [[1.0]], [[1.0]], [[1.0]])
    arguments = {"env": env, "policy": GaussianLinear(1, (0.0,), 1), "theta": np.zeros(3)} | changes
    with pytest.raises(error, match=message):
        exact.lqr_gradient(**arguments)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"env": two_states()}, TypeError, "env=.*must be a fastpg.envs.Bandit"),
        ({"policy": SMALL["tabular"][1]}, ValueError, "policy=.*other spaces"),
        ({"policy": GaussianLinear(0, (0.0,), 0)}, ValueError, "policy=.*other actions"),
        ({"theta": [0.0, 0.0]}, ValueError, r"theta: has shape \(2,\), must have \(3,\)"),
    ],
)
def test_bad_arguments_of_bandits_are_refused(changes, error, message):
    env, policy, theta = with_tabular(Bandit.make(**ARMS))
    with pytest.raises(error, match=message):
        exact.bandit_gradient(**{"env": env, "policy": policy, "theta": theta} | changes)
