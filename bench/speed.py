"""Measure everything in one run: ``python -m bench.speed [--quick] [--json FILE] [--markdown FILE]``.

Whatever is compared is run in turn, A B A B, so that a machine which slows down slows both; a ratio is
the median of the ratios of neighbours. Run it from the checkout's root on an idle machine: the load
average at the start and at the end is part of the output.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numba

import fastpg
from bench import yardstick
from bench.policies import BALANCING, UNIFORM

ROOT = Path(__file__).resolve().parents[1]
ENV = fastpg.make("CartPole-v1")
POLICY = fastpg.SoftmaxLinear.for_env(ENV)
ESTIMATOR = fastpg.REINFORCE("optimal")  # all sums; every baseline runs the same kernel
CORES = numba.config.NUMBA_NUM_THREADS

# What a fresh process does: one small gradient; the prints are read by the functions below.
FIRST_GRADIENT = """
import time
import fastpg
env = fastpg.make("CartPole-v1")
policy = fastpg.SoftmaxLinear.for_env(env)
started = time.perf_counter()
fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories={n})
print(time.perf_counter() - started)
"""
PRINT_PEAK_MEMORY = """
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    alternations: int
    small_calls: int  # of N = 1000, in each alternation
    processes: int  # fresh ones, for each time
    imports: int
    cold_compiles: int
    n_short: int  # trajectories of 22 steps
    n_long: int  # trajectories of 410 steps
    n_memory: int
    reference_seconds: float


FULL = Effort(11, 100, 5, 9, 3, 1_000_000, 100_000, 10_000_000, 5.0)
QUICK = Effort(3, 20, 2, 2, 1, 200_000, 10_000, 1_000_000, 1.0)


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
        return f"{_three_digits(statistics.median(self.samples))} {self.unit}".strip()

    def quartiles(self) -> str:
        """Return the quartiles, to print; nothing for fewer than three samples."""
        if len(self.samples) < 3:
            return ""
        low, _, high = statistics.quantiles(self.samples, method="inclusive")
        return f"{_three_digits(low)} – {_three_digits(high)}"


def _three_digits(value: float) -> str:
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


# --- throughput in this process ---


def fastpg_speed(theta, n, threads=None) -> float:
    """Return M steps/s of one gradient."""
    estimate = fastpg.policy_gradient(ENV, POLICY, theta, ESTIMATOR, n_trajectories=n, threads=threads)
    return estimate.n_steps / estimate.seconds / 1e6


def c_speed(theta, n, threads) -> float:
    """Return M steps/s of one gradient in C."""
    estimate = yardstick.gradient(theta, n, threads=threads)
    return estimate.n_steps / estimate.seconds / 1e6


def against_c(effort: Effort) -> Iterator[Result]:
    """Gradients of short and of long trajectories on all cores, fastpg and C in turn."""
    for theta, n, length in ((UNIFORM, effort.n_short, 22), (BALANCING, effort.n_long, 410)):
        section = f"gradient, N = {n:,} trajectories of {length} steps, {CORES} threads"
        if yardstick.compiler() is None:
            speeds = alternate(effort.alternations, lambda: fastpg_speed(theta, n))  # noqa: B023
            yield Result(section, "fastpg", "M steps/s", speeds[0])
            yield Result(section, "fastpg / C", skipped="no gcc")
            continue
        ours, c = alternate(
            effort.alternations,
            lambda: fastpg_speed(theta, n),  # noqa: B023
            lambda: c_speed(theta, n, CORES),  # noqa: B023
        )
        yield Result(section, "fastpg", "M steps/s", ours)
        yield Result(section, f"C ({' '.join(yardstick.FLAGS)})", "M steps/s", c)
        yield Result(section, "fastpg / C", "×", ratios(ours, c))


def scaling(effort: Effort) -> Iterator[Result]:
    """Two threads over one."""
    section = "two threads"
    if CORES < 2:
        yield Result(section, "2 threads / 1 thread", skipped="the machine has one core")
        return
    n = effort.n_short
    cores_in_use = []

    def two_threads() -> float:
        wall, processor = time.perf_counter(), time.process_time()
        speed = fastpg_speed(UNIFORM, n, 2)
        cores_in_use.append((time.process_time() - processor) / (time.perf_counter() - wall))
        return speed

    two, one = alternate(effort.alternations, two_threads, lambda: fastpg_speed(UNIFORM, n, 1))
    yield Result(section, "1 thread", "M steps/s", one)
    yield Result(section, "2 threads", "M steps/s", two)
    # Below 2, something else was running: then neither the speed nor the ratio says anything.
    yield Result(section, "cores that the 2 threads were given", "", cores_in_use[1:])
    yield Result(section, "2 threads / 1 thread", "×", ratios(two, one))


def small_batches(effort: Effort) -> Iterator[Result]:
    """Throughput of whole calls with N = 1000, relative to large ones."""
    section = f"small batches: whole calls with N = 1,000, and with N = {effort.n_short:,}"

    def small() -> float:
        return statistics.median(call_speed(1000) for _ in range(effort.small_calls))

    small_speeds, large_speeds = alternate(effort.alternations, small, lambda: call_speed(effort.n_short))
    yield Result(section, f"N = 1,000, medians of {effort.small_calls} calls", "M steps/s", small_speeds)
    yield Result(section, f"N = {effort.n_short:,}", "M steps/s", large_speeds)
    yield Result(section, f"N = 1,000 / N = {effort.n_short:,}", "×", ratios(small_speeds, large_speeds))


def call_speed(n) -> float:
    """Return M steps/s of one gradient at θ = 0, by the caller's clock."""
    started = time.perf_counter()
    estimate = fastpg.policy_gradient(ENV, POLICY, UNIFORM, ESTIMATOR, n_trajectories=n)
    return estimate.n_steps / (time.perf_counter() - started) / 1e6


# --- fresh processes ---


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


def compilation(effort: Effort) -> Iterator[Result]:
    """The first gradient of a process: without a kernel cache, and with one; and the import."""
    section = "fresh processes"
    code = FIRST_GRADIENT.format(n=1000)
    cold = []
    for _ in range(effort.cold_compiles):
        with tempfile.TemporaryDirectory() as empty:
            cold.append(float(run_fresh("-c", code, cache=Path(empty))[1]))
    yield Result(section, "first gradient, empty kernel cache", "s", cold)

    with tempfile.TemporaryDirectory() as directory:
        run_fresh("-c", code, cache=Path(directory))
        warm = [run_fresh("-c", code, cache=Path(directory)) for _ in range(effort.processes)]
    yield Result(section, "first gradient, warm kernel cache", "s", [float(out) for _, out in warm])
    yield Result(section, "whole process with one gradient, warm", "s", [seconds for seconds, _ in warm])

    run_fresh("-c", "import fastpg")  # writes the bytecode
    ours, numbas = alternate(
        effort.imports,
        lambda: run_fresh("-c", "import fastpg")[0],
        lambda: run_fresh("-c", "import numba")[0],
    )
    yield Result(section, "import fastpg, whole process", "s", ours)
    yield Result(section, "import numba, whole process", "s", numbas)
    differences = [a - b for a, b in zip(ours, numbas, strict=True)]
    yield Result(section, "import fastpg − import numba", "s", differences)


def memory(effort: Effort) -> Iterator[Result]:
    """Peak resident memory of a process, for few and for many trajectories."""
    section = "peak memory of a process"
    if sys.platform == "win32":
        yield Result(section, "peak memory", skipped="Windows has no getrusage")
        return
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss in a MiB

    def peak(n) -> float:
        code = FIRST_GRADIENT.format(n=n) + PRINT_PEAK_MEMORY
        out = run_fresh("-c", code, cache=Path(directory))[1]
        return float(out.split()[1]) / unit

    with tempfile.TemporaryDirectory() as directory:
        many, few = alternate(effort.processes, lambda: peak(effort.n_memory), lambda: peak(10_000))
    yield Result(section, "N = 10,000", "MiB", few)
    yield Result(section, f"N = {effort.n_memory:,}", "MiB", many)
    yield Result(section, f"N = {effort.n_memory:,} / N = 10,000", "×", ratios(many, few))


def training(effort: Effort) -> Iterator[Result]:
    """The command line, from start to exit."""
    section = "command line"
    quantity = "fastpg train CartPole-v1, whole process, warm kernel cache"
    if not (ROOT / "fastpg" / "cli.py").exists():
        yield Result(section, quantity, skipped="there is no fastpg/cli.py")
        return

    def train() -> float:
        out = Path(directory, f"run-{time.monotonic_ns()}")
        return run_fresh("-m", "fastpg.cli", "train", "CartPole-v1", "--out", str(out), cache=cache)[0]

    with tempfile.TemporaryDirectory() as directory:
        cache = Path(directory, "kernels")
        seconds = alternate(max(3, effort.processes), train)[0]
    yield Result(section, quantity, "s", seconds)


def against_gymnasium(effort: Effort) -> Iterator[Result]:
    """The same gradient in plain Python; and Gymnasium's vectorised CartPole, which only steps."""
    section = "Gymnasium and NumPy"
    loops = {
        "student": "REINFORCE in a plain Python loop over gymnasium.make",
        "vector": "Gymnasium's vectorised CartPole, 16,384 environments, stepping alone",
    }
    for which, name in loops.items():

        def reference(which=which) -> float:
            out = run_fresh("-m", "bench.gymnasium_reference", which, str(effort.reference_seconds))[1]
            measured = json.loads(out)
            return measured["steps"] / measured["seconds"] / 1e6

        ours, theirs = alternate(3, lambda: fastpg_speed(UNIFORM, effort.n_short), reference)
        yield Result(section, name, "M steps/s", theirs)
        yield Result(section, f"fastpg's gradient / {which}", "×", ratios(ours, theirs))


# --- the run ---

SECTIONS = (against_c, scaling, small_batches, memory, compilation, training, against_gymnasium)


def conditions() -> dict[str, str]:
    """Return what the numbers depend on: the machine, the versions, the commit."""
    packages = ("numba", "llvmlite", "numpy", "gymnasium")
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{package} {importlib.metadata.version(package)}" for package in packages]
    if yardstick.compiler():
        versions.append(f"gcc {_output('gcc', '-dumpfullversion')}")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": f"{_processor()}, {CORES} cores",
        "system": platform.platform(),
        "versions": ", ".join(versions),
        "commit": _output("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "load at start": _load(),
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


def _load() -> str:
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


def main() -> None:
    """Run all sections, or those named, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [section.__name__ for section in SECTIONS]
    parser.add_argument(
        "sections", nargs="*", metavar="section", help=f"all unless given: {', '.join(names)}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the table")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(names)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(names)}")

    effort = QUICK if arguments.quick else FULL
    facts = conditions() | {"effort": "quick" if arguments.quick else "full"}
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5:
        print(f"load average {_load()}: this machine is not idle; do not quote the result", file=sys.stderr)
    results = []
    for section in SECTIONS:
        if not arguments.sections or section.__name__ in arguments.sections:
            print(f"{section.__name__} ...", file=sys.stderr, flush=True)
            results += section(effort)
    facts["load at end"] = _load()

    print_table(facts, results)
    if arguments.markdown:
        arguments.markdown.write_text(markdown(facts, results), encoding="utf-8")
    if arguments.json:
        content = {"conditions": facts, "results": [asdict(result) for result in results]}
        arguments.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
