"""What might make the lane loops faster, or slower: ``python -m bench.variants [ID ...]``.

Each variant changes constants of the house in a process of its own, and runs in turn with the house as it is,
on one thread. For CartPole the C program runs beside them, with float64 and with float32 in its lanes.
"""

import argparse
import ctypes
import functools
import importlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import fastpg
from bench.contestants import Contestant, timer
from bench.measuring import alternate, conditions, load, ratios, spread, three_digits
from bench.policies import BALANCING, UNIFORM
from bench.references import yardstick
from bench.serving import serve

SECONDS = 0.4

SINGLE = "float32 in the lanes"
TRIED = {  # name: constants of the house, as module.NAME=value
    "as it is": (),
    "16 lanes": ("lane_memory.MAX_LANES=16",),
    "32 lanes": ("lane_memory.MAX_LANES=32",),
    "64 lanes": ("lane_memory.MAX_LANES=64",),
    "256 lanes, beyond 24 KiB": ("lane_memory.MAX_LANES=256", "lane_memory._LANES_BYTES=65536"),
    "one vector at a time": ("lane_loop._INTERLEAVE=1",),
    "four vectors at a time": ("lane_loop._INTERLEAVE=4",),
    "256-bit vectors": ("lane_memory.VECTOR=4", "lane_loop.VECTOR=4"),
    "256-bit vectors, four at a time": (
        "lane_memory.VECTOR=4",
        "lane_loop.VECTOR=4",
        "lane_loop._INTERLEAVE=4",
    ),
    SINGLE: (),
    "chunks of 512 trajectories": ("sampling._MAX_CHUNK=512",),
    "chunks of 16,384 trajectories": ("sampling._MAX_CHUNK=16384", "sampling._MAX_CHUNK_STEPS=8388608"),
}


def run_variant(constants: list[str], id: str, balanced: bool, dtype: str | None) -> None:
    """Change constants of the house, and answer as `bench.serving` has it."""
    for constant in constants:
        place, value = constant.split("=")
        module, name = place.rsplit(".", 1)
        module = importlib.import_module(f"fastpg.{module}")
        if not hasattr(module, name):
            raise AttributeError(f"{place}: there is no such constant any more")
        setattr(module, name, int(value))
    env = fastpg.make(id)
    policy = fastpg.policy_for(env, dtype)
    theta = BALANCING if balanced else policy.initial()
    n = 40_000 if balanced else 400_000  # so that chunks are as large as they may be

    def call():
        return fastpg.policy_gradient(env, policy, theta, n_trajectories=n, threads=1).n_steps

    call()
    serve({}, call)


def c_speed(theta: np.ndarray, library: ctypes.CDLL) -> float:
    """Return M steps/s of the C program on one thread."""
    n = int(200_000 if theta is UNIFORM else 20_000)
    estimate = yardstick.gradient(theta, n, library=library)
    return estimate.n_steps / estimate.seconds / 1e6


def tried(id: str, rounds: int, caches: str, only: list[str]) -> Iterator[str]:
    """Yield lines of a table: each variant beside the house as it is."""
    for balanced in (False, True) if id == "CartPole-v1" else (False,):
        yield f"| **{id}{', 410 steps a trajectory' if balanced else ''}** | | |"
        contestants = {}
        for name, constants in TRIED.items():
            if only and name not in ("as it is", *only):
                continue
            # A cache each, for the fingerprint knows the sources, not what is changed here.
            os.environ["FASTPG_CACHE_DIR"] = str(Path(caches, name.replace(" ", "-")))
            more = [*(["--balanced"] if balanced else []), *(["--single"] if name == SINGLE else [])]
            command = (sys.executable, "-m", "bench.variants", "--variant", id, *constants, *more)
            contestants[name] = Contestant(*command)
        del os.environ["FASTPG_CACHE_DIR"]
        timers = [timer(contestant, SECONDS) for contestant in contestants.values()]
        speeds = dict(zip(contestants, alternate(rounds, *timers), strict=True))
        for contestant in contestants.values():
            contestant.close()
        if id == "CartPole-v1":
            theta = BALANCING if balanced else UNIFORM
            builds = {
                "C by hand": yardstick.load(),
                "C by hand, float32": yardstick.load(yardstick.SINGLE, yardstick.SINGLE_LANES),
            }
            timers = [functools.partial(c_speed, theta, library) for library in builds.values()]
            speeds |= dict(zip(builds, alternate(rounds, *timers), strict=True))
        for name, samples in speeds.items():
            ratio = ratios(samples, speeds["as it is"])
            yield (
                f"| {name} | {three_digits(statistics.median(samples))} "
                f"| {statistics.median(ratio):.3f} × ({spread(ratio)}) |"
            )


def main() -> None:
    """Measure the variants, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ids", nargs="*", metavar="ID", default=["CartPole-v1"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", metavar="VARIANT", default=[])
    parser.add_argument("--caches", metavar="DIRECTORY", help="keep what is compiled, for another run")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the report")
    parser.add_argument("--variant", nargs="+", metavar=("ID", "CONSTANT"), help=argparse.SUPPRESS)
    parser.add_argument("--balanced", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--single", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        dtype = "float32" if arguments.single else None
        run_variant(arguments.variant[1:], arguments.variant[0], arguments.balanced, dtype)
        return
    facts = conditions()
    lines = ["| | M steps/s, one thread | as it is: 1 |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as empty:
        for id in arguments.ids:
            lines += tried(id, arguments.rounds, arguments.caches or empty, arguments.only)
    facts["load at end"] = load()
    report = "\n".join([*(f"- {name}: {value}" for name, value in facts.items()), "", *lines]) + "\n"
    print(report)
    if arguments.markdown:
        arguments.markdown.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
