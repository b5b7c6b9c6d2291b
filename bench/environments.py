"""The table of all registered environments: ``python -m bench.environments [--quick] [--markdown FILE]``.

Million steps a second of the gradient of the policy that fits, and of random actions through the vector
interface; then CartPole's vector environment beside Gymnasium's NumPy one in the same process, from few
environments to many. Other peers: `bench.compare`. Run it from the checkout's root on an idle machine; with
names of environments, only they are measured, and ``--only-sizes`` is the second table alone.
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
from bench.measuring import CORES, Result, alternate, conditions, load, ratios, spread
from fastpg.environment import parameters_of
from fastpg.throughput import DEFAULT_HORIZON, gradient_timer, stepping_timer

NUM_ENVS = 16384
SIZES = (1024, 4096, 16384, 65536)


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


@dataclass(frozen=True)
class Size:
    """A number of CartPoles, M steps/s of fastpg's and Gymnasium's vector environments."""

    num_envs: int
    ours: list[float]
    theirs: list[float]

    def markdown(self) -> str:
        """Return a line of the table."""
        faster = ratios(self.ours, self.theirs)
        speeds = [Result("", "", "", samples).median() for samples in (self.theirs, self.ours, faster)]
        return f"| {self.num_envs:,} | {speeds[0]} | {speeds[1]} | **{speeds[2]} ×** ({spread(faster)}) |"


def sizes(effort: Effort) -> Iterator[Size]:
    """CartPole-v1 beside Gymnasium's NumPy environment, at each size."""
    for n in SIZES:
        print(f"  {n:,} CartPoles", file=sys.stderr, flush=True)
        theirs = gymnasium.make_vec("CartPole-v1", n, vectorization_mode="vector_entry_point")
        vectors = fastpg.make_vec("CartPole-v1", n), theirs
        yield Size(n, *alternate(effort.times, *(stepping_timer(envs, effort.seconds) for envs in vectors)))


def sizes_markdown(rows: list[Size]) -> str:
    """Return the table."""
    lines = [
        "CartPole-v1, random actions through the vector interface, million steps a second: Gymnasium's NumPy "
        f"environment and fastpg's (up to {CORES} threads) in turn, in one process.",
        "",
        "| environments | Gymnasium, NumPy | fastpg | fastpg is faster |",
        "|---|---|---|---|",
    ]
    return "\n".join(lines + [row.markdown() for row in rows]) + "\n"


def table(ids: list[str], effort: Effort) -> Iterator[Row]:
    """A row for each environment."""
    for id in ids:
        spec = fastpg.registry[id]
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
    parser.add_argument("ids", nargs="*", metavar="ID", help="all that are registered unless given")
    parser.add_argument("--only-sizes", action="store_true", help="the second table alone")
    parser.add_argument("--add", action="store_true", help="keep what else is in the JSON file")
    parser.add_argument("--quick", action="store_true", help="shorter, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the table")
    arguments = parser.parse_args()
    if unknown := set(arguments.ids) - set(fastpg.registry):
        parser.error(f"no such environment: {', '.join(sorted(unknown))}")
    effort = QUICK if arguments.quick else FULL
    facts = conditions() | {"effort": "quick" if arguments.quick else "full"}
    ids = [] if arguments.only_sizes else arguments.ids or list(fastpg.registry)
    rows = list(table(ids, effort))
    numbers = list(sizes(effort)) if arguments.only_sizes or not arguments.ids else []
    if arguments.add:
        kept = json.loads(arguments.json.read_text(encoding="utf-8"))
        anew = {row.id for row in rows}
        rows += [Row(**row) for row in kept["table"] if row["id"] not in anew]
        rows.sort(key=lambda row: row.id)
        numbers = numbers or [Size(**size) for size in kept.get("sizes", [])]
    facts["load at end"] = load()
    report = "\n".join(f"- {name}: {value}" for name, value in facts.items()) + "\n\n" + table_markdown(rows)
    if numbers:
        report += "\n" + sizes_markdown(numbers)
    print(report)
    if arguments.markdown:
        arguments.markdown.write_text(f"# Environments\n\n{report}", encoding="utf-8")
    if arguments.json:
        tables = {"table": [asdict(row) for row in rows], "sizes": [asdict(size) for size in numbers]}
        arguments.json.write_text(json.dumps({"conditions": facts} | tables, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
