"""MinAtar's games, random actions: ``python -m bench.minatar --peers PYTHON [--seconds 1] [--times 5]``.

fastpg through its vector interface, gymnax compiled, and the `minatar` package itself, a process a core; in
turn, so that a ratio is the median of the ratios of neighbours. `PYTHON` is an interpreter with the peers.
"""

import argparse
import statistics
import sys

import fastpg
from bench.contestants import Setting, fastest, timer
from bench.measuring import CORES, alternate, conditions, ratios, three_digits
from fastpg.throughput import stepping_timer

NUM_ENVS = (1024, 4096, 16384)


def contestants(peers: str, game: str, seconds: float):
    """Yield the peers, each in its fastest setting: its name, and what measures M steps/s."""
    stepping = (peers, "-W", "ignore", "-m", "bench.peers.stepping")
    many = [Setting(f"{n:,}", (*stepping, "gymnax", f"{game}-MinAtar", str(n))) for n in NUM_ENVS]
    name, contestant = fastest(many, seconds)
    yield f"gymnax, {name} environments", timer(contestant, seconds)
    package = Setting("", (*stepping, "minatar", game.lower(), "1"), processes=CORES)
    yield f"minatar package, {CORES} processes", timer(fastest([package], seconds)[1], seconds)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    print("\n".join(f"- {name}: {value}" for name, value in conditions().items()))
    print("\n| game | contestant | M steps/s | fastpg / contestant |\n|---|---|---|---|")
    for game in ("Breakout", "Asterix"):
        speeds = {n: stepping_timer(fastpg.make_vec(f"MinAtar/{game}", n), options.seconds) for n in NUM_ENVS}
        best = max(speeds, key=lambda n: speeds[n]())
        found = dict(contestants(options.peers, game, options.seconds))
        ours, *theirs = alternate(options.times, speeds[best], *found.values())
        rows = [(f"fastpg, {best:,} environments", ours), *zip(found, theirs, strict=True)]
        for name, samples in rows:
            ratio = statistics.median(ratios(ours, samples))
            speed = three_digits(statistics.median(samples))
            print(f"| {game} | {name} | {speed} | {three_digits(ratio)} |", flush=True)


if __name__ == "__main__":
    main()
