"""Random actions through the vector interface, beside other people's (`bench.compare`)."""

import statistics
import sys
from collections.abc import Iterator

import fastpg
from bench.contestants import Setting, fastest, installed, timer
from bench.duels import Duel, Effort, failed, first_call_seconds, fought, not_there
from bench.measuring import CORES, alternate
from fastpg.throughput import stepping_timer

FIRST_STEP = """
import time, fastpg
envs = fastpg.make_vec("{id}", 2)
started = time.perf_counter()
envs.reset(seed=0)
envs.step(envs.action_space.sample())
print(time.perf_counter() - started)
"""


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
        if not effort.wants(name):
            continue
        if not installed(candidates[0].command[0], package):
            yield Duel("stepping", task, name, skipped=not_there(peers, package))
            continue
        try:
            how, contestant = fastest(candidates, effort.seconds)
        except RuntimeError as error:
            yield Duel("stepping", task, name, skipped=failed(error))
            continue
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
