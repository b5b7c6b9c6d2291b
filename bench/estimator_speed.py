"""What estimators cost: GPOMDP beside REINFORCE, and a call with covariance or Fisher information."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import fastpg
from bench.measuring import CORES, Result, alternate, ratios
from bench.policies import BALANCING, UNIFORM
from bench.suites import CARTPOLE, LINEAR
from fastpg import GPOMDP, REINFORCE, RewardToGo
from fastpg.estimators.estimate import Estimate


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    alternations: int
    n_short: int  # trajectories of 22 steps
    n_long: int  # trajectories of 410 steps


FULL, QUICK = Effort(11, 1_000_000, 100_000), Effort(3, 200_000, 10_000)


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
