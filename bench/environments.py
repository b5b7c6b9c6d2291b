"""Every environment, and peers beside them: ``python -m bench.environments [--quick] [--peers PYTHON]``.

* gradients of linear policies against gymnax (`bench/gymnax_gradient.py`);
* CartPole through the vector interface against Gymnasium's own vector environments and EnvPool;
* the table of all registered environments.

As in `bench.speed`, what is compared runs in turn, and a ratio is the median of the ratios of neighbours.
gymnax 1.0 wants an older Gymnasium than fastpg is tested with, so the peers may have an interpreter of
their own: ``python3 -m venv peers && peers/bin/pip install gymnax six envpool``, then ``--peers
peers/bin/python``. Those that are not installed are left out. Run it from the checkout's root on an idle
machine, without OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import fastpg
from bench.speed import CORES, ROOT, Result, alternate, conditions, markdown, print_table, ratios
from fastpg.environment import parameters_of

ESTIMATOR = fastpg.REINFORCE("mean")
TABLE_ENVS = 16384
TABLE_HORIZON = 1000  # of gradients where there is no time limit

# Seeds of the random θ: where an environment can end, some trajectories do, so that the returns differ. Under
# MountainCarContinuous's the car stays off the left wall, which gymnax 1.0.1 lets it run against unstopped.
THETA_SEEDS = {
    "CartPole-v1": 1,
    "MountainCar-v0": 238,
    "MountainCarContinuous-v0": 4,
    "Acrobot-v1": 1,
    "Pendulum-v1": 1,
}

# Steps a number of environments: "id num_envs batch_size num_threads"; answers a number of seconds by steps
# and seconds. Asynchronous if the batch is smaller than the number of environments.
ENVPOOL = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import envpool, numpy as np
n, batch, threads = map(int, sys.argv[2:])
envs = envpool.make(sys.argv[1], "gymnasium", num_envs=n, batch_size=batch, num_threads=threads, seed=0)
rng = np.random.default_rng(0)
actions = [rng.integers(2, size=batch, dtype=np.int32) for _ in range(16)]
asynchronous = batch < n
envs.async_reset() if asynchronous else envs.reset()
print(json.dumps({"versions": "envpool " + envpool.__version__}), flush=True)
calls = 0
for line in sys.stdin:
    seconds, first, started = float(line), calls, time.perf_counter()
    while time.perf_counter() - started < seconds:
        if asynchronous:
            info = envs.recv()[-1]
            envs.send(actions[calls % 16], info["env_id"])
        else:
            envs.step(actions[calls % 16])
        calls += 1
    print(json.dumps(((calls - first) * batch, time.perf_counter() - started)), flush=True)
"""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    alternations: int
    seconds: float  # of each measurement
    table_seconds: float
    table_times: int
    lanes: tuple[int, ...]  # of gymnax, both forms with the first
    gymnax_ids: tuple[str, ...]
    num_envs: tuple[int, ...]


FULL = Effort(7, 0.7, 0.3, 5, (1024, 256, 4096, 16384), tuple(THETA_SEEDS), (1024, 4096, 16384, 65536))
QUICK = Effort(3, 0.1, 0.05, 3, (1024,), ("CartPole-v1",), (1024, 16384))


class Peer:
    """One or more processes of another interpreter that time themselves when asked."""

    def __init__(self, *command: str, processes: int = 1):
        settings = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        settings["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={CORES}"
        settings["JAX_PLATFORMS"] = "cpu"
        self.errors = tempfile.TemporaryFile("w+")
        self.processes = [
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=settings,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
            )
            for _ in range(processes)
        ]
        self.facts = [self._read(process) for process in self.processes][0]

    def speed(self, seconds: float) -> float:
        """Return M steps/s of all processes together, at work for that long."""
        for process in self.processes:
            process.stdin.write(f"{seconds}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        return sum(steps / taken for steps, taken in map(self._read, self.processes)) / 1e6

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.stdin.close()  # type: ignore[union-attr]
            process.stdout.close()  # type: ignore[union-attr]
            process.wait()
        self.errors.close()

    def _read(self, process) -> Any:
        line = process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{' '.join(process.args)}:\n{self.errors.read()}")
        return json.loads(line)


def installed(peers: str, package: str) -> bool:
    """Whether that interpreter can import a package."""
    command = [peers, "-W", "ignore", "-c", f"import {package}"]
    return subprocess.run(command, capture_output=True).returncode == 0


# --- gradients ---


def random_theta(env: Any, policy: Any, seed: int) -> np.ndarray:
    """Return normal weights, of observations in the units of their bounds; σ = 1 for continuous actions."""
    high = env.observation_space.high.astype(np.float64)
    scale = np.append(np.where(high < 1.0, high, 1.0), 1.0)
    theta = policy.initial()
    rows = len(theta) // len(scale)
    weights = np.random.default_rng(seed).normal(size=(rows, len(scale))) / scale
    theta[: weights.size] = weights.ravel()
    return theta


def gradient_timer(env: Any, policy: Any, theta: np.ndarray, seconds: float) -> Callable[[], float]:
    """Return what measures M steps/s of one gradient with as many trajectories as fill the time."""
    horizon = env.horizon or TABLE_HORIZON

    def run(n):
        return fastpg.policy_gradient(
            env, policy, theta, ESTIMATOR, n_trajectories=n, horizon=horizon, threads=CORES
        )

    run(2)  # compiles
    n, estimate = 1000, run(1000)
    while estimate.seconds < seconds / 4:
        n *= 4
        estimate = run(n)
    n = max(2, int(n * seconds / estimate.seconds))

    def speed() -> float:
        estimate = run(n)
        return estimate.n_steps / estimate.seconds / 1e6

    return speed


def against_gymnax(effort: Effort, peers: str) -> Iterator[Result]:
    """The same gradient in both, first for its value and then for its speed."""
    if not installed(peers, "gymnax"):
        yield Result("gradient of a linear policy", "gymnax", skipped=f"{peers} cannot import it")
        return
    for id in effort.gymnax_ids:
        env = fastpg.make(id)
        policy = fastpg.policy_for(env)
        theta = random_theta(env, policy, THETA_SEEDS[id])
        speed = gradient_timer(env, policy, theta, effort.seconds)
        gymnax = Peer(
            *(peers, "-m", "bench.gymnax_gradient", id, json.dumps(theta.tolist())),
            *("--lanes", *map(str, effort.lanes)),
        )
        facts = gymnax.facts
        estimate = fastpg.policy_gradient(env, policy, theta, ESTIMATOR, n_trajectories=100_000)
        section = f"{id}, gradient, {CORES} threads; {facts['versions']}, {facts['devices']} XLA devices"
        yield Result(section, *agreement(estimate, facts))
        ours, theirs = alternate(effort.alternations, speed, lambda: gymnax.speed(effort.seconds))  # noqa: B023
        gymnax.close()
        yield Result(section, "fastpg", "M steps/s", ours)
        yield Result(section, f"gymnax: {facts['best']}", "M steps/s", theirs)
        yield Result(section, "gymnax: to compile", "s", [facts["compile_seconds"]])
        yield Result(section, "fastpg / gymnax", "×", ratios(ours, theirs))


def agreement(estimate: fastpg.estimators.estimate.Estimate, facts: dict) -> tuple[str, str, list[float]]:
    """Return the largest difference in standard errors, described."""
    ours = np.append(estimate.gradient, estimate.mean_return)
    errors = np.append(estimate.standard_error, estimate.return_standard_error)
    combined = np.hypot(errors, facts["standard_error"])
    difference = np.abs(ours - facts["mean"])
    z = float(np.max(difference / np.where(combined > 0.0, combined, 1.0)))
    verdict = "" if z < 5.0 else "DIFFERENT: "
    print(f"  {verdict}|fastpg − gymnax| ≤ {z:.2f} standard errors", file=sys.stderr, flush=True)
    what = f"{verdict}largest difference of {len(ours) - 1} components and the mean return"
    return what, "standard errors", [z]


# --- stepping ---


def random_actions(space: Any, num_envs: int) -> list[Any]:
    """Return 16 batches, drawn beforehand: stepping alone is timed."""
    batched = gymnasium.vector.utils.batch_space(space, num_envs)
    batched.seed(0)
    return [batched.sample() for _ in range(16)]


def stepping_timer(envs: Any, seconds: float) -> Callable[[], float]:
    """Return what measures M steps/s of a vector environment under random actions."""
    actions = random_actions(envs.single_action_space, envs.num_envs)
    envs.reset(seed=0)
    envs.step(actions[0])  # compiles

    def speed() -> float:
        calls, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            envs.step(actions[calls % len(actions)])
            calls += 1
        return calls * envs.num_envs / (time.perf_counter() - started) / 1e6

    return speed


def best_envpool(peers: str, seconds: float) -> tuple[str, Peer]:
    """Return EnvPool with the fastest of some settings, and which they are."""
    settings = {  # processes, environments, batch, threads
        "asynchronous, 4,096 environments, batch 1,024, 1 thread": (1, 4096, 1024, 1),
        f"asynchronous, 4,096 environments, batch 1,024, {CORES} threads": (1, 4096, 1024, CORES),
        f"asynchronous, 4,096 environments, batch 1,024, 1 thread in each of {CORES} processes": (
            *(CORES, 4096, 1024, 1),
        ),
        "synchronous, 1,024 environments, 1 thread": (1, 1024, 1024, 1),
        f"synchronous, 4,096 environments, {CORES} threads": (1, 4096, 4096, CORES),
    }
    measured = {}
    for name, (processes, *numbers) in settings.items():
        peer = Peer(peers, "-c", ENVPOOL, "CartPole-v1", *map(str, numbers), processes=processes)
        measured[name] = max(peer.speed(seconds) for _ in range(3)), peer
    best = max(measured, key=lambda name: measured[name][0])
    for name, (_, peer) in measured.items():
        if name != best:
            peer.close()
    return best, measured[best][1]


def vector_interface(effort: Effort, peers: str) -> Iterator[Result]:
    """CartPole-v1, random actions, the next step resets (NEXT_STEP)."""
    envpool = None
    if installed(peers, "envpool"):
        name, envpool = best_envpool(peers, effort.seconds)
    else:
        yield Result("vector interface", "EnvPool", skipped=f"{peers} cannot import it")
    for num_envs in effort.num_envs:
        section = f"CartPole-v1 through the vector interface, {num_envs:,} environments"
        ours = stepping_timer(fastpg.make_vec("CartPole-v1", num_envs), effort.seconds)
        others = {"Gymnasium's CartPoleVectorEnv": gymnasium_timer(num_envs, "vector_entry_point", effort)}
        if num_envs == 1024:
            others["SyncVectorEnv"] = gymnasium_timer(num_envs, "sync", effort)
        if envpool is not None:
            others[f"{envpool.facts['versions']} ({name})"] = lambda: envpool.speed(effort.seconds)
        speeds = alternate(effort.alternations, ours, *others.values())
        yield Result(section, "fastpg", "M steps/s", speeds[0])
        for other, theirs in zip(others, speeds[1:], strict=True):
            yield Result(section, other, "M steps/s", theirs)
            yield Result(section, f"fastpg / {other.partition(' (')[0]}", "×", ratios(speeds[0], theirs))
    if envpool is not None:
        envpool.close()


def gymnasium_timer(num_envs: int, mode: str, effort: Effort) -> Callable[[], float]:
    """Return what measures Gymnasium's own."""
    envs = gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode=mode)
    return stepping_timer(envs, effort.seconds)


# --- the table ---


@dataclass(frozen=True)
class Row:
    """An environment of the registry, and M steps/s."""

    id: str
    parameters: str
    horizon: int | None
    parity: str
    stepping: list[float]
    gradient: list[float] = field(default_factory=list)  # empty where there is no linear policy

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
        stepping = stepping_timer(fastpg.VectorEnv(env, TABLE_ENVS), effort.table_seconds)
        yield Row(
            id,
            described_parameters(spec),
            env.horizon,
            parity(env),
            alternate(effort.table_times, stepping)[0],
            gradient_speeds(env, effort),
        )


def gradient_speeds(env: Any, effort: Effort) -> list[float]:
    """Return M steps/s of the gradient of the policy that fits, at its initial θ; none if none fits."""
    try:
        policy = fastpg.policy_for(env)
    except ValueError:
        return []
    speed = gradient_timer(env, policy, policy.initial(), effort.table_seconds)
    return alternate(effort.table_times, speed)[0]


def parity(env: Any) -> str:
    """Return which Gymnasium the environment is tested against."""
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
        f"gives, at its initial θ (over {TABLE_HORIZON:,} steps where there is no time limit), and random "
        f"actions through the vector interface with {TABLE_ENVS:,} environments.",
        "",
        "| environment | parameters and defaults | horizon | parity tested against | gradient | stepping |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [row.markdown() for row in rows]) + "\n"


# --- the run ---

SECTIONS = ("gymnax", "stepping", "table")


def main() -> None:
    """Run all sections, or those named, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sections", nargs="*", metavar="section", help=f"all unless given: {', '.join(SECTIONS)}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs, to see that it works")
    parser.add_argument(
        "--peers", default=sys.executable, metavar="PYTHON", help="interpreter that has gymnax and envpool"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the tables")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    chosen = arguments.sections or SECTIONS

    effort = QUICK if arguments.quick else FULL
    facts = conditions() | {"effort": "quick" if arguments.quick else "full"}
    results: list[Result] = []
    rows: list[Row] = []
    for name, section in (("gymnax", against_gymnax), ("stepping", vector_interface)):
        if name in chosen:
            print(f"{name} ...", file=sys.stderr, flush=True)
            results += section(effort, arguments.peers)
    if "table" in chosen:
        print("table ...", file=sys.stderr, flush=True)
        rows += table(effort)
    facts["load at end"] = conditions()["load at start"]

    print_table(facts, results)
    print(table_markdown(rows))
    if arguments.markdown:
        report = f"# Environments\n\n{markdown(facts, results)}\n{table_markdown(rows)}"
        arguments.markdown.write_text(report, encoding="utf-8")
    if arguments.json:
        content = {
            "conditions": facts,
            "results": [asdict(result) for result in results],
            "table": [asdict(row) for row in rows],
        }
        arguments.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
