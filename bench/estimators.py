"""Estimators beside each other: ``python -m bench.estimators [--quick] [--peers PYTHON] [--picture FILE]``.

* throughput of GPOMDP against REINFORCE's, and what covariance and Fisher information cost;
* the same trajectories differentiated by JAX (`bench/jax_gradient.py`);
* the variance of each estimator, with its exact value where `fastpg.exact` has it.

What is compared runs in turn, and a ratio is the median of the ratios of neighbours. JAX
may have an interpreter of its own, as in `bench.contestants`; it is left out where it is not installed.
``--picture FILE`` draws the variances, and measures nothing else unless sections are named.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fastpg.envs import FiniteMDP

import fastpg
from bench.contestants import installed
from bench.measuring import (
    CORES,
    ROOT,
    Result,
    alternate,
    conditions,
    ratios,
    report,
)
from bench.policies import BALANCING, UNIFORM
from fastpg import GPOMDP, REINFORCE, RewardToGo, exact
from fastpg.arguments import check_horizon
from fastpg.estimators.estimate import Estimate
from fastpg.estimators.problem import Problem
from fastpg.random import next_step, policy_rng, seed_key, trajectory_rng


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    alternations: int
    n_short: int  # trajectories of 22 steps
    n_long: int  # trajectories of 410 steps


FULL, QUICK = Effort(11, 1_000_000, 100_000), Effort(3, 200_000, 10_000)

CARTPOLE = fastpg.make("CartPole-v1")
LINEAR = fastpg.SoftmaxLinear.for_env(CARTPOLE)
AGREEMENT = 1e-8  # with JAX, relative to the largest component


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


# --- throughput ---


def timed(
    env: Any, policy: Any, theta: Any, n: int, estimator: Any, **options: Any
) -> Callable[[], Estimate]:
    """Return what makes one estimate on all cores."""
    return lambda: fastpg.policy_gradient(
        env, policy, theta, estimator, n_trajectories=n, threads=CORES, **options
    )


def speed(gradient: Callable[[], Estimate]) -> Callable[[], float]:
    """Return what measures M steps/s of a gradient, the pilot batch of its baseline included."""

    def measure() -> float:
        estimate = gradient()
        return estimate.n_steps / estimate.seconds / 1e6

    return measure


def seconds(gradient: Callable[[], Estimate]) -> Callable[[], float]:
    """Return what measures the seconds of a gradient."""
    return lambda: gradient().seconds


def throughput(effort: Effort) -> Iterator[Result]:
    """GPOMDP and RewardToGo against REINFORCE without a baseline, of short and of long trajectories."""
    compared = {
        "GPOMDP(0.99)": GPOMDP(0.99),
        'GPOMDP(0.99, "time")': GPOMDP(0.99, "time"),
        'GPOMDP(0.99, "value")': GPOMDP(0.99, "value"),
        "RewardToGo(0.99)": RewardToGo(0.99),
        'GPOMDP(0.99, "optimal")': GPOMDP(0.99, "optimal"),
        'REINFORCE("optimal")': REINFORCE("optimal"),
    }
    for theta, n, length in ((UNIFORM, effort.n_short, 22), (BALANCING, effort.n_long, 410)):
        section = f"CartPole-v1, SoftmaxLinear, N = {n:,} trajectories of {length} steps, {CORES} threads"
        plain = speed(timed(CARTPOLE, LINEAR, theta, n, REINFORCE()))
        others = [speed(timed(CARTPOLE, LINEAR, theta, n, estimator)) for estimator in compared.values()]
        pairs = [alternate(effort.alternations, plain, other) for other in others]
        yield Result(section, "REINFORCE()", "M steps/s", [s for reference, _ in pairs for s in reference])
        for name, (reference, values) in zip(compared, pairs, strict=True):
            yield Result(section, f"{name} / REINFORCE()", "×", ratios(values, reference))


def second_moments(effort: Effort) -> Iterator[Result]:
    """What a covariance and a Fisher information matrix cost."""
    n = effort.n_short
    section = f"CartPole-v1, SoftmaxLinear, {LINEAR.n_parameters} parameters, N = {n:,}: time of a call"
    for name, estimator in (("REINFORCE()", REINFORCE()), ("GPOMDP(0.99)", GPOMDP(0.99))):
        plain = seconds(timed(CARTPOLE, LINEAR, UNIFORM, n, estimator))
        for option in ("covariance", "fisher"):
            more = seconds(timed(CARTPOLE, LINEAR, UNIFORM, n, estimator, **{option: True}))
            longer, plainly = alternate(effort.alternations, more, plain)
            yield Result(section, f"{name}, {option}=True / without", "×", ratios(longer, plainly))


# --- the same trajectories in JAX ---


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


# --- variances ---


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


def variance(effort: Effort) -> list[Variances]:
    """Return both panels."""
    return [chain_variances(effort.n_short), cartpole_variances(effort.n_short)]


# --- the run ---

TIMED = (throughput, second_moments)
SECTIONS = (*(section.__name__ for section in TIMED), "jax", "variance")


def main() -> None:
    """Run all sections, or those named, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sections", nargs="*", metavar="section", help=f"all unless given: {', '.join(SECTIONS)}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs, to see that it works")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help="interpreter that has JAX")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the table")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the variance of each estimator")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    chosen = arguments.sections or (["variance"] if arguments.picture else SECTIONS)

    effort = QUICK if arguments.quick else FULL
    facts = conditions() | {"effort": "quick" if arguments.quick else "full"}
    results: list[Result] = []
    for section in TIMED:
        if section.__name__ in chosen:
            print(f"{section.__name__} ...", file=sys.stderr, flush=True)
            results += section(effort)
    if "jax" in chosen:
        print("jax ...", file=sys.stderr, flush=True)
        results += against_jax(arguments.peers)
    if "variance" in chosen:
        print("variance ...", file=sys.stderr, flush=True)
        panels = variance(effort)
        for panel in panels:
            results += panel.results()
        if arguments.picture:
            draw(panels, arguments.picture)
    facts["load at end"] = conditions()["load at start"]

    report("Estimators", facts, results, arguments.markdown, arguments.json)


if __name__ == "__main__":
    main()
