"""Where the time of a first gradient goes when nothing is compiled yet: ``python -m bench.cold_start [ID]``.

A fresh process with an empty cache takes a gradient of CartPole (or another environment) while the stages of
Numba and LLVM are timed, each without the stages within it; medians of some processes, in seconds of
processor time, which other work on the machine disturbs little. Besides: how many functions are compiled, how
many of them have machine code of their own, and which take longest.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.measuring import conditions, load, run_fresh

STAGES = {
    "Python and Numba": "started and imported",
    "fastpg": "imported",
    "types": "type inference of the functions",
    "lowering": "from typed Python to LLVM's language, in Python",
    "other passes": "bytecode, control flow, rewrites",
    "text": "LLVM's language, written and read again",
    "LLVM, functions": "each function cleaned up by itself",
    "LLVM, parts": "functions that are inlined elsewhere: the cheap passes",
    "LLVM, kernels": "the kernel as a whole: inlining, vectorising, all passes",
    "machine code": "of the kernel",
    "linking": "of the functions into the kernel",
    "cache": "fingerprint, and the kernel written to the disk",
    "rest": "what Numba knows of types and arrays, the calls, the gradient itself",
}
_PASSES = {"nopython_type_inference": "types", "native_lowering": "lowering"}


class Stages:
    """Times stages without those within them."""

    def __init__(self):
        self.seconds: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()
        self._within = [0.0]

    def timed(self, stage, function):
        """Return a function that adds its time to a stage, which may depend on its arguments."""

        def timed(*args, **options):
            started = time.process_time()
            self._within.append(0.0)
            try:
                return function(*args, **options)
            finally:
                taken = time.process_time() - started
                alone = taken - self._within.pop()
                self._within[-1] += taken
                name = stage(alone, *args) if callable(stage) else stage
                self.seconds[name] += alone

        return timed

    def watch(self, owner, name, stage):
        """Time a method."""
        setattr(owner, name, self.timed(stage, getattr(owner, name)))


def one_start(id: str) -> dict:
    """Take a gradient in this process, which has compiled nothing, and return what took how long."""
    numba_there = time.process_time()  # since the process began: `bench.measuring` has imported it
    import fastpg

    fastpg_there = time.process_time()
    from numba.core import codegen
    from numba.core.compiler_machinery import PassManager

    from fastpg import cache, parts

    stages = Stages()

    def of_pass(alone, manager, index, one, state):
        stages.functions[state.func_id.func_qualname] += alone
        return _PASSES.get(one.name(), "other passes")

    stages.watch(PassManager, "_runPass", of_pass)
    stages.watch(codegen.CPUCodeLibrary, "_optimize_functions", "LLVM, functions")
    stages.watch(codegen.CPUCodeLibrary, "add_ir_module", "text")
    stages.watch(codegen.CPUCodeLibrary, "finalize", "linking")
    stages.watch(codegen.CPUCodeLibrary, "_optimize_final_module", "LLVM, kernels")
    stages.watch(parts._Part, "_optimize_final_module", "LLVM, parts")
    stages.watch(codegen.JITCodeLibrary, "_finalize_specific", "machine code")
    stages.watch(cache.KernelCache, "_path", "cache")
    stages.watch(cache.KernelCache, "save_overload", "cache")
    made: Counter[str] = Counter()
    finalize = codegen.JITCodeLibrary._finalize_specific

    def counted(library):
        made["machine code"] += 1
        return finalize(library)

    codegen.JITCodeLibrary._finalize_specific = counted
    env = fastpg.make(id)
    policy = fastpg.policy_for(env)

    def gradient():
        fastpg.policy_gradient(
            env, policy, policy.initial(), n_trajectories=1000, horizon=env.horizon or 1000
        )

    stages.timed("rest", gradient)()
    stages.seconds["Python and Numba"] = numba_there
    stages.seconds["fastpg"] = fastpg_there - numba_there
    return {
        "seconds": stages.seconds,
        "functions": stages.functions,
        "compiled": len(stages.functions),
        "with machine code": made["machine code"],
    }


def main() -> None:
    """Start some processes, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("id", nargs="?", default="CartPole-v1")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the report")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one_start(asked.id)))
        return
    facts = conditions()
    starts = []
    for _ in range(asked.runs):
        with tempfile.TemporaryDirectory() as empty:
            told = run_fresh("-m", "bench.cold_start", asked.id, "--one", cache=Path(empty))[1]
        starts.append(json.loads(told))
        print(f"{sum(starts[-1]['seconds'].values()):.2f} s", file=sys.stderr, flush=True)
    facts["load at end"] = load()

    def median(kind, name):
        return statistics.median(start[kind].get(name, 0.0) for start in starts)

    total = statistics.median(sum(start["seconds"].values()) for start in starts)
    first = starts[0]
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", f"| {asked.id} | seconds | |", "|---|---|---|"]
    lines += [f"| {stage} | {median('seconds', stage):.2f} | {what} |" for stage, what in STAGES.items()]
    lines += [f"| **all** | {total:.2f} | |", ""]
    lines.append(
        f"{first['compiled']} functions are compiled, {first['with machine code']} to machine code of their "
        "own. Those that take longest, apart from LLVM:"
    )
    longest = sorted(first["functions"], key=lambda name: -median("functions", name))[:8]
    lines.append(", ".join(f"{name} {median('functions', name):.2f} s" for name in longest) + ".")
    report = "\n".join(lines) + "\n"
    print(report)
    if asked.markdown:
        asked.markdown.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
