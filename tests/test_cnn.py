"""The convolutional network: derivatives against central differences, torch, and compiled code."""

import importlib.util

import numba
import numpy as np
import pytest
from fastpg.envs.minatar_breakout import Breakout

import fastpg
from fastpg.dispatch import kernel
from fastpg.networks.cnn import CNN

with_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
SMALL = ((5, 6, 2), 3, 4, 3, (7,))
OF_MINATAR = ((10, 10, 4), 3, 16, 3, (128,))


@kernel
def all_of_it(network, theta, x, work, d_outputs, gradient, direction, outputs, tangents, parts, middle):
    outputs[:] = network.forward(theta, x, work)
    network.propagate(theta, work, d_outputs)
    network.collect(x, work, d_outputs, 0, middle, parts[0])
    network.collect(x, work, d_outputs, middle, len(x), parts[1])
    network.backward(theta, x, work, d_outputs, gradient)
    tangents[:] = network.tangent(theta, x, work, direction)


def problem(arguments, dtype, batch=37):
    """A network, its θ with biases that are not 0, images, derivatives by the outputs, and a direction."""
    network = CNN.of(*arguments, dtype)
    rng = np.random.default_rng(3)
    theta = network.initial(rng) + 0.1 * rng.normal(size=network.n_parameters).astype(dtype)
    x, d = rng.normal(size=(batch, network.n_inputs)), rng.normal(size=(batch, network.n_outputs))
    direction = rng.normal(size=len(theta)) / np.sqrt(len(theta))
    return network, theta, x.astype(dtype), d.astype(dtype), direction.astype(dtype)


def computed(function, network, theta, x, d, direction, room=50):
    """Outputs, gradient, tangents, and the gradient in two parts."""
    work, gradient = network.workspace(room, theta), np.empty_like(theta)
    outputs, tangents, parts = np.empty_like(d), np.empty_like(d), np.empty((2, len(theta)), theta.dtype)
    function(network, theta, x, work, d, gradient, direction, outputs, tangents, parts, 20)
    return outputs, gradient, tangents, parts


ordinary = getattr(all_of_it, "py_func", all_of_it)


@pytest.mark.parametrize("arguments", [SMALL, ((4, 4, 1), 2, 3, 2, ()), ((3, 3, 2), 2, 2, 3, (5, 4))])
def test_derivatives_are_central_differences(arguments):
    network, theta, x, d, direction = problem(arguments, np.float64)
    outputs, gradient, tangents, parts = computed(ordinary, network, theta, x, d, direction)
    np.testing.assert_allclose(parts.sum(axis=0), gradient, atol=1e-12)
    picked = np.random.default_rng(4).choice(len(theta), min(len(theta), 40), replace=False)
    for step in [direction, *np.eye(len(theta))[picked]]:
        ends = [
            network.forward(theta + sign * 1e-6 * step, x, network.workspace(len(x), theta)).copy()
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / 2e-6
        assert gradient @ step == pytest.approx((d * slope).sum(), rel=1e-7, abs=1e-7)
        if step is direction:
            np.testing.assert_allclose(tangents, slope, rtol=0, atol=1e-7)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")
@pytest.mark.parametrize(
    ("arguments", "kind"), [(SMALL, np.float32), (SMALL, np.bool_), (OF_MINATAR, np.bool_)]
)
def test_compiled_equals_ordinary_python(arguments, kind):
    """Of images of booleans, too, which are numbers 0 and 1."""
    network, theta, x, *others = problem(arguments, np.float32)
    given = network, theta, x.astype(kind) if kind is np.float32 else x > 1.0, *others
    for compiled, other in zip(computed(all_of_it, *given), computed(ordinary, *given), strict=True):
        np.testing.assert_allclose(compiled, other, rtol=0, atol=3e-6 * abs(other).max())


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int64])
def test_images_of_any_type_are_their_numbers(kind):
    network, theta, x, *others = problem(SMALL, np.float64)
    images = np.maximum(3 * x, 0).astype(kind)
    expected = computed(ordinary, network, theta, images.astype(np.float64), *others)
    for found, other in zip(computed(ordinary, network, theta, images, *others), expected, strict=True):
        np.testing.assert_array_equal(found, other)


def test_float32_is_close_to_float64():
    """Within 1e-5 of the largest component, outputs, gradient and tangents: a thousand roundings of 6e-8."""
    network, *values = problem(OF_MINATAR, np.float32)
    single = computed(ordinary, network, *values)
    double = computed(ordinary, network.in_float64(), *(array.astype(np.float64) for array in values))
    for found, exact in zip(single, double, strict=True):
        assert found.dtype == np.float32 and exact.dtype == np.float64
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5 * abs(exact).max())


@pytest.mark.parametrize("room", [37, 40])
def test_memory_is_in_proportion_to_the_batch(room):
    """So that it can be cut into equal parts, and each is enough; a part is overrun by nothing."""
    network, theta, x, d, direction = problem(SMALL, np.float64)
    expected = computed(ordinary, network, theta, x, d, direction)
    whole = [array.reshape(3, -1) for array in network.workspace(3 * room, theta)]
    single = network.workspace(room, theta)
    assert [array.shape[1] for array in whole] == [len(array) for array in single]
    for small in (1, 2, 37):
        work = network.workspace(small, theta)
        outputs = [network.forward(theta, x[i : i + small], work).copy() for i in range(0, len(x), small)]
        np.testing.assert_allclose(np.concatenate(outputs), expected[0], atol=1e-12)
        gradient, total = np.empty_like(theta), np.zeros_like(theta)
        for i in range(0, len(x), small):
            network.forward(theta, x[i : i + small], work)
            network.backward(theta, x[i : i + small], work, d[i : i + small], gradient)
            total += gradient
        np.testing.assert_allclose(total, expected[1], atol=1e-11)


@with_torch
@pytest.mark.parametrize("dtype, close, closest", [(np.float32, 1e-5, 1e-4), (np.float64, 1e-12, 1e-9)])
def test_torch_with_the_same_parameters_has_the_same_outputs_and_gradients(dtype, close, closest):
    """The views are copied there, and the gradients back into the views of a gradient."""
    import torch

    network, theta, x, d, direction = problem(OF_MINATAR, dtype)
    outputs, gradient, _, _ = computed(ordinary, network, theta, x, d, direction)
    convolution, first, last = torch.nn.Conv2d(4, 16, 3), torch.nn.Linear(1024, 128), torch.nn.Linear(128, 3)
    module = torch.nn.Sequential(
        convolution, torch.nn.ReLU(), torch.nn.Flatten(), first, torch.nn.ReLU(), last
    ).to(getattr(torch, np.dtype(dtype).name))
    layers = {"kernel": convolution.weight, "kernel_bias": convolution.bias}
    layers |= {"weight_1": first.weight, "bias_1": first.bias, "weight_2": last.weight, "bias_2": last.bias}
    views = network.parameters(theta)
    assert list(views) == list(layers)
    with torch.no_grad():
        for name, view in views.items():
            layers[name].copy_(torch.tensor(view.reshape(layers[name].shape)))
    found = module(torch.tensor(x.reshape(-1, 10, 10, 4).transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(outputs, found.detach().numpy(), rtol=0, atol=close * abs(outputs).max())
    (found * torch.tensor(d)).sum().backward()
    theirs = np.empty_like(theta)
    for name, view in network.parameters(theirs).items():
        view[...] = layers[name].grad.numpy().reshape(view.shape)
    np.testing.assert_allclose(gradient, theirs, rtol=0, atol=closest * abs(theirs).max())


def test_named_views_are_views():
    network, theta, *_ = problem(SMALL, np.float64)
    views = network.parameters(theta)
    assert {name: view.shape for name, view in views.items()} == {
        "kernel": (4, 2, 3, 3),
        "kernel_bias": (4,),
        "weight_1": (7, 4, 3, 4),
        "bias_1": (7,),
        "weight_2": (3, 7),
        "bias_2": (3,),
    }
    assert sum(view.size for view in views.values()) == network.n_parameters == len(theta)
    for k, view in enumerate(views.values()):
        view[...] = k
    assert np.bincount(theta.astype(int)).tolist() == [view.size for view in views.values()]


def test_initial_kernels_are_orthogonal():
    network = CNN.of(*OF_MINATAR, np.float64)
    kernel = network.parameters(network.initial(np.random.default_rng(0)))["kernel"].reshape(16, -1)
    np.testing.assert_allclose(kernel @ kernel.T, 2.0 * np.eye(16), atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((10, 10), 3), r"input_shape=\(10, 10\): must be \(rows, columns, channels\)"),
        (((10, 10, 4), 3, 0), "filters=0"),
        (((10, 10, 4), 3, 16, 11), "side=11: must be between 1 and 10"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CNN.of(*arguments)
    with pytest.raises(ValueError, match="SoftmaxCNN needs a three-dimensional Box"):
        fastpg.SoftmaxCNN.for_env(fastpg.make("CartPole-v1"))
    with pytest.raises(ValueError, match=r"for images of shape \(5, 6, 2\).*\(10, 10, 4\)"):
        policy = fastpg.SoftmaxCNN(CNN.of(*SMALL), (0, 1, 2))
        fastpg.policy_gradient(Breakout(), policy, policy.initial(), n_trajectories=2)


def trajectories(env, policy, theta, n, seed, horizon):
    from fastpg.random import next_step, policy_rng, seed_key, trajectory_rng

    for i in range(n):
        rng = trajectory_rng(seed_key(seed), i)
        state, score, total, ended, steps = env.reset(rng), np.zeros(len(theta)), 0.0, False, 0
        while not ended and steps < horizon:
            rng, steps = next_step(rng), steps + 1
            observation = env.observe(state)
            action = int(policy.sample(theta, observation, policy_rng(rng)))
            score += policy.score(theta, observation, action)
            state, reward, ended = env.step(state, action, rng)
            total += reward
        yield score, total


def test_the_gradient_is_that_of_trajectories_one_at_a_time():
    """The whole of it: Breakout in the lanes, images to the network, scores by backpropagation."""
    env, n, horizon = Breakout(), 40, 30
    policy = fastpg.policy_for(env)
    assert isinstance(policy, fastpg.SoftmaxCNN) and policy.n_parameters == 592 + 131_200 + 387
    theta = policy.initial(1)
    found = list(trajectories(env, policy, theta, n, 5, horizon))
    scores, returns = (np.array(column) for column in zip(*found, strict=True))
    estimate = fastpg.policy_gradient(env, policy, theta, n_trajectories=n, horizon=horizon, seed=5)
    expected = scores.T @ returns / n
    assert estimate.mean_return == returns.mean()
    np.testing.assert_allclose(estimate.gradient, expected, rtol=0, atol=1e-5 * abs(expected).max())
