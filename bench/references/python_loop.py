"""What a student writes: one trajectory at a time with Gymnasium and NumPy, in float64.

``python -m bench.references.python_loop THETA`` answers as `bench.serving` has it.
"""

import gymnasium
import numpy as np

from bench.serving import Sums, gradient_arguments, serve_gradient, versions


def gradient(env, theta, n_trajectories, rng):
    """Return the sums over so many trajectories.

    Parameters
    ----------
    env : gymnasium.Env
        CartPole.
    theta : array, shape (2, 5)
        A row for each action, the bias last.
    n_trajectories : int
    rng : numpy.random.Generator
    """
    gradient = np.zeros_like(theta)
    returns, n_steps = 0.0, 0
    for _ in range(n_trajectories):
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        score, total, done = np.zeros_like(theta), 0.0, False
        while not done:
            features = np.append(observation, 1.0)
            logits = theta @ features
            weights = np.exp(logits - logits.max())
            probabilities = weights / weights.sum()
            action = int(rng.random() >= probabilities[0])
            error = -probabilities
            error[action] += 1.0
            score += np.outer(error, features)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += reward
            done = terminated or truncated
            n_steps += 1
        gradient += score * total
        returns += total
    return Sums(gradient.ravel(), returns, n_trajectories, n_steps)


def main():
    """Estimate, and answer."""
    arguments = gradient_arguments(__doc__.splitlines()[0], lanes=[20]).parse_args()
    env = gymnasium.make("CartPole-v1")
    rng = np.random.default_rng(arguments.seed)
    theta = np.array(arguments.theta).reshape(2, 5)
    facts = {"versions": versions("gymnasium", "numpy")}
    serve_gradient(lambda n: lambda: gradient(env, theta, n, rng), arguments.lanes, arguments.calls, facts)


if __name__ == "__main__":
    main()
