r"""fastpg's estimators by automatic differentiation in JAX, from given trajectories; imports nothing of it.

``python -m bench.jax_gradient FILE.npz ...`` prints a line of JSON for each file: every estimate that is
asked for, with standard errors, and the Fisher information. `bench.estimator_agreement` writes the files and
compares.

No score is derived by hand, and as little of the rest as can be. With 1[x] = exp(x - stop(x)), which is 1 and
has the derivative of x, the ratio of the probabilities of a trajectory's first k actions under the θ that
is differentiated and the one that drew them is 1[Σ_{t<k} log π_t]; so GPOMDP is the derivative of the
importance-sampled objective itself (Jie & Abbeel 2010; "MagicBox" of Foerster et al. 2018, arXiv 1802.05098):

    Σ_t γ^t (1[Σ_{k≤t} log π_k] r_t + β 1[Σ_{k<t} log π_k] H_t - (1[log π_t] - 1) V_t).

REINFORCE is that of 1[Σ_t log π_t] (R - b), and RewardToGo, which is no function's gradient, that of the
usual surrogate Σ_t log π_t stop(rewards to go) + β H_t. In float64.

A file holds, with N trajectories of at most T steps: `policy` ("softmax", "features", which is the same
without a bias, "tabular" or "gaussian"), `theta`, `observations` (N, T, F) or the features of them, `actions`
(N, T, m), `rewards` (N, T), `lengths` (N,), `asked` (JSON: names with the options of an estimator), for each
name with a fitted baseline its ``values NAME`` (N, T), and `behavior`, a θ, where the trajectories are
another policy's and to be weighted.
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

GROUPS = 16  # into which trajectories are dealt for the optimal baseline
RANK = 1e-10  # singular values of the Fisher information below that, relative to the largest, are zero


# --- policies: log π(a | o) and the entropy of π(· | o) ---


def linear(theta, x):
    """Return the logits of a softmax with a row of weights for each action."""
    return theta.reshape(-1, len(x)) @ x


def categorical(logits):
    """Return a policy, from its logits."""

    def log_prob(theta, observation, action):
        return jax.nn.log_softmax(logits(theta, observation))[action[0].astype(int)]

    def entropy(theta, observation):
        log_pi = jax.nn.log_softmax(logits(theta, observation))
        return -jnp.sum(jnp.exp(log_pi) * log_pi)

    return log_prob, entropy


def gaussian(theta, observation, action):
    """Return log π of independent normal components: rows of weights for the means, then a log σ each."""
    m = len(action)
    mean = theta[:-m].reshape(m, -1) @ jnp.append(observation, 1.0)
    return jnp.sum(jax.scipy.stats.norm.logpdf(action, mean, jnp.exp(theta[-m:])))


def policy_of(kind, n_actions, n_components):
    """Return log_prob and entropy."""
    if kind == "softmax":
        return categorical(lambda theta, observation: linear(theta, jnp.append(observation, 1.0)))
    if kind == "features":
        return categorical(linear)
    if kind == "tabular":
        return categorical(
            lambda theta, observation: theta.reshape(-1, n_actions)[observation[0].astype(int)]
        )
    constant = 0.5 * jnp.log(2.0 * jnp.pi * jnp.e)
    return gaussian, lambda theta, observation: jnp.sum(theta[-n_components:] + constant)


# --- estimators: what is differentiated, for one trajectory ---


def one(x):
    """Return 1, with the derivative of x."""
    return jnp.exp(x - jax.lax.stop_gradient(x))


def later(rewards, discount):
    """Return Σ_{k>t} γ^{k-t} r_k for every t."""
    n = len(rewards)
    distance = jnp.arange(n)[None, :] - jnp.arange(n)[:, None]
    return jnp.where(distance > 0, discount ** jnp.maximum(distance, 0.0), 0.0) @ rewards


def gpomdp(log_pi, entropies, rewards, values, discount):
    """Return the importance-sampled discounted objective, with its bonus, less the baseline's part."""
    so_far = jnp.cumsum(log_pi)
    earned = one(so_far) * rewards + one(so_far - log_pi) * entropies - (one(log_pi) - 1.0) * values
    return jnp.sum(discount ** jnp.arange(len(rewards)) * earned)


def reward_to_go(log_pi, entropies, rewards, values, discount):
    """Return the usual surrogate."""
    to_go = rewards + later(rewards, discount) + later(entropies, discount) - values
    return jnp.sum(log_pi * jax.lax.stop_gradient(to_go) + entropies)


SURROGATES = {"GPOMDP": gpomdp, "RewardToGo": reward_to_go}


# --- estimates ---


class Trajectories:
    """Of a file, with the policy that they are differentiated by."""

    def __init__(self, file):
        self.theta = jnp.asarray(file["theta"])
        self.observations, self.actions = jnp.asarray(file["observations"]), jnp.asarray(file["actions"])
        self.rewards = jnp.asarray(file["rewards"])
        self.alive = jnp.arange(self.rewards.shape[1]) < jnp.asarray(file["lengths"])[:, None]
        n_actions = int(self.actions.max()) + 1  # every action is taken somewhere
        log_prob, entropy = policy_of(str(file["policy"]), n_actions, self.actions.shape[2])
        self.log_prob = jax.vmap(log_prob, (None, 0, 0))  # over steps
        self.entropy = jax.vmap(entropy, (None, 0))
        self.weights = jnp.ones(len(self.rewards))
        if "behavior" in file:
            ratios = self.log_probs(self.theta) - self.log_probs(jnp.asarray(file["behavior"]))
            self.weights = jnp.exp(ratios)

    def log_probs(self, theta):
        """Return log π of all actions of each trajectory."""
        return jax.vmap(lambda o, a, m: jnp.sum(jnp.where(m, self.log_prob(theta, o, a), 0.0)))(
            self.observations, self.actions, self.alive
        )

    def scores(self):
        """Return ∇log π of all actions of each trajectory, shape (N, P)."""
        return jax.jacrev(self.log_probs)(self.theta)

    def terms(self, surrogate, values, discount, beta):
        """Return the derivatives of a surrogate for each trajectory, weighted, shape (N, P)."""

        def of_one(theta, observations, actions, rewards, values, alive):
            log_pi = jnp.where(alive, self.log_prob(theta, observations, actions), 0.0)
            entropies = jnp.where(alive, beta * self.entropy(theta, observations), 0.0)
            return surrogate(log_pi, entropies, rewards, jnp.where(alive, values, 0.0), discount)

        derivative = jax.jit(jax.vmap(jax.grad(of_one), (None, 0, 0, 0, 0, 0)))
        x = derivative(self.theta, self.observations, self.actions, self.rewards, values, self.alive)
        return self.weights[:, None] * x

    def reinforce(self, baseline, discount):
        """Return s (R - b) of each trajectory, b from the others."""
        scores = np.asarray(self.scores())
        returns = np.asarray(self.rewards @ discount ** jnp.arange(self.rewards.shape[1]))
        if baseline == "optimal":
            return less_optimal(scores * returns[:, None], scores)
        n = len(returns)
        x = np.empty_like(scores)
        for i in range(n):
            b = 0.0 if baseline == "none" else np.delete(returns, i).mean()
            x[i] = scores[i] * (returns[i] - b)
        return x

    def with_optimal(self, surrogate, discount, beta):
        """Return the terms of a surrogate with the optimal constant, b from the others."""
        zeros = jnp.zeros_like(self.rewards)
        without, with_one = (
            np.asarray(self.terms(surrogate, values, discount, beta)) for values in (zeros, zeros + 1.0)
        )
        return less_optimal(without, without - with_one)


def less_optimal(a, b):
    """Return a - c b of each trajectory, with c = Σab / Σb² over the trajectories of other groups."""
    n = len(a)
    x = np.empty_like(a)
    for i in range(n):
        others = np.arange(n) % GROUPS != i % GROUPS
        x[i] = a[i] - (a[others] * b[others]).sum(axis=0) / (b[others] ** 2).sum(axis=0) * b[i]
    return x


def answer(file):
    """Return all that is asked for of one file."""
    trajectories = Trajectories(file)
    n = len(trajectories.rewards)
    estimates = {}
    for name, options in json.loads(str(file["asked"])).items():
        kind, baseline, discount = options["estimator"], options["baseline"], options["discount"]
        if kind == "REINFORCE":
            x = trajectories.reinforce(baseline, discount)
        elif baseline == "optimal":
            x = trajectories.with_optimal(SURROGATES[kind], discount, options["entropy"])
        else:
            values = jnp.asarray(file[f"values {name}"])
            x = np.asarray(trajectories.terms(SURROGATES[kind], values, discount, options["entropy"]))
        covariance = np.cov(x.T) / n
        estimates[name] = {"gradient": x.mean(axis=0).tolist(), "covariance": covariance.tolist()}
    scores = np.asarray(trajectories.scores())
    fisher = scores.T @ scores / n
    for estimate in estimates.values():
        natural = np.linalg.pinv(fisher, rcond=RANK, hermitian=True) @ np.array(estimate["gradient"])
        estimate["natural"] = natural.tolist()
    weights = np.asarray(trajectories.weights)
    return {
        "version": f"jax {jax.__version__}",
        "estimates": estimates,
        "fisher": fisher.tolist(),
        "effective_sample_size": float(weights.sum() ** 2 / (weights**2).sum()),
    }


def main():
    """Answer for every file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE.npz")
    for path in parser.parse_args().files:
        with np.load(path) as file:
            print(json.dumps(answer(dict(file))), flush=True)


if __name__ == "__main__":
    main()
