"""NumPy over many trajectories at once, in float64, the dynamics and the score by hand.

``python -m bench.references.numpy_vectorised THETA`` answers as `bench.serving` has it. A trajectory that
ends is added to the sums, and the next one starts in its place; when there is none left, the others go on
without it.
"""

import numpy as np

from bench.serving import Sums, gradient_arguments, serve_gradient, versions

GRAVITY, MASS_CART, MASS_POLE, HALF_LENGTH, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
X_LIMIT, ANGLE_LIMIT, HORIZON = 2.4, 12 * 2 * np.pi / 360, 500
TOTAL_MASS, POLE_MASS_LENGTH = MASS_CART + MASS_POLE, MASS_POLE * HALF_LENGTH
PER_LANE = 8  # trajectories, one after the other, in one call


def step(state, action):
    """Return the states, shape (4, n), after actions of 0 or 1: CartPole-v1, explicit Euler."""
    x, x_dot, angle, angle_dot = state
    sine, cosine = np.sin(angle), np.cos(angle)
    force = np.where(action == 1, FORCE, -FORCE)
    push = (force + POLE_MASS_LENGTH * angle_dot * angle_dot * sine) / TOTAL_MASS
    angle_acceleration = (GRAVITY * sine - cosine * push) / (
        HALF_LENGTH * (4.0 / 3.0 - MASS_POLE * cosine * cosine / TOTAL_MASS)
    )
    acceleration = push - POLE_MASS_LENGTH * angle_acceleration * cosine / TOTAL_MASS
    return np.stack(
        [
            x + TAU * x_dot,
            x_dot + TAU * acceleration,
            angle + TAU * angle_dot,
            angle_dot + TAU * angle_acceleration,
        ]
    )


def gradient(theta, n_lanes, rng):
    """Return the sums over `PER_LANE` · n_lanes trajectories, n_lanes of them side by side."""
    theta = np.asarray(theta).reshape(2, 5)
    n_trajectories, started = PER_LANE * n_lanes, n_lanes
    state, time = rng.uniform(-0.05, 0.05, (4, n_lanes)), np.zeros(n_lanes, int)
    score = np.zeros((2, 5, n_lanes))
    sums, returns, n_steps = np.zeros((2, 5)), 0, 0
    while len(time):
        features = np.concatenate([state, np.ones((1, len(time)))])
        logits = theta @ features
        left = 1.0 / (1.0 + np.exp(logits[1] - logits[0]))
        action = (rng.random(len(time)) >= left).astype(int)
        error = (action == 0) - left  # of action 0's row; that of action 1's is minus this
        score[0] += error * features
        score[1] -= error * features
        state = step(state, action)
        time += 1
        n_steps += len(time)
        over = np.abs(state[0]) > X_LIMIT
        over |= np.abs(state[2]) > ANGLE_LIMIT
        over |= time >= HORIZON
        over = np.flatnonzero(over)
        total = time[over]  # CartPole pays 1 a step
        sums += score[:, :, over] @ total
        returns += total.sum()
        again = over[: n_trajectories - started]
        started += len(again)
        state[:, again] = rng.uniform(-0.05, 0.05, (4, len(again)))
        score[:, :, again], time[again] = 0.0, 0
        if len(again) < len(over):
            gone = over[len(again) :]
            state, score, time = (np.delete(array, gone, axis=-1) for array in (state, score, time))
    return Sums(sums.ravel(), returns, n_trajectories, n_steps)


def main():
    """Choose the number of trajectories, estimate, and answer."""
    arguments = gradient_arguments(__doc__.splitlines()[0], lanes=[256, 1024, 4096, 16384]).parse_args()
    rng = np.random.default_rng(arguments.seed)
    serve_gradient(
        lambda n: lambda: gradient(arguments.theta, n, rng),
        arguments.lanes,
        arguments.calls,
        {"versions": versions("numpy")},
    )


if __name__ == "__main__":
    main()
