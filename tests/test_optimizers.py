"""The optimizers against their equations, and the schedules."""

import numpy as np
import pytest

from fastpg import SGD, Adam, LinearSchedule, Momentum
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
