"""What the same work costs with Gymnasium and NumPy alone.

Run as ``python -m bench.gymnasium_reference {student,vector} SECONDS``; prints JSON. Each runs in a
process of its own, so that neither fastpg nor a setting of the caller's BLAS stands in its way.
"""

import argparse
import json
import time

import gymnasium
import numpy as np


def student_gradient(env, theta, n_trajectories, rng):
    """Return the REINFORCE gradient and the number of steps, one trajectory at a time.

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
    n_steps = 0
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
    return gradient / n_trajectories, n_steps


def time_student(seconds):
    """Return (steps, seconds) of `student_gradient` at θ = 0, for at least that many seconds."""
    env = gymnasium.make("CartPole-v1")
    rng = np.random.default_rng(0)
    theta = np.zeros((2, 5))
    student_gradient(env, theta, 10, rng)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        steps += student_gradient(env, theta, 100, rng)[1]
    return steps, time.perf_counter() - started


def time_vector_environment(seconds, num_envs=16384):
    """Return (steps, seconds) of Gymnasium's vectorised CartPole under random actions, without a gradient."""
    envs = gymnasium.make_vec("CartPole-v1", num_envs=num_envs, vectorization_mode="vector_entry_point")
    rng = np.random.default_rng(0)
    actions = [rng.integers(2, size=num_envs) for _ in range(16)]  # drawn beforehand: stepping alone is timed
    envs.reset(seed=0)
    envs.step(actions[0])
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        envs.step(actions[calls % len(actions)])
        calls += 1
    return calls * num_envs, time.perf_counter() - started


def main():
    """Time one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=["student", "vector"])
    parser.add_argument("seconds", type=float)
    arguments = parser.parse_args()
    timed = {"student": time_student, "vector": time_vector_environment}[arguments.which]
    steps, seconds = timed(arguments.seconds)
    print(json.dumps({"steps": steps, "seconds": seconds}))


if __name__ == "__main__":
    main()
