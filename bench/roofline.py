"""How near the lane loops come to what the processor can do: ``python -m bench.roofline [--mca LLVM-MCA]``.

For each environment, with the policy that `fastpg.policy_for` gives, on one thread:

* the two loops over lanes, read from the machine code: instructions, width of the vectors, floating-point
  operations, loads and stores, what is spilled to the stack, all divided by the lanes of an iteration;
* the cycles that ``llvm-mca`` (LLVM's model of the processor, if it is installed and knows it) gives them: if
  nothing had to wait for results, and with the waiting;
* the instructions of a step, all included, that callgrind counts (``--callgrind``; it knows AVX2, not more);
* what was measured: cycles of a step, all included, and the floating-point operations as a fraction of the
  peak. Clock and peak are measured in turn with it (`bench/peak.c`), so that other work counts for all.

What might make them faster: `bench.variants`.
"""

import argparse
import ctypes
import functools
import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding

import fastpg
from bench.measuring import ROOT, alternate, conditions, load, run_fresh
from bench.references import yardstick
from fastpg.throughput import gradient_timer

SECONDS = 0.4

ASSEMBLY = """
import fastpg
from fastpg.lanes import sweep
env = fastpg.make("{id}")
policy = fastpg.policy_for(env, "{dtype}")
fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=2, horizon=env.horizon or 1000)
print(*sweep.inspect_asm().values(), sep="\\n")
"""


# --- the machine code ---


@dataclass(frozen=True)
class Loop:
    """A loop over lanes, as the assembler has it."""

    instructions: tuple[str, ...]
    lanes: int  # of one iteration

    def count(self, pattern: str) -> int:
        """Return how many instructions there are that match."""
        return sum(re.search(pattern, line) is not None for line in self.instructions)

    def flops(self) -> int:
        """Return the floating-point operations of one iteration; a multiply-add is two."""
        total = 0
        for line in self.instructions:
            operation = re.match(r"v(fn?m(add|sub)\d+|add|sub|mul|div|sqrt|min|max)(p|s)([ds])\s", line)
            if operation:
                doubles = {"zmm": 8, "ymm": 4}.get(widest(line), 2)
                width = doubles * (1 if operation[4] == "d" else 2) if operation[3] == "p" else 1
                total += width * (2 if operation[1].startswith("f") else 1)
        return total


def widest(line: str) -> str:
    """Return the kind of the widest vector register in an instruction."""
    return next((kind for kind in ("zmm", "ymm", "xmm") if kind in line), "")


def loops_over_lanes(assembly: str) -> list[Loop]:
    """Return the loops that do most lanes an iteration, from x86-64 machine code in AT&T's syntax.

    A loop is what stands between a label and the last jump back to it, without another within. Behind the
    main loops there are others for the lanes that are left over.
    """
    lines = [line.split("#")[0].strip() for line in assembly.splitlines()]
    labels = {line[:-1]: i for i, line in enumerate(lines) if line.startswith(".L") and line.endswith(":")}
    ends: dict[str, int] = {}
    for i, line in enumerate(lines):
        jump = re.match(r"j\w+\s+(\.L\w+)", line)
        if jump and labels.get(jump[1], i) < i:
            ends[jump[1]] = i
    spans = {(labels[label], end) for label, end in ends.items()}
    found = []
    for label, end in ends.items():
        if any(labels[label] <= a and b <= end and (a, b) != (labels[label], end) for a, b in spans):
            continue  # it contains another
        body = tuple(x for x in lines[labels[label] : end + 1] if re.match(r"[a-z]", x))
        steps = [re.match(r"addq\s+\$(\d+), %r|subq\s+\$-(\d+), %r", line) for line in body]
        counts = [int(step[1] or step[2]) for step in steps if step]
        if counts and max(counts) in (2, 4, 8, 16, 32, 64) and any(re.match(r"v\w+p[ds]\s", x) for x in body):
            found.append(Loop(body, max(counts)))
    most = max((loop.lanes for loop in found), default=0)
    return [loop for loop in found if loop.lanes == most]


class Code(NamedTuple):
    """Per step of one trajectory, unless it says otherwise."""

    lanes: int  # of an iteration
    registers: str
    instructions: float
    flops: float
    memory: float  # instructions that load or store a row of the lanes
    spills: float  # instructions that load or store the stack
    divisions: float  # instructions


def described(loops: list[Loop]) -> Code:
    """Return what the loops consist of, together."""

    def per_step(pattern):
        return sum(loop.count(pattern) / loop.lanes for loop in loops)

    kinds = [widest(line) for loop in loops for line in loop.instructions]
    return Code(
        loops[0].lanes,
        max(("zmm", "ymm", "xmm"), key=kinds.count),
        per_step("."),
        sum(loop.flops() / loop.lanes for loop in loops),
        per_step(r"\(%r(?!sp|ip)\w+,%r"),
        per_step(r"\(%rsp\)"),
        per_step(r"^vdivp|^vsqrtp"),
    )


def modelled(loops: list[Loop], mca: str | None) -> tuple[float, float] | None:
    """Return the cycles of a step, without waiting for results and with it; None if there is no model."""
    if mca is None:
        return None
    throughput = cycles = 0.0
    for loop in loops:
        body = [line for line in loop.instructions if not re.match(r"j\w+\s", line)]
        command = [mca, f"-mcpu={llvmlite.binding.get_host_cpu_name()}", "-iterations=100"]
        done = subprocess.run(command, input="\n".join(body), text=True, capture_output=True)
        bound = re.search(r"Block RThroughput: ([\d.]+)", done.stdout)
        total = re.search(r"Total Cycles: +(\d+)", done.stdout)
        if not (bound and total):
            return None
        throughput += float(bound[1]) / loop.lanes
        cycles += float(total[1]) / 100 / loop.lanes
    return throughput, cycles


COUNTED = """
import os, subprocess, sys, fastpg, fastpg.dispatch
fastpg.dispatch._INTERPRETED = -1  # nothing is interpreted, or compiled, while instructions are counted
env = fastpg.make("{id}")
policy = fastpg.policy_for(env)
def run(n):
    options = {{"n_trajectories": n, "threads": 1, "horizon": {horizon}}}
    return fastpg.policy_gradient(env, policy, policy.initial(), **options)
def counting(state):
    subprocess.run(["callgrind_control", "-i", state, str(os.getpid())], check=True, capture_output=True)
run(2)
if "compile" in sys.argv:
    sys.exit()
counting("on")
estimate = run({n})
counting("off")
print(estimate.n_steps)
"""


def counted(id: str, n_steps: int = 50_000) -> float | None:
    """Return the instructions of a step with AVX2, all included, as callgrind counts them; None without it.

    callgrind knows no AVX-512: Numba compiles for a Haswell, whose vectors are half as wide.
    """
    if shutil.which("valgrind") is None:
        return None
    env = fastpg.make(id)
    policy = fastpg.policy_for(env)
    horizon = env.horizon or 1000
    once = fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=100, horizon=horizon)
    n = max(100, int(n_steps * 100 / once.n_steps))
    with tempfile.TemporaryDirectory() as caches:
        code = COUNTED.format(id=id, n=n, horizon=horizon)
        names = dict(os.environ) | HASWELL | {"FASTPG_CACHE_DIR": caches, "NUMBA_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", code, "compile"], env=names, check=True, cwd=ROOT)
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null"]
        done = subprocess.run(
            [*valgrind, sys.executable, "-c", code],
            env=names,
            cwd=ROOT,
            text=True,
            capture_output=True,
            check=True,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    return None if found is None else int(found[1]) / int(done.stdout)


HASWELL = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,+lzcnt,+sse4.2,+f16c,+movbe,+cx16,+aes,+pclmul",
}


# --- the processor ---


@functools.cache
def library() -> ctypes.CDLL:
    """Build and load `peak.c`."""
    source = Path(__file__).with_name("peak.c")
    flags = ("-O3", "-march=native", "-ffast-math", "-mprefer-vector-width=512")
    peak = ctypes.CDLL(str(yardstick.build(source, flags)))
    peak.multiply_adds.restype = ctypes.c_double
    return peak


def gigahertz(n: int = 200_000_000) -> float:
    """Return the clock of one core at work."""
    started = time.perf_counter()
    library().chain(ctypes.c_int64(n))
    return n / (time.perf_counter() - started) / 1e9


def peak_gigaflops(n: int = 10_000_000) -> float:
    """Return the float64 operations of multiply-adds that do not wait for each other, on one core."""
    started = time.perf_counter()
    library().multiply_adds(ctypes.c_int64(n))
    return n * 12 * 8 * 2 / (time.perf_counter() - started) / 1e9


# --- the table ---


class Row(NamedTuple):
    """An environment."""

    id: str
    policy: str
    code: Code | None  # None where the loops are not vectorised
    model: tuple[float, float] | None
    speed: float  # M steps/s, one thread
    clock: float  # GHz
    peak: float  # Gflop/s, of float32 if that is in the lanes
    avx2: float | None  # instructions, all included, with AVX2

    def markdown(self) -> str:
        """Return a line of the table."""
        cells = [self.id, self.policy, f"{1e3 * self.clock / self.speed:.1f}"]
        cells.append("–" if self.avx2 is None else f"{self.avx2:.0f}")
        if self.code is None:
            return f"| {' | '.join([*cells, 'not vectorised', *['–'] * 8])} |"
        code = self.code
        cells += [f"{code.lanes} in {code.registers}", f"{code.instructions:.1f}"]
        cells += [f"{code.flops:.0f}", f"{code.memory:.1f}", f"{code.spills:.1f}", f"{code.divisions:.2f}"]
        cells += [f"{cycles:.1f}" for cycles in self.model] if self.model else ["–", "–"]
        cells.append(f"{100 * code.flops * self.speed / 1e3 / self.peak:.0f} %")
        return f"| {' | '.join(cells)} |"


def measured(id: str, dtype: str, mca: str | None, count: bool) -> Row:
    """Look at one environment."""
    env = fastpg.make(id)
    policy = fastpg.policy_for(env, dtype)
    with tempfile.TemporaryDirectory() as empty:
        _, assembly = run_fresh("-c", ASSEMBLY.format(id=id, dtype=dtype), cache=Path(empty))
    loops = loops_over_lanes(assembly)
    speed = gradient_timer(env, policy, policy.initial(), SECONDS, threads=1)
    speeds, clocks, peaks = (
        statistics.median(samples) for samples in alternate(5, speed, gigahertz, peak_gigaflops)
    )
    peaks *= 2 if dtype == "float32" else 1
    name = f"{type(policy).__name__} ({policy.n_parameters})"
    code, model = (described(loops), modelled(loops, mca)) if loops else (None, None)
    title = id if dtype == "float64" else f"{id}, {dtype}"
    instructions = counted(id) if count and dtype == "float64" else None
    return Row(title, name, code, model, speeds, clocks, peaks, instructions)


HEAD = (
    "| environment | policy (parameters) | cycles a step | instructions with AVX2 "
    "| lanes of an iteration | instructions "
    "| float operations | loads, stores | spills | divisions | cycles, no waiting | cycles, modelled "
    "| of peak |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


# --- the run ---


def main() -> None:
    """Measure the environments, or those named, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ids", nargs="*", metavar="ID", help="all that have a policy, unless given")
    parser.add_argument("--dtype", nargs="+", choices=("float64", "float32"), default=["float64"])
    parser.add_argument("--mca", default=shutil.which("llvm-mca"), help="LLVM's model of processors")
    parser.add_argument("--callgrind", action="store_true", help="count instructions with it, which is slow")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the report")
    arguments = parser.parse_args()
    facts = conditions()
    rows = []
    for id, dtype in itertools.product(arguments.ids or fastpg.registry, arguments.dtype):
        try:
            rows.append(measured(id, dtype, arguments.mca, arguments.callgrind))
        except ValueError as error:  # no policy fits, or none in float32
            print(f"{id}, {dtype}: {error}", file=sys.stderr)
            continue
        print(rows[-1].markdown(), file=sys.stderr, flush=True)
    peak = statistics.median(row.peak / (2 if row.id.endswith("float32") else 1) for row in rows)
    clock = statistics.median(row.clock for row in rows)
    facts["one core"] = f"{clock:.2f} GHz, {peak:.1f} Gflop/s of float64 ({peak / clock:.1f} a cycle)"
    lines = [HEAD, *(row.markdown() for row in rows)]
    facts["load at end"] = load()
    report = "\n".join([*(f"- {name}: {value}" for name, value in facts.items()), "", *lines]) + "\n"
    print(report)
    if arguments.markdown:
        arguments.markdown.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
