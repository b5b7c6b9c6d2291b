"""What all benchmarks share: taking turns, medians and quartiles, a run's conditions, tables.

Whatever is compared is run in turn, A B A B, so that a machine which slows down slows both; a ratio is
the median of the ratios of neighbours. The load average at the start and at the end is part of the output.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numba

ROOT = Path(__file__).resolve().parents[1]
CORES = numba.config.NUMBA_NUM_THREADS


@dataclass(frozen=True)
class Result:
    """One line of the output: a quantity with its samples, or why there is none."""

    section: str
    quantity: str
    unit: str = ""
    samples: list[float] = field(default_factory=list)
    skipped: str = ""

    def median(self) -> str:
        """Return the median, or the reason for its absence, to print."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        return f"{three_digits(statistics.median(self.samples))} {self.unit}".strip()

    def quartiles(self) -> str:
        """Return the quartiles, to print; nothing for fewer than three samples."""
        return spread(self.samples)


def three_digits(value: float) -> str:
    """Return a number as tables have it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ratios(numerators: list[float], denominators: list[float]) -> list[float]:
    """Return the ratios of neighbours."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def alternate(times: int, *functions: Callable[[], float]) -> list[list[float]]:
    """Call the functions in turn, that many times after one call that is not counted; return their values."""
    for function in functions:
        function()
    rounds = [[function() for function in functions] for _ in range(times)]
    return [list(values) for values in zip(*rounds, strict=True)]


def run_fresh(*arguments: str, cache: Path | None = None) -> tuple[float, str]:
    """Run Python in a fresh process; return the wall-clock seconds from start to exit, and what it printed.

    Without the settings that this machine's BLAS may be under, with a kernel cache of its own, and with
    Python's cache of bytecode, which an installed package has.
    """
    dropped = "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE"
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    if cache is not None:
        environment["FASTPG_CACHE_DIR"] = str(cache)
    started = time.perf_counter()
    process = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, text=True, capture_output=True
    )
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise RuntimeError(f"python {' '.join(arguments)}:\n{process.stderr}")
    return seconds, process.stdout


def peak_mebibytes() -> float:
    """Return the most memory that this process has had (not on Windows).

    Linux begins `ru_maxrss` with what the parent has had: it tells of this process alone elsewhere.
    """
    status = Path("/proc/self/status")
    if status.exists():
        peaks = [line.split() for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(peaks[0][1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def conditions() -> dict[str, str]:
    """Return what the numbers depend on: the machine, the versions, the commit."""
    packages = ("numba", "llvmlite", "numpy", "gymnasium")
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{package} {importlib.metadata.version(package)}" for package in packages]
    if shutil.which("gcc"):
        versions.append(f"gcc {_output('gcc', '-dumpfullversion')}")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": f"{_processor()}, {CORES} cores",
        "system": platform.platform(),
        "versions": ", ".join(versions),
        "commit": _output("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "load at start": load(),
    }


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "unknown"
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def load() -> str:
    """Return the load average of the last minute."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def markdown(facts: dict[str, str], results: list[Result]) -> str:
    """Return the report as Markdown."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "| | median | quartiles |", "|---|---|---|"]
    section = None
    for result in results:
        if result.section != section:
            section = result.section
            lines.append(f"| **{section}** | | |")
        lines.append(f"| {result.quantity} | {result.median()} | {result.quartiles()} |")
    return "\n".join(lines) + "\n"


def report(title: str, facts: dict, results: list[Result], text: Path | None, data: Path | None) -> None:
    """Print the report, and write it as Markdown and with every sample as JSON, where files are given."""
    print_table(facts, results)
    if text:
        text.write_text(f"# {title}\n\n{markdown(facts, results)}", encoding="utf-8")
    if data:
        content = {"conditions": facts, "results": [asdict(result) for result in results]}
        data.write_text(json.dumps(content, indent=1), encoding="utf-8")


def spread(samples: list[float]) -> str:
    """Return the quartiles, to print; nothing for fewer than three samples."""
    if len(samples) < 3:
        return ""
    low, _, high = statistics.quantiles(samples, method="inclusive")
    return f"{three_digits(low)} – {three_digits(high)}"


def print_table(facts: dict[str, str], results: list[Result]) -> None:
    """Print the report with rich, or as Markdown where rich is not installed."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(markdown(facts, results))
        return
    console = Console(highlight=False)
    for name, value in facts.items():
        console.print(f"[bold]{name}[/bold] {value}", soft_wrap=True)
    table = Table("", "median", "quartiles")
    section = None
    for result in results:
        if result.section != section:
            section = result.section
            table.add_section()
            table.add_row(f"[bold]{section}[/bold]")
        table.add_row(result.quantity, result.median(), result.quartiles())
    console.print(table)
