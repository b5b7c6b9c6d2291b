"""The multilayer perceptron: derivatives against central differences, compiled against ordinary Python."""

import numpy as np
import pytest

from fastpg.dispatch import kernel
from fastpg.networks.mlp import MLP

SHAPES = [(3, 2), (4, 5, 3), (4, 64, 64, 2), (2, 7, 5, 6, 1)]


@kernel
def forward(network, theta, x, work):
    return network.forward(theta, x, work)


@kernel
def backward(network, theta, x, work, d_outputs, gradient):
    network.backward(theta, x, work, d_outputs, gradient)


@kernel
def parts(network, theta, x, work, d_outputs, gradients, middle):
    network.propagate(theta, work, d_outputs)
    network.collect(x, work, d_outputs, 0, middle, gradients[0])
    network.collect(x, work, d_outputs, middle, len(x), gradients[1])


@kernel
def tangent(network, theta, x, work, direction):
    return network.tangent(theta, x, work, direction)


def problem(sizes, activation, dtype, batch=9):
    """A network, its θ with biases that are not 0, inputs and derivatives by the outputs."""
    network = MLP.of(sizes, activation, dtype)
    rng = np.random.default_rng(3)
    theta = network.initial(rng) + 0.1 * rng.normal(size=network.n_parameters).astype(dtype)
    x, d = rng.normal(size=(batch, sizes[0])), rng.normal(size=(batch, sizes[-1]))
    return network, theta, x.astype(dtype), d.astype(dtype)


def outputs(network, theta, x):
    return network.forward(theta, x, network.workspace(len(x), theta)).copy()


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("sizes", SHAPES)
def test_derivatives_are_central_differences(sizes, activation):
    network, theta, x, d = problem(sizes, activation, np.float64)
    work, gradient = network.workspace(len(x), theta), np.empty_like(theta)
    network.forward(theta, x, work)
    network.backward(theta, x, work, d, gradient)
    rng = np.random.default_rng(4)
    directions = np.eye(len(theta))[rng.choice(len(theta), min(len(theta), 40), replace=False)]
    for direction in [*directions, rng.normal(size=len(theta)) / np.sqrt(len(theta))]:
        ends = [outputs(network, theta + sign * 1e-5 * direction, x) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(network.tangent(theta, x, work, direction), slope, rtol=0, atol=1e-7)
        assert gradient @ direction == pytest.approx((d * slope).sum(), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_equals_ordinary_python(activation, dtype):
    tolerance = 1e-6 if dtype is np.float32 else 1e-13
    for sizes in ((4, 5, 3), (4, 64, 31, 3)):  # as many layers: a kernel
        network, theta, x, d = problem(sizes, activation, dtype)
        results = []
        for functions in ((forward, backward, tangent), (MLP.forward, MLP.backward, MLP.tangent)):
            work, gradient = network.workspace(len(x), theta), np.empty_like(theta)
            found = functions[0](network, theta, x, work).copy()
            functions[1](network, theta, x, work, d, gradient)
            assert found.dtype == gradient.dtype == dtype
            results.append((found, gradient, functions[2](network, theta, x, work, theta).copy()))
        for compiled, ordinary in zip(*results, strict=True):
            np.testing.assert_allclose(compiled, ordinary, rtol=0, atol=tolerance * abs(ordinary).max())


@pytest.mark.parametrize("sizes", [(4, 5, 3), (4, 64, 31, 3)])
def test_gradient_of_a_batch_is_the_sum_of_its_parts_and_of_single_rows(sizes):
    network, theta, x, d = problem(sizes, "tanh", np.float64)
    work = network.workspace(20, theta)  # of a larger batch
    whole, two = np.empty_like(theta), np.empty((2, len(theta)))
    forward(network, theta, x, work)
    backward(network, theta, x, work, d, whole)
    forward(network, theta, x, work)
    parts(network, theta, x, work, d, two, 4)
    np.testing.assert_allclose(two.sum(axis=0), whole, rtol=0, atol=1e-13 * abs(whole).max())
    single = np.zeros_like(theta)
    for i in range(len(x)):
        row = np.empty_like(theta)
        forward(network, theta, x[i : i + 1], work)
        backward(network, theta, x[i : i + 1], work, d[i : i + 1], row)
        single += row
    np.testing.assert_allclose(single, whole, rtol=0, atol=1e-13 * abs(whole).max())


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_float32_is_close_to_float64(activation):
    """Within 1e-5 of the largest component, outputs and gradient: some hundred roundings of 6e-8."""
    network, theta, x, d = problem((4, 64, 64, 2), activation, np.float32, batch=200)
    exact = MLP.of(network.sizes, activation, np.float64)
    results = []
    for net, dtype in ((network, np.float32), (exact, np.float64)):
        values = [array.astype(dtype) for array in (theta, x, d)]
        work, gradient = net.workspace(len(x), values[0]), np.empty(len(theta), dtype)
        found = forward(net, values[0], values[1], work).copy()
        backward(net, values[0], values[1], work, values[2], gradient)
        results.append((found, gradient))
    for single, double in zip(*results, strict=True):
        np.testing.assert_allclose(single, double, rtol=0, atol=1e-5 * abs(double).max())


def test_initial_weights_are_orthogonal():
    network = MLP.of((4, 64, 32, 3), "tanh", np.float64)
    views = network.parameters(network.initial(np.random.default_rng(0), gain=0.01))
    assert list(views) == ["weight_1", "bias_1", "weight_2", "bias_2", "weight_3", "bias_3"]
    for k, gain in ((1, 2**0.5), (2, 2**0.5), (3, 0.01)):
        weight = views[f"weight_{k}"]
        assert weight.shape == (network.sizes[k], network.sizes[k - 1])
        gram = weight @ weight.T if len(weight) < weight.shape[1] else weight.T @ weight
        np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=1e-12)
        np.testing.assert_array_equal(views[f"bias_{k}"], 0.0)
    assert MLP.of((4, 3)).initial(np.random.default_rng(0)).dtype == np.float32


def test_parameters_are_views():
    network, theta, x, _ = problem((4, 5, 3), "relu", np.float64)
    views = network.parameters(theta)
    hidden = np.maximum(x @ views["weight_1"].T + views["bias_1"], 0.0)
    expected = hidden @ views["weight_2"].T + views["bias_2"]
    np.testing.assert_allclose(outputs(network, theta, x), expected, rtol=1e-13)
    views["bias_2"][:] += 1.0
    np.testing.assert_allclose(outputs(network, theta, x), expected + 1.0, rtol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4,),), "at least inputs and outputs"),
        (((4, 0, 2),), "sizes=0"),
        (((4, 2), "sigmoid"), "must be one of 'identity', 'relu', 'tanh'"),
        (((4, 2), "tanh", np.float16), "must be float32 or float64"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MLP.of(*arguments)


# --- torch ---


def torch_network(torch, network, theta):
    """The same network of `torch.nn.Linear`, with θ copied into it."""
    functions = {0: torch.nn.Identity, 1: torch.nn.ReLU, 2: torch.nn.Tanh}
    layers = []
    for n, m in zip(network.sizes[:-1], network.sizes[1:], strict=True):
        layers += [torch.nn.Linear(n, m), functions[network.activation]()]
    model = torch.nn.Sequential(*layers[:-1]).to(getattr(torch, network.dtype.name))
    with torch.no_grad():
        for view, parameter in zip(network.parameters(theta).values(), model.parameters(), strict=True):
            parameter.copy_(torch.from_numpy(view))
    return model


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outputs_and_gradient_are_those_of_torch(activation, dtype):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra 'torch')")
    network, theta, x, d = problem((4, 64, 31, 2), activation, dtype)
    model = torch_network(torch, network, theta)
    found = model(torch.from_numpy(x))
    (found * torch.from_numpy(d)).sum().backward()
    expected = np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])
    work, gradient = network.workspace(len(x), theta), np.empty_like(theta)
    atol, rtol = (1e-5, 1e-4) if dtype is np.float32 else (1e-12, 1e-9)
    outputs = forward(network, theta, x, work)
    np.testing.assert_allclose(outputs, found.detach().numpy(), rtol=0, atol=atol)
    backward(network, theta, x, work, d, gradient)
    np.testing.assert_allclose(gradient, expected, rtol=rtol, atol=1e-2 * rtol * abs(expected).max())


def test_theta_goes_into_torch_and_back():
    torch = pytest.importorskip("torch", reason="torch is not installed (extra 'torch')")
    network, theta, _, _ = problem((4, 5, 3), "tanh", np.float32)
    model = torch_network(torch, network, theta)
    back = np.zeros_like(theta)
    for view, parameter in zip(network.parameters(back).values(), model.parameters(), strict=True):
        view[:] = parameter.detach().numpy()
    np.testing.assert_array_equal(back, theta)
