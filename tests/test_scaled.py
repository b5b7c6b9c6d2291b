"""Networks that see their inputs scaled: against the same network with the scaling in its first layer."""

import numpy as np
import pytest

import fastpg
from fastpg.dispatch import kernel
from fastpg.networks.log_std import LEARNED, WithLogStd
from fastpg.networks.mlp import MLP
from fastpg.networks.scaled import Scaled

SHIFT, FACTOR = (0.5, -2.0, 0.0, 10.0), (2.0, 0.1, 1.0, 0.01)


@kernel
def everything(network, theta, x, work, d_outputs, gradient, direction):
    """Outputs, gradient and tangent."""
    outputs = network.forward(theta, x, work).copy()
    network.propagate(theta, work, d_outputs)
    network.collect(x, work, d_outputs, 0, len(x), gradient)
    return outputs, network.tangent(theta, x, work, direction).copy()


def folded(network, theta, shift, factor):
    """The parameters with which the network itself does the same."""
    result = theta.copy()
    views = network.parameters(result)
    views["bias_1"] -= views["weight_1"] @ (np.array(factor) * shift)
    views["weight_1"] *= factor
    return result


def unfolded(network, gradient, shift, factor):
    """The derivative by θ, from that by what it was folded into."""
    result = gradient.copy()
    views = network.parameters(result)
    views["weight_1"] -= np.outer(views["bias_1"], shift)
    views["weight_1"] *= factor
    return result


@pytest.mark.parametrize("kind", ["mlp", "log_std"])
def test_everything_is_the_network_s_with_the_scaling_in_its_first_layer(kind):
    network = MLP.of((4, 5, 2), "tanh", np.float64)
    if kind == "log_std":
        network = WithLogStd(network, (-0.5, 0.5), LEARNED)
    scaled, rng = Scaled(network, SHIFT, FACTOR), np.random.default_rng(0)
    theta = network.initial(rng, 1.0) + 0.1 * rng.normal(size=network.n_parameters)
    direction, d = rng.normal(size=len(theta)), rng.normal(size=(9, network.n_outputs))
    x = rng.normal(size=(9, 4)) / FACTOR + SHIFT
    gradients = np.empty((3, len(theta)))
    plain = folded(network, theta, SHIFT, FACTOR)
    outputs = network.forward(plain, x, work := network.workspace(9, theta)).copy()
    network.backward(plain, x, work, d, gradients[0])
    along = folded(network, direction, SHIFT, FACTOR)
    tangent = network.tangent(plain, x, work, along)
    expected = outputs, unfolded(network, gradients[0], SHIFT, FACTOR), tangent

    compiled = everything(scaled, theta, x, scaled.workspace(12, theta), d, gradients[1], direction)
    ordinary = scaled.forward(theta, x, work := scaled.workspace(12, theta)).copy()
    scaled.backward(theta, x, work, d, gradients[2])
    results = (
        (compiled[0], gradients[1], compiled[1]),
        (ordinary, gradients[2], scaled.tangent(theta, x, work, direction)),
    )
    for result in results:
        for found, value in zip(result, expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=0, atol=1e-12 * abs(value).max())
    assert scaled.with_outputs(1) == Scaled(network.with_outputs(1), SHIFT, FACTOR)


def test_policy_gradient_is_the_network_s_with_the_scaling_in_its_first_layer(env):
    policies = [
        fastpg.SoftmaxMLP.for_env(env, hidden=(16, 12), dtype=np.float64, scaling=scaling)
        for scaling in (None, "bounds")
    ]
    network, scaled = (policy.network for policy in policies)
    theta = network.initial(np.random.default_rng(7), 1.0)
    plain = folded(network, theta, scaled.shift, scaled.factor)
    estimates = [
        fastpg.policy_gradient(env, policy, parameters, n_trajectories=50, seed=5, horizon=200)
        for policy, parameters in zip(policies, (plain, theta), strict=True)
    ]
    assert estimates[0].mean_return == estimates[1].mean_return
    expected = unfolded(network, estimates[0].gradient, scaled.shift, scaled.factor)
    np.testing.assert_allclose(estimates[1].gradient, expected, rtol=0, atol=1e-9 * abs(expected).max())


def test_bounds_that_are_finite_go_to_one():
    env = fastpg.make("CartPole-v1")  # the speeds have none
    network = fastpg.SoftmaxMLP.for_env(env, scaling="bounds").network
    assert network.shift == (0.0,) * 4
    np.testing.assert_allclose(1.0 / np.array(network.factor), [4.8, 1.0, 2 * np.radians(12), 1.0], rtol=1e-6)
    car = fastpg.GaussianMLP.for_env(fastpg.make("MountainCarContinuous-v0"), scaling="bounds").network
    ends = (np.array([[-1.2, -0.07], [0.6, 0.07]]) - car.shift) * car.factor
    np.testing.assert_allclose(ends, [[-1.0, -1.0], [1.0, 1.0]], rtol=1e-6)


def test_observations_go_to_mean_0_and_deviation_1(env):
    seen = np.random.default_rng(0).normal(3.0, [1.0, 2.0, 3.0, 0.0], size=(5, 7, 4))
    network = fastpg.SoftmaxMLP.for_env(env, scaling=seen).network
    found = ((seen - network.shift) * network.factor).reshape(-1, 4)
    np.testing.assert_allclose(found.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0), [1.0, 1.0, 1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("scaling", "error", "message"),
    [
        ("pilot", ValueError, "scaling='pilot': must be None, \"bounds\" or an array"),
        (2.0, ValueError, "two or more finite observations"),
        (np.zeros((5, 3)), ValueError, r"shape \(..., 4\), not \(5, 3\)"),
        (np.full((5, 4), np.nan), ValueError, "finite"),
        (object(), TypeError, "is a object"),
    ],
)
def test_bad_input_is_named(env, scaling, error, message):
    with pytest.raises(error, match=message):
        fastpg.SoftmaxMLP.for_env(env, scaling=scaling)
