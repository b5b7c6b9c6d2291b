"""The comparison that settles the question: ``python -m bench.compare [--quick] [--peers PYTHON]``.

fastpg beside the references (`bench/references`) and the peers (`bench/peers`), in one run on one machine:

* `gradient`: the same REINFORCE gradient, checked to be the same before it is timed;
* `network`: that of a policy that is a network;
* `stepping`: random actions through the vector interface;
* `training`: seconds from the start of the process until the problem is solved, greedy, in Gymnasium.

What is compared runs in turn, A B C A B C, so that a machine which slows down slows all; a ratio is the
median of the ratios within rounds. Each peer runs at the fastest of the settings that are tried, with all
cores; time to compile is told apart. In the tables the strongest peer stands first. Peers may have an
interpreter of their own (`bench.contestants`). What is not installed, or fails, is skipped, and a line says
so. Run it from the checkout's root on an idle machine; it takes some half an hour.

Every line is kept as soon as it is measured, in ``bench/results`` (``--quick``: in ``bench/results/quick``,
which git ignores). A run of some sections, environments or peers takes the place of those lines and leaves
the others, if they are of the same machine and versions; ``compare.json`` has the date and commit of each.
``--publish`` writes the table that the README shows.
"""

import argparse
import json
import sys
import time
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


SAME = ("processor", "system", "versions", "effort")  # conditions of lines that may stand in one table


def read(path: Path) -> tuple[dict[str, str], list[Duel]]:
    """Return what a run has kept; nothing if there is no such file."""
    if not path.exists():
        return {}, []
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["conditions"], [Duel(**duel) for duel in content["duels"]]


def write(directory: Path, facts: dict[str, str], duels: list[Duel]) -> None:
    """Keep what has been measured."""
    content = {"conditions": facts, "duels": [asdict(duel) for duel in duels]}
    (directory / "compare.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    report = f"# fastpg and its peers\n\n{markdown(facts, duels)}"
    (directory / "compare.md").write_text(report, encoding="utf-8")


def minutes(started: float) -> str:
    """Return how long that was ago."""
    return f"{(time.monotonic() - started) / 60:.1f} min"


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return what was asked for."""
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
    parser.add_argument("--out", type=Path, help="directory of compare.json, .md and .png")
    parser.add_argument("--publish", action="store_true", help="write the README's table as well")
    asked = parser.parse_args(arguments)
    unknown = set(asked.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if asked.ids and not set(asked.ids) <= set(IDS):
        parser.error(f"--ids {' '.join(asked.ids)}: there are {', '.join(IDS)}")
    if asked.quick and asked.publish:
        parser.error("--publish: not with --quick, whose figures are rough")
    asked.whole = not (asked.sections or asked.ids or asked.only)
    asked.sections = asked.sections or list(SECTIONS)
    asked.out = asked.out or (RESULTS / "quick" if asked.quick else RESULTS)
    return asked


def main(arguments: list[str] | None = None) -> None:
    """Run all sections, or those named, and report."""
    asked = options(arguments)
    effort = QUICK if asked.quick else FULL
    effort = replace(effort, ids=tuple(asked.ids or effort.ids), only=tuple(asked.only))
    facts = conditions() | {"effort": "quick" if asked.quick else "full"}
    asked.out.mkdir(parents=True, exist_ok=True)
    earlier, duels = read(asked.out / "compare.json")
    different = [name for name in SAME if earlier and earlier.get(name) != facts[name]]
    if different and not asked.whole:
        sys.exit(
            f"{asked.out}/compare.json: of another {', '.join(different)}; run all sections, or give --out"
        )
    duels = [] if different else duels
    measured = set()
    started = time.monotonic()
    if asked.whole and "took" in earlier:
        print(f"{asked.out}: the last whole run took {earlier['took']}", file=sys.stderr, flush=True)
    for name in asked.sections:
        print(f"{name} ... ({minutes(started)} so far)", file=sys.stderr, flush=True)
        for duel in SECTIONS[name](effort, asked.peers):
            anew = replace(duel, measured=f"{facts['date'][:16]}, commit {facts['commit']}")
            measured.add(duel.name())
            duels = [other for other in duels if other.name() != duel.name()] + [anew]
            write(asked.out, facts, duels)
            print(f"  {duel.task}: {' | '.join(duel.cells())}", file=sys.stderr, flush=True)
    if asked.whole:  # a task or a peer that there is no more
        duels = [duel for duel in duels if duel.name() in measured]
    facts["load at end"] = load()
    facts |= {"took": minutes(started)} if asked.whole else {}
    write(asked.out, facts, duels)
    draw(duels, asked.out / "compare.png")
    if asked.publish:
        publish(facts, duels)
    print(markdown(facts, duels))
    print(
        f"kept in {asked.out}: compare.json, compare.md, compare.png" + ", and in README.md" * asked.publish
    )


if __name__ == "__main__":
    main()
