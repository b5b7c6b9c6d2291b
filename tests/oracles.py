"""What fastpg computes, computed the slow and obvious way: plain Python and NumPy, nothing of fastpg."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

_MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
GROUPS = 16


def mix64(z):
    """SplitMix64's output function (Steele, Lea & Flood 2014; Stafford's variant 13)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def unmix64(z):
    """The inverse of mix64, which is a bijection."""

    def unshift(z, shift):
        x = z
        for _ in range(64 // shift):
            x = z ^ (x >> shift)
        return x

    z = (unshift(z, 31) * pow(0x94D049BB133111EB, -1, 2**64)) & _MASK
    z = (unshift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64)) & _MASK
    return unshift(z, 30)


def mix_gamma(z):
    """SplitMix64's odd increments (figure 16 of the paper)."""
    z = ((z ^ (z >> 33)) * 0xFF51AFD7ED558CCD) & _MASK
    z = ((z ^ (z >> 33)) * 0xC4CEB9FE1A85EC53) & _MASK
    z = (z ^ (z >> 33)) | 1
    return z ^ 0xAAAAAAAAAAAAAAAA if (z ^ (z >> 1)).bit_count() < 24 else z


class Stream:
    """The random numbers of one trajectory: step 0 is the reset, step t the t-th transition."""

    def __init__(self, seed, trajectory):
        seed_key = mix64((seed + GOLDEN) & _MASK)
        self.key = mix64((seed_key + GOLDEN * (2 * trajectory)) & _MASK)
        self.gamma = mix_gamma((seed_key + GOLDEN * (2 * trajectory + 1)) & _MASK)

    def uniform(self, step, j, policy=False):
        """Draw j of a step, of the environment's half or the policy's: the upper 52 bits over 2**52."""
        n = step * 2**16 + policy * 2**15 + j
        return (mix64((self.key + n * self.gamma) & _MASK) >> 12) / 2**52


class CartPole(NamedTuple):
    """Gymnasium's CartPole, one step at a time."""

    gravity: float = 9.8
    masscart: float = 1.0
    masspole: float = 0.1
    length: float = 0.5
    force_mag: float = 10.0
    tau: float = 0.02
    theta_threshold_radians: float = 12 * 2 * math.pi / 360
    x_threshold: float = 2.4
    semi_implicit: bool = False
    sutton_barto_reward: bool = False

    def reset(self, stream):
        return tuple(-0.05 + 0.1 * stream.uniform(0, j) for j in range(4))

    def step(self, state, action):
        x, x_dot, theta, theta_dot = state
        force = self.force_mag if action == 1 else -self.force_mag
        costheta, sintheta = math.cos(theta), math.sin(theta)
        total_mass = self.masspole + self.masscart
        polemass_length = self.masspole * self.length
        temp = (force + polemass_length * theta_dot**2 * sintheta) / total_mass
        thetaacc = (self.gravity * sintheta - costheta * temp) / (
            self.length * (4.0 / 3.0 - self.masspole * costheta**2 / total_mass)
        )
        xacc = temp - polemass_length * thetaacc * costheta / total_mass
        if self.semi_implicit:
            x_dot = x_dot + self.tau * xacc
            x = x + self.tau * x_dot
            theta_dot = theta_dot + self.tau * thetaacc
            theta = theta + self.tau * theta_dot
        else:
            x = x + self.tau * x_dot
            x_dot = x_dot + self.tau * xacc
            theta = theta + self.tau * theta_dot
            theta_dot = theta_dot + self.tau * thetaacc
        failed = abs(x) > self.x_threshold or abs(theta) > self.theta_threshold_radians
        reward = (-1.0 if failed else 0.0) if self.sutton_barto_reward else 1.0
        return (x, x_dot, theta, theta_dot), reward, failed


def softmax(logits):
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [weight / math.fsum(weights) for weight in weights]


def probabilities(theta, observation):
    """The linear softmax policy; `theta` holds a row of weights, bias last, for each action."""
    features = [*observation, 1.0]
    rows = np.reshape(theta, (-1, len(features)))
    return softmax([math.fsum(w * x for w, x in zip(row, features, strict=True)) for row in rows.tolist()])


def choose(draw, probabilities):
    """Inversion: the first action whose cumulated probability exceeds the draw."""
    cumulated = 0.0
    for action, probability in enumerate(probabilities[:-1]):
        cumulated += probability
        if draw < cumulated:
            return action
    return len(probabilities) - 1


def score(observation, action, probabilities):
    """The gradient of log π(action | observation)."""
    features = np.array([*observation, 1.0])
    return np.concatenate([((a == action) - p) * features for a, p in enumerate(probabilities)])


class Trajectories(NamedTuple):
    scores: np.ndarray  # (N, P): the sum of the scores along each trajectory
    returns: np.ndarray  # (N,)
    lengths: np.ndarray  # (N,)
    steps: list  # for each trajectory: the scores (T, P), observations (T, F) and rewards (T,) of its steps


@cache
def _simulate(theta, n, seed, horizon, parameters):
    env = CartPole(**dict(parameters))
    scores, returns, lengths, steps = [], [], [], []
    for i in range(n):
        stream = Stream(seed, i)
        state = env.reset(stream)
        g, observations, rewards = [], [], []
        for t in range(1, horizon + 1):
            pi = probabilities(theta, state)
            action = choose(stream.uniform(t, 0, policy=True), pi)
            g.append(score(state, action, pi))
            observations.append(tuple(state))
            state, reward, failed = env.step(state, action)
            rewards.append(reward)
            if failed:
                break
        scores.append(np.sum(g, axis=0))
        returns.append(sum(rewards))
        lengths.append(t)
        steps.append((np.array(g), np.array(observations), np.array(rewards)))
    return Trajectories(np.array(scores), np.array(returns), np.array(lengths), steps)


def simulate(theta, n, seed, horizon, **parameters):
    """Trajectories 0 to n - 1 of a seed under the linear softmax policy on CartPole, one at a time."""
    return _simulate(tuple(np.asarray(theta).tolist()), n, seed, horizon, tuple(sorted(parameters.items())))


def terms(scores, returns, baseline):
    """The N terms x_i = s_i (R_i - b_i), with each b_i computed from the other trajectories themselves."""
    n = len(returns)
    x = np.empty_like(scores)
    for i in range(n):
        if baseline == "none":
            b = 0.0
        elif baseline == "mean":
            b = np.delete(returns, i).mean()
        elif baseline == "optimal":
            others = np.arange(n) % GROUPS != i % GROUPS
            squares = scores[others] ** 2
            numerator, denominator = (squares * returns[others, None]).sum(axis=0), squares.sum(axis=0)
            b = np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1.0), 0.0)
        x[i] = scores[i] * (returns[i] - b)
    return x


def mean_and_error(x):
    """The mean over the first axis and its standard error; NaN for a single one."""
    n = len(x)
    error = x.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.full(x.shape[1:], np.nan)
    return x.mean(axis=0), error


class Gradient(NamedTuple):
    gradient: np.ndarray
    standard_error: np.ndarray
    mean_return: float
    return_standard_error: float
    lengths: np.ndarray


def reinforce(theta, n, seed, horizon, baseline, **parameters):
    """The REINFORCE gradient of the linear softmax policy on CartPole, trajectory by trajectory."""
    scores, returns, lengths, _ = simulate(theta, n, seed, horizon, **parameters)
    gradient, error = mean_and_error(terms(scores, returns, baseline))
    mean_return, return_error = mean_and_error(returns)
    return Gradient(gradient, error, float(mean_return), float(return_error), lengths)


def advantages(rewards, values, next_values, terminated, truncated, discount, decay):
    """Generalised advantages by their definition, a sum of temporal-difference errors for each step."""
    n_steps, n_envs = rewards.shape
    result = np.zeros((n_steps, n_envs))
    for i in range(n_envs):
        for t in range(n_steps):
            for k in range(t, n_steps):
                following = 0.0 if terminated[k, i] else next_values[k, i]
                error = rewards[k, i] + discount * following - values[k, i]
                result[t, i] += (discount * decay) ** (k - t) * error
                if terminated[k, i] or truncated[k, i]:
                    break
    return result
