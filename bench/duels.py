"""What a comparison consists of: duels, each of one peer with fastpg, fought in turn (`bench.compare`)."""

import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.measuring import alternate, ratios, run_fresh, spread, three_digits

IDS = ("CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "Pendulum-v1")


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float  # of each measurement
    lanes: tuple[int, ...]  # trajectories at once, of each reference
    ids: tuple[str, ...]
    num_envs: tuple[int, ...]
    seeds: int
    only: tuple[str, ...] = ()  # these peers; all if empty

    def wants(self, peer: str) -> bool:
        """Whether a peer is to be measured."""
        return not self.only or peer in self.only


FULL = Effort(7, 0.7, (1024, 256, 4096, 16384), tuple(IDS), (1024, 16384, 65536), 3)
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
    measured: str = ""  # when, and at which commit

    def name(self) -> tuple[str, str, str]:
        """Return what tells it from others."""
        return self.section, self.task, self.peer

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


def fought(duels: list[Duel], rounds: int, ours: Callable, timers: list[Callable]) -> Iterator[Duel]:
    """Run all in turn; yield the duels with what was measured, or with why a peer dropped out."""
    failures: dict[int, str] = {}

    def watched(position, timer):
        def speed():
            if position not in failures:
                try:
                    return timer()
                except RuntimeError as error:
                    failures[position] = failed(error)
            return math.nan

        return speed

    measured = alternate(rounds, ours, *(watched(i, timer) for i, timer in enumerate(timers)))
    for i, (duel, theirs) in enumerate(zip(duels, measured[1:], strict=True)):
        yield (
            replace(duel, skipped=failures[i])
            if i in failures
            else replace(duel, ours=measured[0], theirs=theirs)
        )


def failed(error: Exception) -> str:
    """Return what a line says of a peer that failed: the last that it said itself."""
    return f"failed: {str(error).strip().splitlines()[-1][:200]}"


def not_there(python: str, package: str) -> str:
    """Return why something is skipped."""
    python = os.path.relpath(python) if os.path.isabs(python) else python
    return f"{python} cannot import {package}: pip install -e '.[peers]', or --peers PYTHON that can"
