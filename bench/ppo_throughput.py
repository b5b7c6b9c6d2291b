"""Steps a second of PPO's training in Pendulum, beside RLtools' C++, on one thread each.

``python -m bench.ppo_throughput --peers PYTHON [--mkl DIRECTORY]``, with an interpreter that has the package
``rltools``, whose headers it compiles (g++, the package's flags), and a directory that has the wheels ``mkl``
and ``mkl-include`` unpacked; without it RLtools multiplies by loops of its own. The same networks, float32,
epochs, minibatches and environments; a step's time is that of acting and learning together.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import fastpg
from bench.contestants import Contestant, installed
from bench.measuring import ROOT, Result, alternate, conditions, load, markdown, ratios

SOURCE = ROOT / "bench" / "peers" / "rltools_ppo.cpp"
FLAGS = "-std=c++17", "-O3", "-march=native", "-ffast-math"
ROUNDS = 5


class Setting(NamedTuple):
    """What both are given."""

    units: int  # of the two hidden layers
    activation: str
    n_envs: int
    n_steps: int
    minibatch: int
    epochs: int

    def __str__(self):
        """Return it as the table has it."""
        network = f"{self.units}-{self.units} {self.activation}"
        return f"{network}, {self.n_envs} × {self.n_steps}, minibatch {self.minibatch}, epochs {self.epochs}"


# RLtools' own for Pendulum, and smaller ones. (Its fast tanh is a fraction of polynomials.)
SETTINGS = Setting(64, "relu", 4, 1024, 256, 2), Setting(32, "tanh", 8, 128, 128, 1)
_ACTIVATIONS = {"relu": "RELU", "tanh": "FAST_TANH"}


def build(setting: Setting, peers: str, mkl: Path | None, directory: str) -> str:
    """Compile RLtools' PPO and return the program."""
    where = "import os, rltools; print(os.path.dirname(rltools.__file__))"
    package = subprocess.run([peers, "-W", "ignore", "-c", where], check=True, capture_output=True, text=True)
    include = Path(package.stdout.strip().splitlines()[-1], "external", "rl_tools", "include")
    names = {"UNITS": setting.units, "ACTIVATION": _ACTIVATIONS[setting.activation], "ENVS": setting.n_envs}
    names |= {"STEPS": setting.n_steps, "BATCH": setting.minibatch, "EPOCHS": setting.epochs}
    command = ["g++", *FLAGS, f"-I{include}", *(f"-D{name}={value}" for name, value in names.items())]
    program = str(Path(directory, f"rltools_{setting.units}"))
    link: list[str] = []
    if mkl is not None:
        header = next(mkl.rglob("mkl.h"))
        libraries = [next(mkl.rglob(f"libmkl_{part}.so*")) for part in ("intel_lp64", "sequential", "core")]
        command += ["-DRL_TOOLS_BACKEND_ENABLE_MKL", f"-I{header.parent}"]
        link = ["-Wl,--no-as-needed", *map(str, libraries), f"-Wl,-rpath,{libraries[0].parent}"]
    subprocess.run([*command, str(SOURCE), "-o", program, *link, "-lpthread", "-lm", "-ldl"], check=True)
    return program


def fastpg_timer(setting: Setting, n_updates: int) -> Callable[[], float]:
    """Return what measures M steps/s of fastpg's training on one thread, its first update left out."""
    env = fastpg.make("Pendulum-v1")
    policy = fastpg.GaussianMLP.for_env(env, (setting.units, setting.units), setting.activation)
    algorithm = fastpg.PPO(
        setting.n_envs, setting.n_steps, setting.epochs, setting.minibatch, discount=0.9, max_norm=None
    )

    def speed() -> float:
        history = fastpg.train(env, policy, algorithm=algorithm, n_updates=n_updates, threads=1).history
        steps, seconds = (history[name][-1] - history[name][0] for name in ("n_steps", "seconds"))
        return float(steps / seconds) / 1e6

    return speed


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--mkl", type=Path, metavar="DIRECTORY")
    arguments = parser.parse_args()
    if not installed(arguments.peers, "rltools"):
        parser.error(f"--peers {arguments.peers}: has no rltools")
    facts = conditions() | {"RLtools multiplies by": "MKL" if arguments.mkl else "its own loops"}
    results = []
    with tempfile.TemporaryDirectory() as directory:
        for setting in SETTINGS:
            theirs = Contestant(build(setting, arguments.peers, arguments.mkl, directory))
            ours = fastpg_timer(setting, max(20, 200_000 // (setting.n_envs * setting.n_steps)))
            mine, other = alternate(ROUNDS, ours, lambda: theirs.speed(1.0))  # noqa: B023
            theirs.close()
            results.append(Result(str(setting), "fastpg", "M steps/s", mine))
            results.append(Result(str(setting), "RLtools", "M steps/s", other))
            results.append(Result(str(setting), "fastpg / RLtools", "×", ratios(mine, other)))
    facts["load at end"] = load()
    print(markdown(facts, results))


if __name__ == "__main__":
    main()
