"""Seconds until the problem is solved, beside other people's learners (`bench.compare`)."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from bench.contestants import installed, settings
from bench.duels import Duel, Effort, failed, not_there
from bench.measuring import ROOT
from bench.peers.solving import STARTED, THRESHOLDS

PATIENCE = 300.0  # seconds until a process has solved its problem
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
    try:
        done = subprocess.run(command, cwd=ROOT, env=names, text=True, capture_output=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"not solved within {PATIENCE:.0f} s") from error
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
    first, failures = {}, {}

    def run(name, seed):
        """Run a learner once, and note if a peer's fails: it does not run again."""
        if name in failures:
            return None
        python, module, arguments = runners[name]
        try:
            done = solve(python, module, id, arguments, caches, seed)
        except RuntimeError as error:
            if name == "fastpg":
                raise
            failures[name] = failed(error)
            print(f"  {name}: {error}", file=sys.stderr, flush=True)
            return None
        print(f"  {name}, seed {seed}: {done}", file=sys.stderr, flush=True)
        return done

    for name in runners:
        if name in ("fastpg", *COMPILED):
            first[name] = run(name, 0)
    for seed in range(effort.seeds):
        for name in runners:
            told[name].append(run(name, seed))
    for name, why in failures.items():
        yield Duel("training", task, name, skipped=why)
        del runners[name]
    # The same seed with nothing compiled, and with everything that is kept on the disk.
    extra = {
        name: max(0.0, first[name]["seconds"] - told[name][0]["seconds"]) for name in first if name in runners
    }
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
