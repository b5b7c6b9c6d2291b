"""What the defaults reach: ``python -m bench.training [--algorithm ppo] [env ...] [--markdown FILE]``.

Trains with the settings of `fastpg.defaults` for ten seeds, as ``fastpg train ENV`` does, and plays the
policies in Gymnasium's own environment, with its start states and its time limit (in fastpg's where
Gymnasium has none; MinAtar's games have no limit). "Solved" is Gymnasium's ``reward_threshold``, over a
hundred episodes as is its custom.
They leave an error of ±0.04 in FrozenLake's return, whose threshold is 0.04 below what the best policy earns:
so there it is a thousand, and in Blackjack, where a game is won or lost, two thousand.

Seconds are processor time of training, on one thread what a clock says where nothing else runs; without
compilation: a first training of two updates compiles. The returns are the same for any number of threads
(``NUMBA_NUM_THREADS``). With ``--add`` a measurement that was stopped goes on at the seed it had come to.
"""

import argparse
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numba
import numpy as np

import fastpg
from bench.measuring import conditions
from fastpg.defaults import ALGORITHMS, settings_for
from fastpg.interop.gymnasium import play

EPISODES = 100
UNLIMITED = 100_000  # steps of an episode where there is no limit
EPISODES_OF = {"FrozenLake-v1": 1000, "FrozenLake8x8-v1": 1000, "Blackjack-v1": 2000}

# What the best policy earns within the time limit, by dynamic programming over Gymnasium's transition tables
# and over the rules of Blackjack. (Of FrozenLake's it depends on the time left, which a policy does not see.)
BEST = {
    "Blackjack-v1": -0.0466,
    "Chain-v0": 3677,
    "CliffWalking-v1": -13.0,
    "CliffWalkingSlippery-v1": -64.7,
    "FrozenLake-v1": 0.744,
    "FrozenLake8x8-v1": 0.913,
    "Taxi-v4": 7.93,
}


@dataclass(frozen=True)
class Outcome:
    """A seed of an environment."""

    seed: int
    mean_return: float  # in Gymnasium's environment
    standard_error: float
    mode_return: float  # of the most probable actions
    n_updates: int
    n_steps: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """An environment."""

    id: str
    policy: str
    estimator: str
    optimizer: str
    n_trajectories: int
    horizon: int
    episodes: int
    threshold: float | None
    outcomes: list[Outcome]

    def markdown(self) -> str:
        """Return a line of the table."""
        returns, modes, updates, steps, seconds = (
            np.array([getattr(outcome, name) for outcome in self.outcomes])
            for name in ("mean_return", "mode_return", "n_updates", "n_steps", "seconds")
        )
        threshold, solved = "–", "–"
        if self.threshold is not None:
            threshold, solved = (
                f"{self.threshold:g}",
                f"{(returns >= self.threshold).sum()} of {len(returns)}",
            )
        best = f"{BEST[self.id]:g}" if self.id in BEST else "–"
        settings = f"{self.policy}, {self.estimator}, {self.optimizer}"
        if self.horizon != fastpg.make(self.id).horizon:
            settings += f", horizon {self.horizon:,}"
        cells = (
            *(self.id, settings, self.n_trajectories),
            *(f"{number(returns.mean())}", f"{number(returns.min())}", f"{number(modes.mean())}"),
            *(
                threshold,
                best,
                solved,
                f"{updates.mean():.0f}",
                millions(steps.mean()),
                f"{seconds.mean():.1f}",
            ),
        )
        return f"| {' | '.join(map(str, cells))} |"


def number(value: float) -> str:
    """Return a return with a sensible number of digits."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def millions(steps: float) -> str:
    """Return a number of steps in millions."""
    return f"{steps / 1e6:.3g}"


def call(value: Any) -> str:
    """Return a class and those fields that are not its defaults and not long."""
    parameters = inspect.signature(type(value)).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters}
    fields = (
        f"{name}={call(item) if hasattr(item, '_fields') else repr(item)}"
        for name, item in zip(value._fields, value, strict=True)
        if name not in defaults or defaults[name] != item
    )
    return f"{type(value).__name__}({', '.join(fields)})"


def described(policy: Any) -> str:
    """Return a policy's class, its features', and its number of parameters."""
    features = getattr(policy, "features", None)
    of = f" of {type(features).__name__}" if hasattr(features, "_fields") else ""
    return f"{type(policy).__name__}{of} ({policy.n_parameters:,})"


def evaluator(env: Any, id: str, horizon: int) -> tuple[int, Callable[..., Any]]:
    """Return the number of episodes, and what plays them."""
    episodes = EPISODES_OF.get(id, EPISODES)
    if hasattr(type(env), "gymnasium_twin"):
        limit = horizon if env.horizon is None else None  # Gymnasium's own, where it has one
        return episodes, lambda *what, **how: play(env, *what, episodes=episodes, horizon=limit, **how)
    limit = UNLIMITED if env.horizon is None else horizon
    return episodes, lambda *what, **how: fastpg.evaluate(
        env, *what, n_trajectories=episodes, horizon=limit, **how
    )


def threshold_of(env: Any) -> float | None:
    """Return Gymnasium's reward threshold."""
    gymnasium_id = getattr(type(env), "gymnasium_id", None)
    return gymnasium.spec(gymnasium_id).reward_threshold if gymnasium_id in gymnasium.registry else None


def measured(
    id: str, n_seeds: int, algorithm: str | None, n_updates: int | None, before: Result | None
) -> Iterator[Result]:
    """Train and evaluate in an environment; yield what is known after each seed.

    The seeds of `before` are not measured again if they are of the same settings.
    """
    env = fastpg.make(id)
    settings = settings_for(env, algorithm, n_updates)
    first = fastpg.train(env, n_updates=2, algorithm=algorithm)  # compiles
    episodes, evaluate = evaluator(env, id, first.horizon)
    result = Result(
        id,
        described(first.policy),
        call(settings.algorithm or first.estimator),
        "Adam"
        if first.optimizer is None
        else call(settings.optimizer or first.optimizer),  # or an algorithm's
        first.n_trajectories,
        first.horizon,
        episodes,
        threshold_of(env),
        [],
    )
    if before is not None and replace(before, outcomes=[]) == result:
        result.outcomes.extend(before.outcomes[:n_seeds])
        yield result
    for seed in range(len(result.outcomes), n_seeds):
        started = time.process_time()
        run = fastpg.train(env, n_updates=n_updates, seed=seed, algorithm=algorithm)
        seconds = time.process_time() - started
        evaluation = evaluate(settings.policy, run.theta, seed=seed)
        mode = evaluate(settings.policy, run.theta, seed=seed, deterministic=True)
        last = run.history[-1]
        result.outcomes.append(
            Outcome(
                seed,
                evaluation.mean_return,
                evaluation.return_standard_error,
                mode.mean_return,
                len(run.history),
                int(last["n_steps"]),
                seconds,
            )
        )
        print(f"  {id}, seed {seed}: {evaluation.mean_return:.3f}", file=sys.stderr, flush=True)
        yield result


def report(facts: dict, results: list[Result]) -> str:
    """Return the table, with the conditions of its measurement."""
    n_seeds = " or ".join(map(str, sorted({len(result.outcomes) for result in results})))
    lines = [
        "# Training with the defaults",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        f"Return: of {EPISODES} episodes a seed in Gymnasium's own environment (FrozenLake: 1,000, "
        "Blackjack: 2,000; MinAtar's games in fastpg's, to their ends), of actions drawn from the policy; "
        f"mean and worst of {n_seeds} seeds, and the "
        "mean return of the most probable actions. Best possible: by dynamic programming. Updates, "
        "environment steps in millions and seconds of processor time (without compilation): means over "
        "seeds.",
        "",
        "| environment | policy (parameters), estimator, optimizer, horizon if another "
        "| N | return | worst | most probable | threshold | best possible | solved "
        "| updates | M steps | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [result.markdown() for result in results]) + "\n"


def read(file: Path) -> list[Result]:
    """Return the results that a JSON file holds."""
    rows = json.loads(file.read_text(encoding="utf-8"))["results"]
    return [Result(**row | {"outcomes": [Outcome(**o) for o in row["outcomes"]]}) for row in rows]


def main() -> None:
    """Train in all environments, or those named, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("env", nargs="*", help="all unless given")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--algorithm", choices=list(ALGORITHMS), help="of these, in place of an estimator")
    parser.add_argument("--updates", type=int, metavar="N", help="in place of the known number")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every seed")
    parser.add_argument("--add", action="store_true", help="keep what the JSON file has")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the table")
    arguments = parser.parse_args()
    unknown = set(arguments.env) - set(fastpg.registry)
    if unknown:
        parser.error(f"no such environment: {', '.join(sorted(unknown))}")
    if arguments.seeds < 1:
        parser.error("--seeds: must be at least 1")
    if arguments.updates is not None and arguments.updates < 1:
        parser.error("--updates: must be at least 1")
    facts = conditions() | {"threads": str(numba.config.NUMBA_NUM_THREADS)}
    kept = arguments.json if arguments.add and arguments.json and arguments.json.exists() else None
    results = {} if kept is None else {result.id: result for result in read(kept)}
    for id in arguments.env or fastpg.registry:
        for result in measured(id, arguments.seeds, arguments.algorithm, arguments.updates, results.get(id)):
            results[id] = result
            facts["load at end"] = conditions()["load at start"]
            rows = [results[id] for id in fastpg.registry if id in results]
            text = report(facts, rows)
            if arguments.markdown:  # after each, as all of them take a while
                arguments.markdown.write_text(text, encoding="utf-8")
            if arguments.json:
                content = {"conditions": facts, "results": [asdict(row) for row in rows]}
                arguments.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
