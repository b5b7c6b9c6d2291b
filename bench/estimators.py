"""Estimators beside each other: ``python -m bench.estimators [--quick] [--peers PYTHON] [--picture FILE]``.

* throughput of GPOMDP against REINFORCE's, and what covariance and Fisher information cost
  (`bench/estimator_speed.py`);
* the same trajectories differentiated by JAX (`bench/estimator_agreement.py`);
* the variance of each estimator, with its exact value where `fastpg.exact` has it
  (`bench/estimator_variance.py`).

What is compared runs in turn, and a ratio is the median of the ratios of neighbours. JAX
may have an interpreter of its own, as in `bench.contestants`; it is left out where it is not installed.
``--picture FILE`` draws the variances, and measures nothing else unless sections are named.
"""

import argparse
import sys
from pathlib import Path

from bench.estimator_agreement import against_jax
from bench.estimator_speed import FULL, QUICK, second_moments, throughput
from bench.estimator_variance import draw, variance
from bench.measuring import Result, conditions, report

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
        panels = variance(effort.n_short)
        for panel in panels:
            results += panel.results()
        if arguments.picture:
            draw(panels, arguments.picture)
    facts["load at end"] = conditions()["load at start"]

    report("Estimators", facts, results, arguments.markdown, arguments.json)


if __name__ == "__main__":
    main()
