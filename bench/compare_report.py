"""Tables and the picture of a comparison (`bench.compare`)."""

import statistics
from collections import Counter
from pathlib import Path

import numpy as np

from bench.duels import IDS, Duel
from bench.measuring import ROOT, three_digits

HEADINGS = {
    "gradient": (
        "REINFORCE gradient, linear policy",
        "million environment steps a second; fastpg in float64, with standard errors and what every baseline "
        "needs, the others (but C) without either",
        "agreement before timing",
    ),
    "network": (
        "REINFORCE gradient, network",
        "million environment steps a second; float32 everywhere; fastpg with standard errors and what every "
        "baseline needs, the others without either",
        "agreement before timing",
    ),
    "stepping": (
        "Stepping through the vector interface",
        "million environment steps a second; actions drawn beforehand, but by gymnax, which runs "
        "without Python",
        "",
    ),
    "training": (
        "Training until solved",
        "seconds of the whole process, import included, checks not: 100 greedy episodes in Gymnasium every "
        "1,000 steps or update; to compile: what a process takes longer with nothing compiled on the disk; "
        "fastpg by REINFORCE with the defaults of the environment",
        "",
    ),
}


def ordered(duels: list[Duel]) -> list[Duel]:
    """Return them with the strongest peer of each task first, those that were skipped last."""
    tasks = sorted(
        {duel.task for duel in duels},
        key=lambda task: ([task.startswith(id) for id in IDS].index(True), task),
    )
    return sorted(
        duels,
        key=lambda d: (
            list(HEADINGS).index(d.section),
            tasks.index(d.task),
            bool(d.skipped),
            0 if d.skipped else d.ratio(),
        ),
    )


def runs(duels: list[Duel]) -> dict[str, int]:
    """Return the runs in which they were measured, oldest first: date and commit, and how many lines."""
    return dict(sorted(Counter(duel.measured for duel in duels if duel.measured).items()))


def markdown(facts: dict[str, str], duels: list[Duel]) -> str:
    """Return the report."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    measured = runs(duels)
    if len(measured) > 1:
        lines.append(f"- lines: {'; '.join(f'{n} of {when}' for when, n in measured.items())}")
    for section, (title, what, last) in HEADINGS.items():
        chosen = ordered([duel for duel in duels if duel.section == section])
        if not chosen:
            continue
        lines += ["", f"## {title}", "", f"{what[0].upper()}{what[1:]}.", ""]
        lines += [
            f"| | peer | fastpg | fastpg is faster (quartiles) | to compile: peer / fastpg | {last} |",
            "|---|---|---|---|---|---|",
        ]
        task = None
        for duel in chosen:
            if duel.task != task:
                task = duel.task
                lines.append(f"| **{task}** | | | | | |")
            lines.append(f"| {' | '.join(duel.cells())} |")
    return "\n".join(lines) + "\n"


def summary(facts: dict[str, str], duels: list[Duel]) -> str:
    """Return the README's table: one line a contest, the strongest peers first."""
    days = sorted({when[:10] for when in runs(duels)} or {facts["date"][:10]})
    lines = [
        f"`python -m bench.compare` on {' and '.join(days)}: {facts['processor']}, {facts['versions']}. "
        "Medians with quartiles; the strongest peer first. Linear policies in float64 in fastpg, C, NumPy, "
        "the Python loop, in float32 in JAX and PyTorch, and everywhere where the table says so; networks in "
        "float32. Those who train have networks "
        "of 64-64 units; fastpg's REINFORCE has a linear policy. All at the fastest of the settings tried, "
        "on all cores. What fastpg compiles stays on the disk. When, and at which commit: `compare.json`.",
        "",
        "| | peer | fastpg | fastpg is faster | to compile: peer / fastpg |",
        "|---|---|---|---|---|",
    ]
    for section, (title, _, _) in HEADINGS.items():
        chosen = ordered([duel for duel in duels if duel.section == section])
        task = None
        for duel in chosen:
            if duel.task != task:
                task = duel.task
                unit = "seconds" if duel.unit == "s" else "M steps/s"
                lines.append(f"| **{title}: {task}**, {unit} | | | | |")
            _, theirs, ours, ratio, compiled, _ = duel.cells()
            lines.append(f"| {duel.peer} | {theirs} | {ours} | {ratio} | {compiled} |")
    return "\n".join(lines) + "\n"


def draw(duels: list[Duel], path: Path) -> None:
    """Draw the contests as bars on logarithmic scales: one panel a unit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    chosen = [duel for duel in ordered(duels) if not duel.skipped]
    tasks = list(dict.fromkeys((duel.section, duel.task) for duel in chosen))
    panels = [[task for task in tasks if (task[0] == "training") is timed] for timed in (False, True)]
    panels = [panel for panel in panels if panel]
    bars = [[d for d in chosen if (d.section, d.task) in panel] for panel in panels]
    heights = [len(some) + 2.2 * len(panel) for some, panel in zip(bars, panels, strict=True)]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(8.5, 0.19 * sum(heights) + 1.2), squeeze=False, height_ratios=heights
    )
    for ax, panel in zip(axes[:, 0], panels, strict=True):
        y, ticks = 0.0, []
        for section, task in panel:
            some = [d for d in chosen if (d.section, d.task) == (section, task)]
            y -= 1.2
            title = {
                "gradient": "Gradient:",
                "network": "Gradient:",
                "stepping": "Stepping:",
                "training": "",
            }[section]
            ticks.append((y, f"{title} {task}".strip(), True))
            rows = [("fastpg", some[0].ours, "tab:green")]
            rows += [(d.peer, d.theirs, "tab:gray") for d in some]
            rows.sort(key=lambda row: statistics.median(row[1]), reverse=section != "training")
            for name, samples, colour in rows:
                y -= 1.0
                value = statistics.median(samples)
                ax.barh(y, value, height=0.8, color=colour)
                ax.text(value * 1.05, y, three_digits(value), va="center", fontsize=7)
                ticks.append((y, name, False))
        ax.set_xscale("log")
        ax.set_yticks([tick for tick, _, _ in ticks], [name for _, name, _ in ticks], fontsize=7)
        for label, (_, _, heading) in zip(ax.get_yticklabels(), ticks, strict=True):
            label.set_fontweight("bold" if heading else "normal")
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(y - 0.8, 0)
        ax.set_xlabel(
            "seconds until solved (shorter is better)"
            if panel[0][0] == "training"
            else "million steps a second"
        )
        ax.spines[["top", "right"]].set_visible(False)
        values = [
            statistics.median(x) for d in chosen if (d.section, d.task) in panel for x in (d.ours, d.theirs)
        ]
        ax.set_xlim(10.0 ** np.floor(np.log10(min(values)) - 0.3), max(values) * 2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def publish(facts: dict[str, str], duels: list[Duel]) -> None:
    """Write the table between the README's markers, and the picture that it shows."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split("<!-- compare -->\n", 1)
    _, after = rest.split("<!-- end -->", 1)
    picture = "![fastpg and its peers](bench/results/compare.png)\n\n"
    readme.write_text(
        f"{before}<!-- compare -->\n{picture}{summary(facts, duels)}<!-- end -->{after}", encoding="utf-8"
    )
