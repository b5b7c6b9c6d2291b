"""The comparison that settles the question: ``python -m bench.compare [--quick] [--peers PYTHON]``.

fastpg beside the references (`bench/references`) and the peers (`bench/peers`), in one run on one machine:

* `gradient`: the same REINFORCE gradient, checked to be the same before it is timed;
* `network`: that of a policy that is a network;
* `stepping`: random actions through the vector interface;
* `training`: seconds from the start of the process until the problem is solved, greedy, in Gymnasium.

What is compared runs in turn, A B C A B C, so that a machine which slows down slows all; a ratio is the
median of the ratios within rounds. Each peer runs at the fastest of the settings that are tried, with all
cores; time to compile is told apart. In the tables the strongest peer stands first. Peers may have an
interpreter of their own (`bench.contestants`); what is not installed is skipped, and a line says so. Run it
from the checkout's root on an idle machine. ``--publish`` writes the table and the picture that the README
shows.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from bench.compare_gradients import gradients, networks
from bench.compare_report import draw, markdown, publish
from bench.compare_stepping import stepping
from bench.compare_training import training
from bench.duels import FULL, IDS, QUICK, Duel, Effort
from bench.measuring import ROOT, conditions, load

RESULTS = ROOT / "bench" / "results"
SECTIONS: dict[str, Callable[[Effort, str], Iterator[Duel]]] = {
    "gradient": gradients,
    "network": networks,
    "stepping": stepping,
    "training": training,
}


def read(path: Path) -> tuple[dict[str, str], list[Duel]]:
    """Return what a run has kept."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["conditions"], [Duel(**duel) for duel in content["duels"]]


def main() -> None:
    """Run all sections, or those named, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sections", nargs="*", metavar="section", help=f"all unless given: {', '.join(SECTIONS)}"
    )
    parser.add_argument("--ids", nargs="+", metavar="ID", help=f"of {', '.join(IDS)}")
    parser.add_argument("--only", nargs="+", metavar="PEER", default=[], help="as the tables call them")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, to see that it works")
    parser.add_argument(
        "--peers", default=sys.executable, metavar="PYTHON", help="interpreter that has the peers"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of compare.json, .md and .png")
    parser.add_argument("--add", action="store_true", help="keep what else is in compare.json")
    parser.add_argument("--publish", action="store_true", help="write the README's table as well")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    chosen = arguments.sections or list(SECTIONS)
    effort = QUICK if arguments.quick else FULL
    if arguments.ids:
        if not set(arguments.ids) <= set(IDS):
            parser.error(f"--ids {' '.join(arguments.ids)}: there are {', '.join(IDS)}")
        effort = replace(effort, ids=tuple(arguments.ids))
    effort = replace(effort, only=tuple(arguments.only))
    facts = conditions() | {"effort": "quick" if arguments.quick else "full"}
    kept = arguments.out / "compare.json"
    arguments.out.mkdir(parents=True, exist_ok=True)
    duels = read(kept)[1] if arguments.add and kept.exists() else []
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        for duel in SECTIONS[name](effort, arguments.peers):
            anew = replace(duel, measured=f"{facts['date'][:16]}, commit {facts['commit']}")
            duels = [other for other in duels if other.name() != duel.name()] + [anew]
            content = {"conditions": facts, "duels": [asdict(duel) for duel in duels]}
            kept.write_text(json.dumps(content, indent=1), encoding="utf-8")  # whatever comes after
            print(f"  {duel.task}: {' | '.join(duel.cells())}", file=sys.stderr, flush=True)
    facts["load at end"] = load()
    report = markdown(facts, duels)
    (arguments.out / "compare.md").write_text(f"# fastpg and its peers\n\n{report}", encoding="utf-8")
    draw(duels, arguments.out / "compare.png")
    if arguments.publish:
        publish(facts, duels)
    print(report)


if __name__ == "__main__":
    main()
