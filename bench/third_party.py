"""Other people's learners on fastpg's CartPole-v1 and on Gymnasium's: ``python -m bench.third_party``.

Stable-Baselines3's PPO and A2C, and a PPO as CleanRL writes it, with the settings of `bench.peers`, each in
a process of its own until it solves the problem in Gymnasium's environment: the mean return of 100 greedy
episodes at the end, the steps, the seconds of training without the checks, and those of a thousand steps,
which do not depend on how lucky a seed was. The two kinds of environments take turns. Run it on an idle
machine; `--peers` is an interpreter that has them, and ``--add`` keeps what a file has of other learners.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.compare_training import solve
from bench.contestants import settings
from bench.measuring import ROOT, conditions, ratios, three_digits

ID = "CartPole-v1"
LEARNERS = {
    "SB3 PPO": ("bench.peers.stable_baselines3_learner", ("PPO",)),
    "SB3 A2C": ("bench.peers.stable_baselines3_learner", ("A2C",)),
    "CleanRL-style PPO": ("bench.peers.cleanrl_learner", ()),
}
KINDS = {"stock": "Gymnasium's", "fastpg": "fastpg's"}
COMPILE = f"""
import fastpg
envs = fastpg.make_vec("{ID}", 4, autoreset_mode="SameStep")
envs.reset(seed=0)
envs.step(envs.action_space.sample())
"""


def trained(names: list[str], seeds: int, peers: str, caches: str) -> Iterator[dict]:
    """Yield what each run told, with the learner, the kind of environments and the seed."""
    environment = settings() | {"FASTPG_CACHE_DIR": f"{caches}/fastpg"}
    subprocess.run([peers, "-W", "ignore", "-c", COMPILE], cwd=ROOT, env=environment, check=True)
    for name in names:
        module, arguments = LEARNERS[name]
        for seed in range(seeds):
            for kind in KINDS:
                told = solve(peers, module, ID, (*arguments, "--environments", kind), caches, seed)
                run = {"learner": name, "environments": kind, "seed": seed, **told}
                print(f"  {run}", file=sys.stderr, flush=True)
                yield run


def table(runs: list[dict]) -> str:
    """Return the table: medians over the seeds, all returns."""
    lines = [
        "| learner | environments | solved | returns | steps | seconds | seconds per 1,000 steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(run["learner"] for run in runs):
        paces = {}
        for kind, whose in KINDS.items():
            mine = [run for run in runs if (run["learner"], run["environments"]) == (name, kind)]
            paces[kind] = [1000 * run["training_seconds"] / run["steps"] for run in mine]
            pace = three_digits(statistics.median(paces[kind]))
            if kind == "fastpg":
                ratio = statistics.median(ratios(paces["stock"], paces["fastpg"]))
                pace += f" ({three_digits(ratio)} × as fast)"
            cells = (
                name,
                whose,
                f"{sum(run['solved'] for run in mine)} of {len(mine)}",
                ", ".join(f"{run['mean_return']:.1f}" for run in mine),
                f"{statistics.median(run['steps'] for run in mine):,.0f}",
                three_digits(statistics.median(run["training_seconds"] for run in mine)),
                pace,
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("learners", nargs="*", metavar="learner", help=f"of {', '.join(LEARNERS)}")
    parser.add_argument(
        "--peers", default=sys.executable, metavar="PYTHON", help="interpreter with the peers"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="keep every run as JSON, the table beside it"
    )
    parser.add_argument("--add", action="store_true", help="keep what else is in the file")
    parser.add_argument("--caches", default=f"{ROOT}/.benchmarks", help="directory of compiled kernels")
    options = parser.parse_args()
    names = options.learners or list(LEARNERS)
    if unknown := set(names) - set(LEARNERS):
        parser.error(f"no such learner: {', '.join(sorted(unknown))}; there are {', '.join(LEARNERS)}")
    os.makedirs(options.caches, exist_ok=True)
    kept = json.loads(options.out.read_text(encoding="utf-8")) if options.add else {"runs": []}
    runs = [run for run in kept["runs"] if run["learner"] not in names]
    runs += trained(names, options.seeds, options.peers, options.caches)
    facts = conditions()
    versions = ", ".join(dict.fromkeys(v for run in runs for v in run["versions"].split(", ")))
    report = f"- {facts['date'][:10]}, {facts['processor']}, one thread: {versions}\n\n{table(runs)}"
    print(report)
    if options.out:
        content = json.dumps({"conditions": facts, "runs": runs}, indent=1)
        options.out.write_text(content, encoding="utf-8")
        title = "# Other people's learners on CartPole-v1\n\n`python -m bench.third_party`\n\n"
        options.out.with_suffix(".md").write_text(title + report, encoding="utf-8")


if __name__ == "__main__":
    main()
