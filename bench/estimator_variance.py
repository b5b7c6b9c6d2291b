"""The variance of each estimator, with its exact value where `fastpg.exact` has it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fastpg.envs import FiniteMDP

import fastpg
from bench.measuring import Result
from bench.policies import UNIFORM
from bench.suites import CARTPOLE, LINEAR
from fastpg import GPOMDP, REINFORCE, exact
from fastpg.estimators.estimate import Estimate


def chain(n_states=5, slip=0.2, horizon=20):
    """Return `fastpg.envs.Chain` as a finite MDP, which the exact answers are for."""
    transition, reward = np.zeros((n_states, 2, n_states)), np.zeros((n_states, 2, n_states))
    for s in range(n_states):
        ahead = min(s + 1, n_states - 1)
        transition[s, :, 0] = 1 - slip, slip
        transition[s, :, ahead] += slip, 1 - slip
        reward[s, :, 0] = 2.0
        reward[s, :, ahead] = 10.0 if s == ahead else 0.0
    return FiniteMDP.from_arrays(transition, reward, np.eye(n_states)[0], horizon=horizon)


class Variances(NamedTuple):
    """What one panel of the picture shows."""

    title: str
    estimates: dict[str, Estimate]
    exact: dict[str, float]  # the total variance of one trajectory, of those estimators that have it

    def results(self) -> Iterator[Result]:
        """Return them as lines of the output."""
        for name, estimate in self.estimates.items():
            variance = estimate.n_trajectories * float(np.sum(estimate.standard_error**2))
            known = f" (exact: {self.exact[name]:.4g})" if name in self.exact else ""
            yield Result(f"variance of a single trajectory: {self.title}", name + known, "", [variance])


def estimators(discount: float) -> dict[str, Any]:
    """Return every estimator of the gradient of the objective with that discount."""
    plain = {f"REINFORCE, {b}": REINFORCE(b, discount) for b in ("none", "mean", "optimal")}
    return plain | {f"GPOMDP, {b}": GPOMDP(discount, b) for b in ("none", "mean", "optimal", "time", "value")}


def chain_variances(n: int, discount: float = 0.9) -> Variances:
    """On the chain, under a policy that advances with probability 0.62, with the exact ones."""
    mdp = chain()
    policy = fastpg.SoftmaxTabular.for_env(mdp)
    theta = np.tile([0.0, 0.5], mdp.n_states)
    options: dict[str, Any] = {"discount": discount}
    truth = exact.policy_gradient(mdp, policy, theta, covariance=True, **options)
    known = {f"REINFORCE, {b}": float(truth.variance(b).sum()) for b in ("none", "mean", "optimal")}
    for b in ("none", "mean", "optimal", "time"):
        matrix = exact.gpomdp_covariance(mdp, policy, theta, baseline=b, **options)
        known[f"GPOMDP, {b}"] = float(np.trace(matrix))
    estimates = {
        name: fastpg.policy_gradient(mdp, policy, theta, estimator, n_trajectories=n)
        for name, estimator in estimators(discount).items()
    }
    return Variances(f"Chain, 5 states, {mdp.horizon} steps, γ = {discount}", estimates, known)


def cartpole_variances(n: int) -> Variances:
    """On CartPole where training starts."""
    estimates = {
        name: fastpg.policy_gradient(CARTPOLE, LINEAR, UNIFORM, estimator, n_trajectories=n)
        for name, estimator in estimators(1.0).items()
    }
    return Variances("CartPole-v1, uniform policy, γ = 1", estimates, {})


def draw(panels: list[Variances], path: Path) -> None:
    """Draw the variances side by side."""
    from matplotlib.figure import Figure

    from fastpg import plots

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    for ax, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        plots.variance_by_estimator(panel.estimates, ax)
        ax.set_title(f"{panel.title}; {next(iter(panel.estimates.values())).n_trajectories:,} trajectories")
        rows = [i for i, name in enumerate(panel.estimates) if name in panel.exact]
        if rows:
            values = [panel.exact[name] for name in panel.estimates if name in panel.exact]
            ax.plot(values, rows, "|", color="C3", ms=22, mew=2, label="exact")
            ax.legend(loc="lower right")
    plots.save(figure, path)


def variance(n: int) -> list[Variances]:
    """Return both panels, each of n trajectories."""
    return [chain_variances(n), cartpole_variances(n)]
