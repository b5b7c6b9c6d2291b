"""The same trajectories differentiated by JAX (`bench/jax_gradient.py`): how far apart the answers are."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastpg
from bench.contestants import installed
from bench.estimator_variance import chain
from bench.measuring import ROOT, Result
from bench.suites import CARTPOLE, LINEAR
from fastpg import GPOMDP, REINFORCE, RewardToGo
from fastpg.arguments import check_horizon
from fastpg.estimators.problem import Problem
from fastpg.random import next_step, policy_rng, seed_key, trajectory_rng

AGREEMENT = 1e-8  # relative to the largest component


class Case(NamedTuple):
    """A small problem, as `bench.jax_gradient` is given it."""

    kind: str  # of policy
    env: Any
    policy: Any
    theta: np.ndarray
    behavior: np.ndarray  # another θ, not far
    horizon: int
    n_trajectories: int = 300
    seed: int = 7


def cases() -> dict[str, Case]:
    """Return one problem for each kind of policy."""
    mdp, plant = chain(), fastpg.make("LinearQuadratic-v0")
    table, gaussian = fastpg.SoftmaxTabular.for_env(mdp), fastpg.GaussianLinear.for_env(plant)
    normal = np.random.default_rng(1).normal
    linear_theta, table_theta = normal(0.0, 0.5, LINEAR.n_parameters), normal(0.0, 0.5, table.n_parameters)
    stable = np.array([-1.0, -1.5, 0.1, -0.5])  # a push towards the origin; σ = 0.6
    fourier = fastpg.SoftmaxLinear.for_env(CARTPOLE, features=fastpg.features.Fourier(1))
    waves = normal(0.0, 0.2, fourier.n_parameters)
    return {
        "CartPole-v1": Case("softmax", CARTPOLE, LINEAR, linear_theta, 0.9 * linear_theta, 40),
        "CartPole-v1, Fourier(1)": Case("features", CARTPOLE, fourier, waves, 0.9 * waves, 30),
        "Chain": Case("tabular", mdp, table, table_theta, 0.9 * table_theta, 20),
        "LinearQuadratic-v0": Case("gaussian", plant, gaussian, stable, stable + 0.05, 20),
    }


ASKED = {
    "REINFORCE": REINFORCE(),
    "REINFORCE, mean": REINFORCE("mean"),
    "REINFORCE, optimal, discounted": REINFORCE("optimal", 0.9),
    "GPOMDP": GPOMDP(0.99),
    "GPOMDP, mean": GPOMDP(0.99, "mean"),
    "GPOMDP, optimal": GPOMDP(0.99, "optimal"),
    "GPOMDP, time": GPOMDP(0.99, "time"),
    "GPOMDP, value": GPOMDP(0.99, "value"),
    "GPOMDP, value, entropy": GPOMDP(0.9, "value", 0.5),
    "RewardToGo, time": RewardToGo(0.99, "time"),
    "RewardToGo, optimal": RewardToGo(0.9, "optimal"),
    "RewardToGo, value, entropy": RewardToGo(0.9, "value", 0.5),
}
ASKED_WEIGHTED = {
    "GPOMDP, time, weighted": GPOMDP(0.99, "time"),
    "RewardToGo, entropy, weighted": RewardToGo(0.99, entropy=0.5),
}
WITH_COVARIANCE = ("REINFORCE, mean", "GPOMDP, time")  # one of each kind: every one is a kernel to compile


def replay(case: Case, theta: np.ndarray) -> dict[str, np.ndarray]:
    """Return a case's trajectories under θ, in ordinary Python by the methods of policy and environment."""
    env, policy = case.env, case.policy
    horizon, key = check_horizon(env, case.horizon), seed_key(case.seed)
    steps: list[list[tuple]] = []
    for i in range(case.n_trajectories):
        rng = trajectory_rng(key, i)
        state, over = env.reset(rng), False
        steps.append([])
        while not over and len(steps[-1]) < horizon:
            rng, observation = next_step(rng), env.observe(state)
            action = policy.sample(theta, observation, policy_rng(rng))
            state, reward, over = env.step(state, action, rng)
            steps[-1].append((np.atleast_1d(observation), np.atleast_1d(action), reward))
    lengths = np.array([len(trajectory) for trajectory in steps])
    arrays = {"lengths": lengths}
    for k, name in enumerate(("observations", "actions", "rewards")):
        arrays[name] = np.zeros((len(steps), lengths.max(), *np.shape(steps[0][0][k])))
        for i, trajectory in enumerate(steps):
            arrays[name][i, : lengths[i]] = [step[k] for step in trajectory]
    return arrays


def fitted_values(case: Case, estimator: Any, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return what an estimator's fitted baseline says of every step, shape (N, T)."""
    problem = Problem(
        case.env, case.policy, case.theta, case.n_trajectories, case.horizon, case.seed, 0, None, []
    )
    baseline = estimator.accumulator(problem).baseline
    values = np.zeros(arrays["rewards"].shape)
    discrete = hasattr(case.env.observation_space, "n")
    for i, n in enumerate(arrays["lengths"]):
        for t in range(n):
            o = arrays["observations"][i, t]
            values[i, t] = baseline.value(int(o[0]) if discrete else o, t)
    return values


def write_case(case: Case, asked: dict[str, Any], path: Path, weighted: bool) -> dict[str, np.ndarray]:
    """Write what `bench.jax_gradient` reads, and return the trajectories."""
    arrays = replay(case, case.behavior if weighted else case.theta)
    more = {"behavior": case.behavior} if weighted else {}
    for name, estimator in asked.items():
        if not isinstance(estimator, REINFORCE) and estimator.baseline != "optimal":
            more[f"values {name}"] = fitted_values(case, estimator, arrays)
    options = {
        name: {"estimator": type(estimator).__name__} | estimator._asdict()
        for name, estimator in asked.items()
    }
    seen = {"observations": case.policy.features(arrays["observations"])} if case.kind == "features" else {}
    np.savez(path, policy=case.kind, theta=case.theta, asked=json.dumps(options), **arrays | seen, **more)
    return arrays


def in_jax(peers: str, files: list[Path]) -> list[dict]:
    """Return the answers of `bench.jax_gradient`, or raise RuntimeError with what it printed."""
    command = [peers, "-W", "ignore", "-m", "bench.jax_gradient", *map(str, files)]
    process = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{process.stderr}")
    return [json.loads(line) for line in process.stdout.splitlines()]


def differences(case: Case, peers: str) -> dict[str, float]:
    """Return the largest difference of each quantity, fastpg's and JAX's, relative to its largest component.

    Raises RuntimeError if the replayed trajectories are not those of the estimates.
    """
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory, f"{name}.npz") for name in ("own", "weighted")]
        sets = (ASKED, ASKED_WEIGHTED)
        played = [
            write_case(case, asked, file, asked is ASKED_WEIGHTED)
            for asked, file in zip(sets, files, strict=True)
        ]
        answers = in_jax(peers, files)
    found = {}
    for asked, answer, arrays in zip(sets, answers, played, strict=True):
        weighted = asked is ASKED_WEIGHTED
        options: dict[str, Any] = {"behavior": case.behavior} if weighted else {"fisher": True}
        for name, estimator in asked.items():
            estimate = fastpg.policy_gradient(
                case.env,
                case.policy,
                case.theta,
                estimator,
                n_trajectories=case.n_trajectories,
                seed=case.seed,
                horizon=case.horizon,
                covariance=name in WITH_COVARIANCE,
                **options,
            )
            steps = round(estimate.mean_length * case.n_trajectories)  # without those of a pilot batch
            if steps != arrays["lengths"].sum():
                raise RuntimeError(f"{name}: {steps} steps, replayed {arrays['lengths'].sum()}")
            jax = answer["estimates"][name]
            error = np.sqrt(np.diagonal(jax["covariance"]))
            found[name] = relative(estimate.gradient, jax["gradient"])
            found[f"{name}: standard error"] = relative(estimate.standard_error, error)
            if estimate.covariance is not None:
                found[f"{name}: covariance"] = relative(estimate.covariance, jax["covariance"])
            if not weighted:
                natural = fastpg.natural_gradient(estimate.gradient, estimate.fisher)
                found["Fisher information"] = relative(estimate.fisher, answer["fisher"])
                found[f"{name}: natural gradient"] = relative(natural, jax["natural"])
            else:
                size = answer["effective_sample_size"]
                found["effective sample size"] = relative(estimate.effective_sample_size, size)
    return found


def relative(ours: Any, theirs: Any) -> float:
    """Return the largest difference, relative to the largest number."""
    return float(np.max(np.abs(np.asarray(ours) - theirs)) / np.max(np.abs(theirs)))


def against_jax(peers: str) -> Iterator[Result]:
    """Gradients, errors and matrices from the same trajectories: the largest difference of each kind."""
    if not installed(peers, "jax"):
        yield Result("the same trajectories in JAX", "largest difference", skipped=f"{peers} has no JAX")
        return
    for name, case in cases().items():
        section = f"{name}, {type(case.policy).__name__}: largest difference to JAX, of the largest component"
        for quantity, difference in differences(case, peers).items():
            if not difference <= AGREEMENT:
                print(f"  DIFFERENT: {name}, {quantity}: {difference:.1e}", file=sys.stderr, flush=True)
            yield Result(section, quantity, "", [difference])
