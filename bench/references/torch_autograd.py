"""PyTorch, batched, by automatic differentiation, in float32; the dynamics are written in torch as well.

``python -m bench.references.torch_autograd THETA [--hidden 64 64]`` answers as `bench.serving` has it. All
trajectories of a call are simulated side by side without derivatives, those that end leave, and the steps are
recorded; then log π of all of them at once, times the return of its trajectory, is differentiated.
"""

import math

import torch

from bench.serving import Sums, gradient_arguments, serve_gradient, versions

GRAVITY, MASS_CART, MASS_POLE, HALF_LENGTH, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
X_LIMIT, ANGLE_LIMIT, HORIZON = 2.4, 12 * 2 * math.pi / 360, 500
TOTAL_MASS, POLE_MASS_LENGTH = MASS_CART + MASS_POLE, MASS_POLE * HALF_LENGTH


def step(state, action):
    """Return the states, shape (n, 4), after actions of 0 or 1: CartPole-v1, explicit Euler."""
    x, x_dot, angle, angle_dot = state.unbind(1)
    sine, cosine = angle.sin(), angle.cos()
    force = (2 * action - 1) * FORCE
    push = (force + POLE_MASS_LENGTH * angle_dot * angle_dot * sine) / TOTAL_MASS
    angle_acceleration = (GRAVITY * sine - cosine * push) / (
        HALF_LENGTH * (4.0 / 3.0 - MASS_POLE * cosine * cosine / TOTAL_MASS)
    )
    acceleration = push - POLE_MASS_LENGTH * angle_acceleration * cosine / TOTAL_MASS
    rates = torch.stack([x_dot, acceleration, angle_dot, angle_acceleration], 1)
    return state + TAU * rates


class Policy:
    """A linear softmax policy, or with `hidden` layers of tanh units a network; θ as fastpg has it.

    Of a linear policy a row for each action, the bias last; of a network the layers one after the other, in
    each the weights and then the biases.
    """

    def __init__(self, hidden=()):
        self.sizes = (4, *hidden, 2)

    def logits(self, theta, x):
        """Return them for observations of shape (n, 4)."""
        if len(self.sizes) == 2:
            weights = theta.reshape(2, 5)
            return torch.nn.functional.linear(x, weights[:, :4], weights[:, 4])
        layers = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        parts = theta.split([k for n, m in layers for k in (n * m, m)])
        for k, (n, m) in enumerate(layers):
            x = torch.nn.functional.linear(
                torch.tanh(x) if k else x, parts[2 * k].view(m, n), parts[2 * k + 1]
            )
        return x


def trajectories(policy, theta, n, generator):
    """Return of all steps observation, action and number of the trajectory; and the returns, shape (n,)."""
    state = torch.rand((n, 4), generator=generator) * 0.1 - 0.05
    numbers, returns = torch.arange(n), torch.zeros(n)
    recorded = []
    for t in range(HORIZON):
        outputs = policy.logits(theta, state)
        right = torch.sigmoid(outputs[:, 1] - outputs[:, 0])
        action = (torch.rand(len(state), generator=generator) < right).long()
        recorded.append((state, action, numbers))
        state = step(state, action)
        alive = (state[:, 0].abs() <= X_LIMIT) & (state[:, 2].abs() <= ANGLE_LIMIT)
        if t + 1 == HORIZON:
            alive[:] = False
        if not alive.all():
            returns[numbers[~alive]] = t + 1.0  # CartPole pays 1 a step
            state, numbers = state[alive], numbers[alive]
            if not len(numbers):
                break
    return *(torch.cat(column) for column in zip(*recorded, strict=True)), returns


def gradient(policy, theta, n, generator):
    """Return the sums over n trajectories."""
    with torch.no_grad():
        observations, actions, numbers, returns = trajectories(policy, theta, n, generator)
    theta = theta.detach().requires_grad_()
    log_probs = torch.log_softmax(policy.logits(theta, observations), 1).gather(1, actions[:, None])[:, 0]
    (log_probs * returns[numbers]).sum().backward()
    return Sums(theta.grad.numpy(), float(returns.sum()), n, len(actions))


def main():
    """Choose the number of trajectories, estimate, and answer."""
    parser = gradient_arguments(__doc__.splitlines()[0], lanes=[256, 1024, 4096, 16384])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--hidden", type=int, nargs="*", default=[], help="sizes of the policy's hidden layers"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(arguments.seed)
    policy = Policy(arguments.hidden)
    theta = torch.tensor(arguments.theta, dtype=torch.float32)
    serve_gradient(
        lambda n: lambda: gradient(policy, theta, n, generator),
        arguments.lanes,
        arguments.calls,
        {"versions": versions("torch")},
    )


if __name__ == "__main__":
    main()
