"""The table of all registered environments: ``python -m bench.environments [--quick] [--markdown FILE]``.

Million steps a second of the gradient of the policy that fits, and of random actions through the vector
interface. Peers beside them: `bench.compare`. Run it from the checkout's root on an idle machine.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import fastpg
from bench.measuring import CORES, Result, alternate, conditions, load
from fastpg.environment import parameters_of
from fastpg.throughput import DEFAULT_HORIZON, gradient_timer, stepping_timer

NUM_ENVS = 16384


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    seconds: float  # of each measurement
    times: int


FULL, QUICK = Effort(0.3, 5), Effort(0.05, 3)


@dataclass(frozen=True)
class Row:
    """An environment of the registry, and M steps/s."""

    id: str
    parameters: str
    horizon: int | None
    parity: str
    stepping: list[float]
    gradient: list[float]  # empty where there is no linear policy

    def markdown(self) -> str:
        """Return a line of the table."""
        gradient = Result("", "", "", self.gradient).median() if self.gradient else "–"
        stepping = Result("", "", "", self.stepping).median()
        cells = (self.id, self.parameters, self.horizon or "none", self.parity, gradient, stepping)
        return f"| {' | '.join(map(str, cells))} |"


def table(effort: Effort) -> Iterator[Row]:
    """A row for each registered environment."""
    for id, spec in fastpg.registry.items():
        print(f"  {id}", file=sys.stderr, flush=True)
        env = fastpg.make(id)
        stepping = stepping_timer(fastpg.VectorEnv(env, NUM_ENVS), effort.seconds)
        yield Row(
            id,
            described_parameters(spec),
            env.horizon,
            parity(env),
            alternate(effort.times, stepping)[0],
            gradient_speeds(env, effort),
        )


def gradient_speeds(env: Any, effort: Effort) -> list[float]:
    """Return M steps/s of the gradient of the policy that fits, at its initial θ; none if none fits."""
    try:
        policy = fastpg.policy_for(env)
    except ValueError:
        return []
    speed = gradient_timer(env, policy, policy.initial(), effort.seconds)
    return alternate(effort.times, speed)[0]


def parity(env: Any) -> str:
    """Return which Gymnasium the environment is tested against."""
    if type(env).__module__.startswith("fastpg.envs.minatar"):
        return "minatar 1.0.15"
    if getattr(env, "gymnasium_id", None) is None:
        return "own"
    return f"Gymnasium {gymnasium.__version__} `{env.gymnasium_id}`"


def described_parameters(spec: Any) -> str:
    """Return names and defaults, arrays by their shapes."""
    parameters = parameters_of(spec.environment_class()) | spec.parameters
    return ", ".join(f"`{name}={described(value)}`" for name, value in parameters.items()) or "–"


def described(value: Any) -> str:
    """Return a default, in short."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if np.ndim(value) or isinstance(value, np.ndarray):
        return f"array{np.shape(value)}"
    return f"{value}"


def table_markdown(rows: list[Row]) -> str:
    """Return the table."""
    lines = [
        f"Million steps a second on {CORES} threads: the gradient of the policy that `fastpg.policy_for` "
        f"gives, at its initial θ (over {DEFAULT_HORIZON:,} steps where there is no time limit), and random "
        f"actions through the vector interface with {NUM_ENVS:,} environments.",
        "",
        "| environment | parameters and defaults | horizon | parity tested against | gradient | stepping |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [row.markdown() for row in rows]) + "\n"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the table")
    arguments = parser.parse_args()
    facts = conditions() | {"effort": "quick" if arguments.quick else "full"}
    rows = list(table(QUICK if arguments.quick else FULL))
    facts["load at end"] = load()
    report = "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n\n" + table_markdown(rows)
    print(report)
    if arguments.markdown:
        arguments.markdown.write_text(f"# Environments\n\n{report}", encoding="utf-8")
    if arguments.json:
        content = {"conditions": facts, "table": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
