"""Processes of another interpreter that time themselves when asked: the other end of `bench.serving`.

Peers may have an interpreter of their own, for one of them may want another Gymnasium than fastpg is tested
with: ``python3 -m venv peers && peers/bin/pip install -e ".[peers]"``.
"""

import functools
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

from bench.measuring import CORES, ROOT


def settings(processes: int = 1) -> dict[str, str]:
    """Return the environment of a process: its share of the cores, no BLAS settings of this machine."""
    names = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    threads = str(max(1, CORES // processes))
    names |= {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    names |= {"XLA_FLAGS": f"--xla_force_host_platform_device_count={CORES}", "JAX_PLATFORMS": "cpu"}
    return names


class Contestant:
    """One or more processes at the same work."""

    def __init__(self, *command: str, processes: int = 1):
        self.errors = tempfile.TemporaryFile("w+")
        self.processes = [
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=settings(processes),
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


class Setting(NamedTuple):
    """One way of running a contestant."""

    name: str
    command: tuple[str, ...]
    processes: int = 1


def fastest(candidates: list[Setting], seconds: float) -> tuple[str, Contestant]:
    """Return the fastest of some settings, by the best of three, and its name; the others are ended."""
    best, best_speed, best_name = None, 0.0, ""
    for name, command, processes in candidates:
        contestant = Contestant(*command, processes=processes)
        speed = max(contestant.speed(seconds) for _ in range(3)) if len(candidates) > 1 else 0.0
        if best is None or speed > best_speed:
            best, contestant = contestant, best
            best_speed, best_name = speed, name
        if contestant is not None:
            contestant.close()
    assert best is not None
    return best_name, best


@functools.cache
def installed(python: str, package: str) -> bool:
    """Whether that interpreter can import a package."""
    command = [python, "-W", "ignore", "-c", f"import {package}"]
    return subprocess.run(command, capture_output=True, cwd=ROOT, env=settings()).returncode == 0


def timer(contestant: Contestant, seconds: float) -> Callable[[], float]:
    """Return what measures M steps/s of a contestant."""
    return lambda: contestant.speed(seconds)
