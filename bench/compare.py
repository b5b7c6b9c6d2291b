"""The comparison that settles the question: ``python -m bench.compare [--quick] [--peers PYTHON]``.

fastpg beside the references (`bench/references`) and the peers (`bench/peers`), in one run on one machine:

* `gradient`: the same REINFORCE gradient, checked to be the same before it is timed;
* `stepping`: random actions through the vector interface;
* `training`: seconds from the start of the process until the problem is solved, greedy, in Gymnasium.

What is compared runs in turn, A B C A B C, so that a machine which slows down slows all; a ratio is the
median of the ratios within rounds. Each peer runs at the fastest of the settings that are tried, with all
cores; time to compile is told apart. In the tables the strongest peer stands first. Peers may have an
interpreter of their own (`bench.contestants`); what is not installed is skipped, and a line says so. Run it
from the checkout's root on an idle machine. ``--publish`` writes the table and the picture that the README
shows.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import fastpg
from bench.contestants import Setting, fastest, installed, settings, timer
from bench.measuring import CORES, ROOT, alternate, conditions, load, ratios, run_fresh, spread, three_digits
from bench.peers.solving import STARTED, THRESHOLDS
from bench.policies import BALANCING, UNIFORM
from bench.references import yardstick
from fastpg.throughput import gradient_timer, stepping_timer

RESULTS = ROOT / "bench" / "results"
MAX_DIFFERENCE = 5.0  # in standard errors, of any component

# Seeds of the random θ: where an environment can end, some trajectories do, so that the returns differ. Under
# MountainCarContinuous's the car stays off the left wall, which gymnax 1.0.1 lets it run against unstopped.
THETA_SEEDS = {
    "CartPole-v1": 1,
    "MountainCar-v0": 238,
    "MountainCarContinuous-v0": 4,
    "Acrobot-v1": 1,
    "Pendulum-v1": 1,
}


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float  # of each measurement
    lanes: tuple[int, ...]  # trajectories at once, of each reference
    ids: tuple[str, ...]
    num_envs: tuple[int, ...]
    seeds: int


FULL = Effort(7, 0.7, (1024, 256, 4096, 16384), tuple(THETA_SEEDS), (1024, 16384, 65536), 3)
QUICK = Effort(3, 0.1, (1024, 16384), ("CartPole-v1",), (16384,), 1)


@dataclass(frozen=True)
class Duel:
    """One contestant beside fastpg, or why there is none."""

    section: str
    task: str
    peer: str
    setting: str = ""
    unit: str = "M steps/s"
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    compile_seconds: float | None = None
    our_compile_seconds: float | None = None
    difference: float | None = None  # in standard errors
    skipped: str = ""
    notes: str = ""

    def ratios(self) -> list[float]:
        """Return how many times as fast fastpg is, in each round."""
        faster = (self.theirs, self.ours) if self.unit == "s" else (self.ours, self.theirs)
        return ratios(*faster)

    def ratio(self) -> float:
        """Return their median."""
        return statistics.median(self.ratios())

    def cells(self) -> list[str]:
        """Return a line of the table."""
        if self.skipped:
            return [self.peer, f"skipped: {self.skipped}", "", "", "", ""]
        quartiles = spread(self.ratios())
        return [
            self.peer + (f" ({self.setting})" if self.setting else ""),
            three_digits(statistics.median(self.theirs)),
            three_digits(statistics.median(self.ours)),
            f"**{three_digits(self.ratio())} ×**" + (f" ({quartiles})" if quartiles else ""),
            f"{_seconds(self.compile_seconds)} / {_seconds(self.our_compile_seconds)}",
            self.notes or ("" if self.difference is None else f"{self.difference:.1f} standard errors"),
        ]


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def first_call_seconds(code: str) -> float:
    """Return the seconds of a first call in a fresh process, whose kernel is not on the disk."""
    with tempfile.TemporaryDirectory() as empty:
        return float(run_fresh("-c", code, cache=Path(empty))[1])


FIRST_GRADIENT = """
import sys, time, fastpg
env = fastpg.make("{id}")
policy = fastpg.policy_for(env)
started = time.perf_counter()
fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=2)
print(time.perf_counter() - started)
"""
FIRST_STEP = """
import time, fastpg
envs = fastpg.make_vec("{id}", 2)
started = time.perf_counter()
envs.reset(seed=0)
envs.step(envs.action_space.sample())
print(time.perf_counter() - started)
"""


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


def difference(estimate: Any, facts: dict) -> float:
    """Return the largest difference of a component, or of the mean return, in standard errors."""
    ours = np.append(estimate.gradient, estimate.mean_return)
    errors = np.append(estimate.standard_error, estimate.return_standard_error)
    combined = np.hypot(errors, facts["standard_error"])
    return float(np.max(np.abs(ours - facts["mean"]) / np.where(combined > 0.0, combined, 1.0)))


def reference(name: str, theta: np.ndarray, *more: str, lanes: tuple[int, ...] = ()) -> tuple[str, ...]:
    """Return the arguments of Python that run a reference."""
    sizes = ("--lanes", *map(str, lanes)) if lanes else ()
    return ("-W", "ignore", "-m", f"bench.references.{name}", json.dumps(theta.tolist()), *sizes, *more)


def c_facts(theta: np.ndarray, n: int = 100_000) -> dict:
    """Return the C program's estimate, as the references tell theirs."""
    sums, _ = yardstick.sums(theta, n, seed=1, threads=CORES)
    mean = np.append(sums.sr, sums.r) / n
    squares = np.append(sums.s2r2, sums.r2) / n
    return {"mean": mean, "standard_error": np.sqrt((squares - mean**2) / (n - 1))}


def c_timer(theta: np.ndarray, seconds: float) -> Callable[[], float]:
    """Return what measures M steps/s of the C program."""
    first = yardstick.gradient(theta, 20_000, threads=CORES)
    n = max(1000, int(20_000 * seconds / first.seconds))

    def speed() -> float:
        estimate = yardstick.gradient(theta, n, threads=CORES)
        return estimate.n_steps / estimate.seconds / 1e6

    return speed


def gradient_settings(
    id: str, theta: np.ndarray, effort: Effort, peers: str
) -> Iterator[tuple[str, str, list[Setting]]]:
    """Yield the references: name, package that it needs, and the ways to run it."""
    jax = reference("jax_gymnax", theta, "--id", id, lanes=effort.lanes)
    yield "JAX, gymnax", "gymnax", [Setting("", (peers, *jax))]
    if id != "CartPole-v1":
        return
    torch = (peers, *reference("torch_autograd", theta, lanes=effort.lanes))
    yield (
        "PyTorch, autograd",
        "torch",
        [
            Setting(f"{CORES} processes", torch, CORES),
            Setting(f"{CORES} threads", (*torch, "--threads", str(CORES))),
        ],
    )
    numpy = (sys.executable, *reference("numpy_vectorised", theta, lanes=effort.lanes))
    yield "NumPy, vectorised", "numpy", [Setting(f"{CORES} processes", numpy, CORES)]
    loop = (sys.executable, *reference("python_loop", theta))
    yield "Python loop over Gymnasium", "gymnasium", [Setting(f"{CORES} processes", loop, CORES)]


def gradients(effort: Effort, peers: str) -> Iterator[Duel]:
    """The same gradient of a linear policy."""
    tasks = {}
    for id in effort.ids:
        if id == "CartPole-v1":
            tasks[f"{id}, 22 steps a trajectory"] = id, UNIFORM
            tasks[f"{id}, 410 steps a trajectory"] = id, BALANCING
        else:
            env = fastpg.make(id)
            tasks[id] = id, random_theta(env, fastpg.policy_for(env), THETA_SEEDS[id])
    for task, (id, theta) in tasks.items():
        yield from gradient_duels(task, id, theta, effort, peers)


def gradient_duels(task: str, id: str, theta: np.ndarray, effort: Effort, peers: str) -> Iterator[Duel]:
    """One θ of one environment."""
    env = fastpg.make(id)
    policy = fastpg.policy_for(env)
    estimate = fastpg.policy_gradient(env, policy, theta, n_trajectories=100_000)
    ours_to_compile = first_call_seconds(FIRST_GRADIENT.format(id=id))
    timers, duels, contestants = [], [], []

    def enter(name, setting, facts, speed):
        off = difference(estimate, facts)
        if off > MAX_DIFFERENCE:
            raise RuntimeError(f"{name}, {task}: another gradient, by {off:.1f} standard errors")
        about = {"compile_seconds": facts.get("compile_seconds"), "difference": off}
        about["our_compile_seconds"] = ours_to_compile
        duels.append(Duel("gradient", task, name, setting, **about))
        timers.append(speed)

    if id == "CartPole-v1" and yardstick.compiler() is None:
        yield Duel("gradient", task, "C by hand", skipped="no gcc")
    elif id == "CartPole-v1":
        setting = f"{' '.join(yardstick.FLAGS)}, {CORES} threads, float64"
        enter("C by hand", setting, c_facts(theta), c_timer(theta, effort.seconds))
    for name, package, candidates in gradient_settings(id, theta, effort, peers):
        if not installed(candidates[0].command[0], package):
            yield Duel("gradient", task, name, skipped=not_there(peers, package))
            continue
        how, contestant = fastest(candidates, effort.seconds)
        contestants.append(contestant)
        facts = contestant.facts
        kind = "float64" if name.startswith(("NumPy", "Python")) else "float32"
        setting = ", ".join(filter(None, (facts["versions"], facts["setting"], how, kind)))
        enter(name, setting, facts, timer(contestant, effort.seconds))
    ours = gradient_timer(env, policy, theta, effort.seconds, threads=CORES)
    yield from fought(duels, effort.rounds, ours, timers)
    for contestant in contestants:
        contestant.close()


def fought(duels: list[Duel], rounds: int, ours: Callable, timers: list[Callable]) -> Iterator[Duel]:
    """Run all in turn; yield the duels with what was measured."""
    measured = alternate(rounds, ours, *timers)
    for duel, theirs in zip(duels, measured[1:], strict=True):
        yield replace(duel, ours=measured[0], theirs=theirs)


def not_there(python: str, package: str) -> str:
    """Return why something is skipped."""
    return f"{os.path.relpath(python) if os.path.isabs(python) else python} cannot import {package}"


# --- stepping ---


def stepping(effort: Effort, peers: str) -> Iterator[Duel]:
    """Random actions through the vector interface."""
    for id in effort.ids:
        yield from stepping_duels(id, effort, peers)


def stepping_settings(id: str, effort: Effort, peers: str) -> Iterator[tuple[str, str, list[Setting]]]:
    """Yield the peers: name, package, and the ways to run it."""

    def setting(python, name, peer, num_envs, *more, processes=1):
        command = (python, "-W", "ignore", "-m", "bench.peers.stepping", peer, id, str(num_envs), *more)
        return Setting(name, command, processes)

    ours, many, cores = sys.executable, effort.num_envs, str(CORES)
    if id == "CartPole-v1":
        yield (
            "Gymnasium, NumPy",
            "gymnasium",
            [
                setting(
                    ours, f"{n:,} environments in each of {p} processes", "gymnasium_numpy", n, processes=p
                )
                for n in many
                for p in {1, CORES}
            ],
        )
        yield (
            "rlox",
            "rlox",
            [
                setting(peers, f"{n:,} environments", "rlox", n, "--threads", cores)
                for n in (512, 4096, 16384)
            ],
        )
    one = ("--batch", "1024", "--threads", "1")
    yield (
        "EnvPool",
        "envpool",
        [
            setting(peers, "asynchronous, 4,096 environments, batch 1,024, 1 thread", "envpool", 4096, *one),
            setting(
                peers,
                f"asynchronous, 4,096 environments, batch 1,024, {cores} threads",
                *("envpool", 4096, "--batch", "1024", "--threads", cores),
            ),
            setting(
                peers,
                f"asynchronous, 4,096 environments, batch 1,024, 1 thread in each of {cores} processes",
                *("envpool", 4096, *one),
                processes=CORES,
            ),
            setting(peers, "synchronous, 1,024 environments, 1 thread", "envpool", 1024),
        ],
    )
    yield "gymnax", "gymnax", [setting(peers, f"{n:,} environments", "gymnax", n) for n in many]
    yield (
        "Gymnasium, sync",
        "gymnasium",
        [
            setting(
                ours, f"64 environments in each of {cores} processes", "gymnasium_sync", 64, processes=CORES
            )
        ],
    )


def stepping_duels(id: str, effort: Effort, peers: str) -> Iterator[Duel]:
    """One environment; fastpg at its fastest number of environments too."""
    task = f"{id}, random actions"
    vectors = {n: stepping_timer(fastpg.make_vec(id, n), effort.seconds) for n in effort.num_envs}
    speeds = {n: statistics.median(alternate(3, speed)[0]) for n, speed in vectors.items()}
    best = max(speeds, key=speeds.__getitem__)
    ours_to_compile = first_call_seconds(FIRST_STEP.format(id=id))
    timers, duels, contestants = [], [], []
    for name, package, candidates in stepping_settings(id, effort, peers):
        if not installed(candidates[0].command[0], package):
            yield Duel("stepping", task, name, skipped=not_there(peers, package))
            continue
        how, contestant = fastest(candidates, effort.seconds)
        contestants.append(contestant)
        facts = contestant.facts
        setting = ", ".join(filter(None, (facts["versions"], how, facts.get("setting"))))
        about = {"compile_seconds": facts.get("compile_seconds"), "notes": f"fastpg: {best:,} environments"}
        about["our_compile_seconds"] = ours_to_compile
        duels.append(Duel("stepping", task, name, setting, **about))
        timers.append(timer(contestant, effort.seconds))
    yield from fought(duels, effort.rounds, vectors[best], timers)
    for contestant in contestants:
        contestant.close()


# --- training ---

LEARNERS: dict[
    str, dict[str, tuple[str, str, tuple[str, ...]]]
] = {  # task: name: policy, package, module and arguments
    "CartPole-v1": {
        "SB3 A2C": ("64-64 tanh", "stable_baselines3", ("stable_baselines3_learner", "A2C")),
        "SB3 PPO": ("64-64 tanh", "stable_baselines3", ("stable_baselines3_learner", "PPO")),
        "CleanRL-style PPO": ("64-64 tanh", "torch", ("cleanrl_learner",)),
        "PureJaxRL-style PPO": ("64-64 tanh", "gymnax", ("purejaxrl_learner",)),
        "rlox PPO": ("64-64 tanh", "rlox", ("rlox_learner",)),
    },
    "Pendulum-v1": {
        "SB3 PPO": ("64-64 tanh", "stable_baselines3", ("stable_baselines3_learner", "PPO")),
        "RLtools SAC": ("64-64-64 relu", "rltools", ("rltools_learner",)),
    },
}


def solve(python: str, module: str, id: str, arguments: tuple[str, ...], caches: str, seed: int) -> dict:
    """Train in a fresh process; return what it told, and its seconds without the checks."""
    names = settings() | {"FASTPG_CACHE_DIR": f"{caches}/fastpg", "TMPDIR": caches}
    names |= {"JAX_COMPILATION_CACHE_DIR": f"{caches}/jax", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    names.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [python, "-W", "ignore", "-m", module, id, *arguments, "--seed", str(seed)]
    started = time.perf_counter()
    names[STARTED] = str(time.time())
    done = subprocess.run(command, cwd=ROOT, env=names, text=True, capture_output=True)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    return told | {"seconds": seconds - told["checking_seconds"]}


def training(effort: Effort, peers: str) -> Iterator[Duel]:
    """Seconds from the start of the process until the problem is solved."""
    for id in (id for id in LEARNERS if id in effort.ids):
        with tempfile.TemporaryDirectory() as caches:
            yield from training_duels(id, effort, peers, caches)


def training_duels(id: str, effort: Effort, peers: str, caches: str) -> Iterator[Duel]:
    """One problem: a first process with nothing compiled, then a process for each seed."""
    task = f"{id}, until {THRESHOLDS[id]:g}"
    runners = {"fastpg": (sys.executable, "bench.fastpg_learner", ())}
    for name, (_, package, (module, *arguments)) in LEARNERS[id].items():
        if installed(peers, package):
            runners[name] = peers, f"bench.peers.{module}", tuple(arguments)
        else:
            yield Duel("training", task, name, skipped=not_there(peers, package))
    told: dict[str, list[dict]] = {name: [] for name in runners}
    first = {}
    for name, (python, module, arguments) in runners.items():
        first[name] = solve(python, module, id, arguments, caches, 0)
        print(f"  {name}, first process: {first[name]}", file=sys.stderr, flush=True)
    for seed in range(effort.seeds):
        for name, (python, module, arguments) in runners.items():
            told[name].append(solve(python, module, id, arguments, caches, seed))
            print(f"  {name}, seed {seed}: {told[name][-1]}", file=sys.stderr, flush=True)
    # The same seed with nothing compiled, and with everything that is kept on the disk.
    extra = {name: max(0.0, first[name]["seconds"] - told[name][0]["seconds"]) for name in runners}
    ours = [run["seconds"] for run in told["fastpg"]]
    steps = statistics.median(run["steps"] for run in told["fastpg"])
    for name in list(runners)[1:]:
        runs = told[name]
        theirs = [run["seconds"] for run in runs]
        solved = sum(run["solved"] for run in runs)
        startup = statistics.median(run["until_training"] for run in runs)
        notes = (
            f"solved {solved} of {len(runs)}; {statistics.median(run['steps'] for run in runs):,.0f} steps "
            f"(fastpg {steps:,.0f}); {startup:.1f} s before training"
        )
        setting = f"{LEARNERS[id][name][0]}, {runs[0]['versions']}"
        about = {"unit": "s", "ours": ours, "theirs": theirs, "notes": notes}
        about["compile_seconds"] = extra[name] if "compile_seconds" in runs[0] else None
        yield Duel("training", task, name, setting, our_compile_seconds=extra["fastpg"], **about)


# --- the report ---

SECTIONS = {"gradient": gradients, "stepping": stepping, "training": training}
HEADINGS = {
    "gradient": (
        "REINFORCE gradient, linear policy",
        "million environment steps a second; fastpg in float64, with standard errors and what every baseline "
        "needs, the others (but C) without either",
        "agreement before timing",
    ),
    "stepping": (
        "Stepping through the vector interface",
        "million environment steps a second; actions drawn beforehand, but by gymnax, which runs "
        "without Python",
        "",
    ),
    "training": (
        "Training until solved",
        "seconds of the whole process, import included, checks not: 100 greedy episodes in Gymnasium every "
        "1,000 steps or update; to compile: what a process takes longer with nothing compiled on the disk; "
        "fastpg by REINFORCE with the defaults of the environment",
        "",
    ),
}


def ordered(duels: list[Duel]) -> list[Duel]:
    """Return them with the strongest peer of each task first, those that were skipped last."""
    tasks = sorted(
        {duel.task for duel in duels},
        key=lambda task: ([task.startswith(id) for id in THETA_SEEDS].index(True), task),
    )
    return sorted(duels, key=lambda d: (tasks.index(d.task), bool(d.skipped), 0 if d.skipped else d.ratio()))


def markdown(facts: dict[str, str], duels: list[Duel]) -> str:
    """Return the report."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    for section, (title, what, last) in HEADINGS.items():
        chosen = ordered([duel for duel in duels if duel.section == section])
        if not chosen:
            continue
        lines += ["", f"## {title}", "", f"{what[0].upper()}{what[1:]}.", ""]
        lines += [
            f"| | peer | fastpg | fastpg is faster (quartiles) | to compile: peer / fastpg | {last} |",
            "|---|---|---|---|---|---|",
        ]
        task = None
        for duel in chosen:
            if duel.task != task:
                task = duel.task
                lines.append(f"| **{task}** | | | | | |")
            lines.append(f"| {' | '.join(duel.cells())} |")
    return "\n".join(lines) + "\n"


def summary(facts: dict[str, str], duels: list[Duel]) -> str:
    """Return the README's table: one line a contest, the strongest peers first."""
    lines = [
        f"One run of `python -m bench.compare` on {facts['date'][:10]}: "
        f"{facts['processor']}, {facts['versions']}; "
        f"commit {facts['commit']}. Medians with quartiles; the strongest peer first.",
        "",
        "| | peer | fastpg | fastpg is faster |",
        "|---|---|---|---|",
    ]
    for section, (title, _, _) in HEADINGS.items():
        chosen = ordered([duel for duel in duels if duel.section == section])
        task = None
        for duel in chosen:
            if duel.task != task:
                task = duel.task
                unit = "seconds" if duel.unit == "s" else "M steps/s"
                lines.append(f"| **{title}: {task}**, {unit} | | | |")
            peer, theirs, ours, ratio, *_ = duel.cells()
            lines.append(f"| {duel.peer} | {theirs} | {ours} | {ratio} |")
    return "\n".join(lines) + "\n"


def draw(duels: list[Duel], path: Path) -> None:
    """Draw the contests as bars on logarithmic scales: one panel a unit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    chosen = [duel for duel in ordered(duels) if not duel.skipped]
    tasks = list(dict.fromkeys((duel.section, duel.task) for duel in chosen))
    panels = [[task for task in tasks if (task[0] == "training") is timed] for timed in (False, True)]
    panels = [panel for panel in panels if panel]
    bars = [[d for d in chosen if (d.section, d.task) in panel] for panel in panels]
    heights = [len(some) + 2.2 * len(panel) for some, panel in zip(bars, panels, strict=True)]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(8.5, 0.19 * sum(heights) + 1.2), squeeze=False, height_ratios=heights
    )
    for ax, panel in zip(axes[:, 0], panels, strict=True):
        y, ticks = 0.0, []
        for section, task in panel:
            some = [d for d in chosen if (d.section, d.task) == (section, task)]
            y -= 1.2
            title = {"gradient": "Gradient:", "stepping": "Stepping:", "training": ""}[section]
            ticks.append((y, f"{title} {task}".strip(), True))
            rows = [("fastpg", some[0].ours, "tab:green")]
            rows += [(d.peer, d.theirs, "tab:gray") for d in some]
            rows.sort(key=lambda row: statistics.median(row[1]), reverse=section != "training")
            for name, samples, colour in rows:
                y -= 1.0
                value = statistics.median(samples)
                ax.barh(y, value, height=0.8, color=colour)
                ax.text(value * 1.05, y, three_digits(value), va="center", fontsize=7)
                ticks.append((y, name, False))
        ax.set_xscale("log")
        ax.set_yticks([tick for tick, _, _ in ticks], [name for _, name, _ in ticks], fontsize=7)
        for label, (_, _, heading) in zip(ax.get_yticklabels(), ticks, strict=True):
            label.set_fontweight("bold" if heading else "normal")
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(y - 0.8, 0)
        ax.set_xlabel(
            "seconds until solved (shorter is better)"
            if panel[0][0] == "training"
            else "million steps a second"
        )
        ax.spines[["top", "right"]].set_visible(False)
        values = [
            statistics.median(x) for d in chosen if (d.section, d.task) in panel for x in (d.ours, d.theirs)
        ]
        ax.set_xlim(10.0 ** np.floor(np.log10(min(values)) - 0.3), max(values) * 2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def publish(facts: dict[str, str], duels: list[Duel]) -> None:
    """Write the table between the README's markers, and the picture that it shows."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split("<!-- compare -->\n", 1)
    _, after = rest.split("<!-- end -->", 1)
    picture = "![fastpg and its peers](bench/results/compare.png)\n\n"
    readme.write_text(
        f"{before}<!-- compare -->\n{picture}{summary(facts, duels)}<!-- end -->{after}", encoding="utf-8"
    )


def read(path: Path) -> tuple[dict[str, str], list[Duel]]:
    """Return what a run has kept."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["conditions"], [Duel(**duel) for duel in content["duels"]]


def main() -> None:
    """Run all sections, or those named, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sections", nargs="*", metavar="section", help=f"all unless given: {', '.join(SECTIONS)}"
    )
    parser.add_argument("--ids", nargs="+", metavar="ID", help=f"of {', '.join(THETA_SEEDS)}")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, to see that it works")
    parser.add_argument(
        "--peers", default=sys.executable, metavar="PYTHON", help="interpreter that has the peers"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of compare.json, .md and .png")
    parser.add_argument("--add", action="store_true", help="keep what else is in compare.json")
    parser.add_argument("--publish", action="store_true", help="write the README's table as well")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    chosen = arguments.sections or list(SECTIONS)
    effort = QUICK if arguments.quick else FULL
    if arguments.ids:
        if not set(arguments.ids) <= set(THETA_SEEDS):
            parser.error(f"--ids {' '.join(arguments.ids)}: there are {', '.join(THETA_SEEDS)}")
        effort = replace(effort, ids=tuple(arguments.ids))
    facts = conditions() | {"effort": "quick" if arguments.quick else "full"}
    kept = arguments.out / "compare.json"
    before = read(kept)[1] if arguments.add and kept.exists() else []
    duels: list[Duel] = []
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        for duel in SECTIONS[name](effort, arguments.peers):
            duels.append(duel)
            print(f"  {duel.task}: {' | '.join(duel.cells())}", file=sys.stderr, flush=True)
    facts["load at end"] = load()
    anew = {(duel.section, duel.task) for duel in duels}
    duels += [duel for duel in before if (duel.section, duel.task) not in anew]

    arguments.out.mkdir(parents=True, exist_ok=True)
    content = {"conditions": facts, "duels": [asdict(duel) for duel in duels]}
    kept.write_text(json.dumps(content, indent=1), encoding="utf-8")
    report = markdown(facts, duels)
    (arguments.out / "compare.md").write_text(f"# fastpg and its peers\n\n{report}", encoding="utf-8")
    draw(duels, arguments.out / "compare.png")
    if arguments.publish:
        publish(facts, duels)
    print(report)


if __name__ == "__main__":
    main()
