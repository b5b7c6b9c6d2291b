"""Processes of another interpreter that time themselves when asked: the other end of `bench.serving`.

Peers may have an interpreter of their own, for one of them may want another Gymnasium than fastpg is tested
with: ``python3 -m venv peers && peers/bin/pip install -e ".[peers]"``.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from bench.measuring import CORES, ROOT


def settings(processes: int = 1) -> dict[str, str]:
    """Return the environment of a process: its share of the cores, no BLAS settings of this machine."""
    names = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    threads = str(max(1, CORES // processes))
    names |= {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    names |= {"XLA_FLAGS": f"--xla_force_host_platform_device_count={CORES}", "JAX_PLATFORMS": "cpu"}
    return names


PATIENCE = 300.0  # seconds until an answer


class Contestant:
    """One or more processes at the same work.

    Raises
    ------
    RuntimeError
        If one of them ends, or does not answer within `PATIENCE`; all are ended then.
    """

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
            try:
                process.stdin.write(f"{seconds}\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
            except (OSError, ValueError):  # it is not there any more
                self._fail(process)
        return sum(steps / taken for steps, taken in map(self._read, self.processes)) / 1e6

    def is_alive(self) -> bool:
        """Whether all processes are there."""
        return all(process.poll() is None for process in self.processes)

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            with suppress(OSError, ValueError):
                process.stdin.close()  # type: ignore[union-attr]
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()  # type: ignore[union-attr]
        self.errors.close()

    def _read(self, process) -> Any:
        watch = threading.Timer(PATIENCE, process.kill)
        watch.start()
        line = process.stdout.readline()
        watch.cancel()
        try:
            return json.loads(line)
        except ValueError:
            return self._fail(process, line)

    def _fail(self, process, line: str = "") -> NoReturn:
        """Raise, with what the processes have said."""
        for other in self.processes:
            other.kill()
            other.wait()
        self.errors.seek(0)
        said = (
            self.errors.read().strip()
            or line.strip()
            or f"ended without a word, or no answer within {PATIENCE:.0f} s"
        )
        self.close()
        raise RuntimeError(f"{' '.join(process.args)}:\n{said}")


class Setting(NamedTuple):
    """One way of running a contestant."""

    name: str
    command: tuple[str, ...]
    processes: int = 1


def fastest(candidates: list[Setting], seconds: float) -> tuple[str, Contestant]:
    """Return the fastest of some settings, by the best of three, and its name; the others are ended.

    A setting that fails is left out.

    Raises
    ------
    RuntimeError
        If all of them fail.
    """
    best, best_speed, best_name, error = None, 0.0, "", None
    for name, command, processes in candidates:
        try:
            contestant = Contestant(*command, processes=processes)
            speed = max(contestant.speed(seconds) for _ in range(3)) if len(candidates) > 1 else 0.0
        except RuntimeError as failure:
            error = failure
            print(f"  {name or command[-1]} failed: {failure}", file=sys.stderr, flush=True)
            continue
        if best is None or speed > best_speed:
            best, contestant = contestant, best
            best_speed, best_name = speed, name
        if contestant is not None:
            contestant.close()
    if best is None:
        assert error is not None
        raise error
    return best_name, best


class Waiting:
    """Contestants that stay for further tasks, so that nobody looks for their fastest setting again."""

    def __init__(self):
        self._found: dict[tuple[Setting, ...], tuple[str, Contestant]] = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for _, contestant in self._found.values():
            contestant.close()

    def fastest(self, candidates: list[Setting], seconds: float) -> tuple[str, Contestant]:
        """Return the `fastest`, which may be there already."""
        key = tuple(candidates)
        name, contestant = self._found.pop(key, ("", None))
        if contestant is None or not contestant.is_alive():
            name, contestant = fastest(candidates, seconds)
        self._found[key] = name, contestant
        return name, contestant


@functools.cache
def installed(python: str, package: str) -> bool:
    """Whether that interpreter can import a package."""
    command = [python, "-W", "ignore", "-c", f"import {package}"]
    return subprocess.run(command, capture_output=True, cwd=ROOT, env=settings()).returncode == 0


def timer(contestant: Contestant, seconds: float) -> Callable[[], float]:
    """Return what measures M steps/s of a contestant."""
    return lambda: contestant.speed(seconds)
