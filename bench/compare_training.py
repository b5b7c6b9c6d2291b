"""Seconds until the problem is solved, beside other people's learners (`bench.compare`)."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from bench.contestants import installed, settings
from bench.duels import Duel, Effort, not_there
from bench.measuring import ROOT
from bench.peers.solving import STARTED, THRESHOLDS

COMPILED = ("fastpg PPO", "PureJaxRL-style PPO", "RLtools SAC")
LEARNERS: dict[
    str, dict[str, tuple[str, str, tuple[str, ...]]]
] = {  # task: name: policy, package, module and arguments
    "CartPole-v1": {
        "fastpg PPO": ("32-32 tanh", "fastpg", ("fastpg_learner", "--algorithm", "ppo")),
        "SB3 A2C": ("64-64 tanh", "stable_baselines3", ("stable_baselines3_learner", "A2C")),
        "SB3 PPO": ("64-64 tanh", "stable_baselines3", ("stable_baselines3_learner", "PPO")),
        "CleanRL-style PPO": ("64-64 tanh", "torch", ("cleanrl_learner",)),
        "PureJaxRL-style PPO": ("64-64 tanh", "gymnax", ("purejaxrl_learner",)),
        "rlox PPO": ("64-64 tanh", "rlox", ("rlox_learner",)),
    },
    "Pendulum-v1": {
        "fastpg PPO": ("32-32 tanh", "fastpg", ("fastpg_learner", "--algorithm", "ppo")),
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
        if not effort.wants(name):
            continue
        if package == "fastpg":
            runners[name] = sys.executable, f"bench.{module}", tuple(arguments)
        elif installed(peers, package):
            runners[name] = peers, f"bench.peers.{module}", tuple(arguments)
        else:
            yield Duel("training", task, name, skipped=not_there(peers, package))
    told: dict[str, list[dict]] = {name: [] for name in runners}
    first = {}
    for name, (python, module, arguments) in runners.items():
        if name not in ("fastpg", *COMPILED):
            continue
        first[name] = solve(python, module, id, arguments, caches, 0)
        print(f"  {name}, first process: {first[name]}", file=sys.stderr, flush=True)
    for seed in range(effort.seeds):
        for name, (python, module, arguments) in runners.items():
            told[name].append(solve(python, module, id, arguments, caches, seed))
            print(f"  {name}, seed {seed}: {told[name][-1]}", file=sys.stderr, flush=True)
    # The same seed with nothing compiled, and with everything that is kept on the disk.
    extra = {name: max(0.0, first[name]["seconds"] - told[name][0]["seconds"]) for name in first}
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
        about["compile_seconds"] = extra.get(name)
        yield Duel("training", task, name, setting, our_compile_seconds=extra["fastpg"], **about)
