"""The two parameter vectors of the benchmarks, for the linear softmax policy on CartPole-v1."""

import numpy as np

UNIFORM = np.zeros(10)
"""θ = 0, where training starts: 22 steps a trajectory."""

BALANCING = np.array([0.0, 0.0, -9.0, -3.0, 0.0, 0.0, 0.0, 9.0, 3.0, 0.0])
"""As after training: pushes against the pole's fall; 410 steps a trajectory, most reach the horizon."""
