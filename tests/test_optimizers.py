"""The optimizers against their equations, and the schedules."""

import numpy as np
import pytest
from fastpg.envs import FiniteMDP

from fastpg import SGD, Adam, LinearSchedule, Momentum, NaturalGradient, SoftmaxTabular, exact
from fastpg.optimizers import learning_rate_at

GRADIENTS = np.random.default_rng(0).normal(size=(20, 3))


def ascend(optimizer):
    theta = np.zeros(3)
    state = optimizer.initial(theta)
    for update, gradient in enumerate(GRADIENTS):
        theta, state = optimizer.step(theta, gradient, state, update)
    return theta


def test_sgd_adds_up_the_gradients():
    np.testing.assert_allclose(ascend(SGD(0.1)), 0.1 * GRADIENTS.sum(axis=0), rtol=1e-13)


def test_momentum_is_a_geometric_sum():
    """Gradient k enters the velocity of every later update j with weight μ^(j-k)."""
    n = len(GRADIENTS)
    weights = [sum(0.8 ** (j - k) for j in range(k, n)) for k in range(n)]
    np.testing.assert_allclose(ascend(Momentum(0.1, 0.8)), 0.1 * np.array(weights) @ GRADIENTS, rtol=1e-12)


def test_adam_from_closed_forms_of_its_averages():
    theta, t = np.zeros(3), len(GRADIENTS)
    for k in range(1, t + 1):
        past = GRADIENTS[:k]
        w1 = 0.9 ** np.arange(k - 1, -1, -1)
        w2 = 0.999 ** np.arange(k - 1, -1, -1)
        m_hat, v_hat = w1 @ past / w1.sum(), w2 @ past**2 / w2.sum()
        theta += 0.1 * m_hat / (np.sqrt(v_hat) + 1e-8)
    np.testing.assert_allclose(ascend(Adam(0.1)), theta, rtol=1e-11)


def test_first_step_of_adam_has_the_length_of_the_learning_rate():
    theta, _ = Adam(0.3).step(np.zeros(2), np.array([5.0, -1e-3]), Adam().initial(np.zeros(2)), 0)
    np.testing.assert_allclose(theta, [0.3, -0.3], rtol=1e-4)  # epsilon is 1e-5 of the smaller component


@pytest.mark.parametrize("optimizer", [SGD, Momentum, Adam])
def test_a_schedule_is_a_function_of_the_update(optimizer):
    constant, scheduled = optimizer(0.1), optimizer(lambda update: 0.1 if update < 5 else 0.0)
    state = constant.initial(np.zeros(3))
    theta = np.zeros(3)
    for update in range(5):
        theta, state = constant.step(theta, GRADIENTS[update], state, update)
    np.testing.assert_array_equal(ascend(scheduled), theta)


def test_linear_schedule():
    schedule = LinearSchedule(1.0, 0.5, 6)
    np.testing.assert_allclose([schedule(i) for i in range(8)], [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5])
    assert LinearSchedule(1.0, 0.5, 1)(0) == 1.0


@pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf])
def test_a_bad_learning_rate_is_refused(rate):
    with pytest.raises(ValueError, match="learning_rate=.*must be finite and at least 0"):
        SGD(rate).step(np.zeros(1), np.zeros(1), (), 0)


@pytest.mark.parametrize("rate", [np.float32(0.5), np.array(0.5), np.int64(2), lambda update: np.array(0.5)])
def test_a_learning_rate_may_be_of_numpy(rate):
    value = learning_rate_at(rate, 0)
    assert value in (0.5, 2.0) and type(value) is float


@pytest.mark.parametrize("rate", ["0.1", None, True, np.True_, np.ones(2)])
def test_a_learning_rate_of_another_type_is_refused(rate):
    with pytest.raises(TypeError, match="learning_rate"):
        SGD(rate).step(np.zeros(1), np.zeros(1), (), 0)


@pytest.mark.parametrize("optimizer", [Momentum(0.1, 1.0), Adam(0.1, beta1=-0.1), Adam(0.1, beta2=1.5)])
def test_bad_coefficients_are_refused(optimizer):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        optimizer.step(np.zeros(1), np.zeros(1), optimizer.initial(np.zeros(1)), 0)


# --- the natural gradient ---

STATES, ACTIONS, T = 3, 2, 5
TRANSITION = np.random.default_rng(1).dirichlet(np.ones(STATES), (STATES, ACTIONS))
REWARD = np.random.default_rng(2).normal(size=(STATES, ACTIONS))
START = np.array([0.5, 0.3, 0.2])
THETA = np.random.default_rng(3).normal(0.0, 0.7, STATES * ACTIONS)


def small_problem():
    mdp = FiniteMDP.from_arrays(TRANSITION, REWARD, START, horizon=T)
    policy = SoftmaxTabular.for_env(mdp)
    return policy, exact.policy_gradient(mdp, policy, THETA, covariance=True)


def divergence_of_trajectories(before, after):
    """KL(p_before || p_after) = Σ_t Σ_s d_t(s) KL(π_before(·|s) || π_after(·|s))."""

    def probabilities(theta):
        weights = np.exp(theta.reshape(STATES, ACTIONS))
        return weights / weights.sum(axis=1, keepdims=True)

    old, new = probabilities(before), probabilities(after)
    of_states = (old * np.log(old / new)).sum(axis=1)
    occupied, total = START, 0.0
    for _ in range(T):
        total += occupied @ of_states
        occupied = np.einsum("s,sa,san->n", occupied, old, TRANSITION)
    return total


@pytest.mark.parametrize(("kl", "tolerance"), [(1e-6, 2e-3), (1e-4, 0.02), (1e-2, 0.2)])
def test_a_natural_step_has_the_divergence_asked_for(kl, tolerance):
    """To second order in the step: the smaller, the nearer."""
    policy, truth = small_problem()
    theta, state = NaturalGradient(kl, damping=0.0).step(THETA, truth.gradient, (), 0, truth.fisher)
    assert state == ()
    assert divergence_of_trajectories(THETA, theta) == pytest.approx(kl, rel=tolerance)


def test_a_natural_step_is_the_best_of_its_divergence():
    """No direction of the same (quadratic) divergence has a larger first-order gain."""
    policy, truth = small_problem()
    step = NaturalGradient(0.01, damping=0.0).step(THETA, truth.gradient, (), 0, truth.fisher)[0] - THETA
    assert 0.5 * step @ truth.fisher @ step == pytest.approx(0.01, rel=1e-9)
    others = np.random.default_rng(0).normal(size=(1000, len(step)))
    others *= np.sqrt(0.02 / np.einsum("ki,ij,kj->k", others, truth.fisher, others))[:, np.newaxis]
    gains = others @ truth.gradient
    assert gains.max() < truth.gradient @ step
    assert gains.max() > 0.5 * truth.gradient @ step  # the thousand do come near


def test_damping_is_of_the_mean_of_the_diagonal():
    """So scaling the parameters' units by c, and with them F by c⁻², changes nothing but the units."""
    _, truth = small_problem()
    damped = NaturalGradient(0.01, damping=0.3)
    step = damped.step(THETA, truth.gradient, (), 0, truth.fisher)[0] - THETA
    level = 0.3 * np.diagonal(truth.fisher).mean()
    x = np.linalg.solve(truth.fisher + level * np.eye(len(step)), truth.gradient)
    np.testing.assert_allclose(step, np.sqrt(0.02 / (truth.gradient @ x)) * x, rtol=1e-9)
    scaled = damped.step(THETA, truth.gradient / 10.0, (), 0, truth.fisher / 100.0)[0] - THETA
    np.testing.assert_allclose(scaled, 10.0 * step, rtol=1e-9)
    assert 0.5 * step @ truth.fisher @ step < 0.01


class Products:
    """A matrix by its products."""

    def __init__(self, matrix):
        self.matrix = matrix
        self.diagonal = np.diagonal(matrix)

    def __call__(self, vector):
        return self.matrix @ vector


def test_a_natural_step_from_products_is_that_from_the_matrix():
    _, truth = small_problem()
    optimizer = NaturalGradient(0.01, 0.1)
    whole, products = (
        optimizer.step(THETA, truth.gradient, (), 0, fisher)[0]
        for fisher in (truth.fisher, Products(truth.fisher))
    )
    np.testing.assert_allclose(products, whole, rtol=1e-6)


def test_a_gradient_of_zero_makes_no_natural_step():
    theta, _ = NaturalGradient().step(THETA, np.zeros_like(THETA), (), 0, np.eye(len(THETA)))
    np.testing.assert_array_equal(theta, THETA)


def test_the_divergence_may_follow_a_schedule():
    _, truth = small_problem()
    first, last = (
        NaturalGradient(LinearSchedule(0.04, 0.01, 2)).step(THETA, truth.gradient, (), k, truth.fisher)[0]
        for k in (0, 1)
    )
    np.testing.assert_allclose(first - THETA, 2.0 * (last - THETA), rtol=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (NaturalGradient(kl=-1.0), ValueError, "kl=-1.0: must be finite"),
        (NaturalGradient(kl="much"), TypeError, "kl='much': must be a number"),
        (NaturalGradient(damping=-1.0), ValueError, "damping=-1.0: must be"),
        (NaturalGradient(damping=np.nan), ValueError, "damping=nan: must be"),
    ],
)
def test_bad_settings_of_the_natural_gradient_are_refused(optimizer, error, message):
    with pytest.raises(error, match=message):
        optimizer.step(np.zeros(2), np.ones(2), (), 0, np.eye(2))
