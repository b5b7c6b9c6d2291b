"""Features and tables beside the plain linear policy: ``python -m bench.features [--quick]``.

M steps a second of the gradient on CartPole-v1 at θ = 0, where a trajectory has 22 steps, for more and more
parameters, and of a tabular policy on FrozenLake8x8-v1; relative to the linear policy of 10 parameters on
CartPole-v1. What is compared runs in turn; a ratio is the median of the ratios of neighbours.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import fastpg
from bench.estimator_speed import speed, timed
from bench.measuring import CORES, Result, alternate, conditions, ratios, report
from bench.policies import UNIFORM
from bench.suites import CARTPOLE, LINEAR
from fastpg import REINFORCE
from fastpg.features import Fourier, Polynomial, RadialBasis, TileCoding

FEATURES = {
    "Polynomial(1)": Polynomial(1),
    "Fourier(1)": Fourier(1),
    "Polynomial((3, 3, 1, 1))": Polynomial((3, 3, 1, 1)),
    "Fourier((3, 3, 1, 1))": Fourier((3, 3, 1, 1)),
    "RadialBasis((4, 4, 2, 2))": RadialBasis((4, 4, 2, 2), normalised=True),
    "Polynomial((4, 4, 4, 3))": Polynomial((4, 4, 4, 3)),
    "Fourier((4, 4, 4, 3))": Fourier((4, 4, 4, 3)),
    "TileCoding(8, 3)": TileCoding(8, 3),
}


def measured(alternations: int, scale: float) -> Iterator[Result]:
    """Measure each in turn with the linear policy."""

    def gradients(env, policy, n):
        theta = policy.initial()
        return speed(timed(env, policy, theta, int(n * scale), REINFORCE()))

    section = f"CartPole-v1, θ = 0, REINFORCE(), {CORES} threads"
    for name, features in FEATURES.items():
        policy = fastpg.SoftmaxLinear.for_env(CARTPOLE, features=features)
        n = 20_000_000 // max(policy.n_parameters, 32)
        ours, plain = alternate(
            alternations, gradients(CARTPOLE, policy, n), gradients(CARTPOLE, LINEAR, 600_000)
        )
        label = f"{name}, P = {policy.n_parameters:,}"
        yield Result(section, label, "M steps/s", ours)
        yield Result(section, f"{label} / P = {len(UNIFORM)}", "×", ratios(ours, plain))
    lake = fastpg.make("FrozenLake8x8-v1")
    table = fastpg.SoftmaxTabular.for_env(lake)
    ours, plain = alternate(
        alternations, gradients(lake, table, 500_000), gradients(CARTPOLE, LINEAR, 600_000)
    )
    section = f"SoftmaxTabular on FrozenLake8x8-v1, uniform policy, REINFORCE(), {CORES} threads"
    yield Result(section, f"P = {table.n_parameters}", "M steps/s", ours)
    yield Result(section, "SoftmaxLinear on CartPole-v1", "M steps/s", plain)
    yield Result(section, "ratio", "×", ratios(ours, plain))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the table")
    arguments = parser.parse_args()
    facts = conditions() | {"effort": "quick" if arguments.quick else "full"}
    results = []
    for result in measured(*((3, 0.2) if arguments.quick else (7, 1.0))):
        print(f"{result.quantity}: {result.median()}", file=sys.stderr, flush=True)
        results.append(result)
    facts["load at end"] = conditions()["load at start"]
    report("Features and tables", facts, results, arguments.markdown, arguments.json)


if __name__ == "__main__":
    main()
