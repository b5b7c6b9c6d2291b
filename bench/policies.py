"""The parameter vectors of the benchmarks."""

from typing import Any

import numpy as np

UNIFORM = np.zeros(10)
"""Of the linear softmax policy on CartPole-v1: θ = 0, where training starts: 22 steps a trajectory."""

BALANCING = np.array([0.0, 0.0, -9.0, -3.0, 0.0, 0.0, 0.0, 9.0, 3.0, 0.0])
"""As after training: pushes against the pole's fall; 410 steps a trajectory, most reach the horizon."""

# Seeds of the random θ: where an environment can end, some trajectories do, so that the returns differ. Under
# MountainCarContinuous's the car stays off the left wall, which gymnax 1.0.1 lets it run against unstopped.
THETA_SEEDS = {
    "CartPole-v1": 1,
    "MountainCar-v0": 238,
    "MountainCarContinuous-v0": 4,
    "Acrobot-v1": 1,
    "Pendulum-v1": 1,
}


def random_theta(env: Any, policy: Any, seed: int) -> np.ndarray:
    """Return normal weights, of observations in the units of their bounds; σ = 1 for continuous actions."""
    high = env.observation_space.high.astype(np.float64)
    scale = np.append(np.where(high < 1.0, high, 1.0), 1.0)
    theta = policy.initial()
    rows = len(theta) // len(scale)
    weights = np.random.default_rng(seed).normal(size=(rows, len(scale))) / scale
    theta[: weights.size] = weights.ravel()
    return theta


def balancing_network(policy: Any, seed: int = 0) -> np.ndarray:
    """Return a θ of a network on CartPole-v1 that pushes against the pole's fall as `BALANCING` does.

    Random weights, but for one unit in each hidden layer that carries the sum of angle and angular velocity
    on.
    """
    theta = np.asarray(policy.initial(seed)).copy()
    layers = list(policy.network.parameters(theta).items())
    weights = [view for name, view in layers if name.startswith("weight")]
    for weight in weights[:-1]:
        weight[0] = 0.0
    weights[0][0] = [0.0, 0.0, 0.9, 0.3]
    for weight in weights[1:-1]:
        weight[0, 0] = 1.0
    weights[-1][:, 0] = [-10.0, 10.0]
    return theta
