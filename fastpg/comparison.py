"""Runs side by side: grouped by their settings, with intervals over their seeds."""

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastpg.intervals import student_t
from fastpg.runs import Run, encode, id_of, load

_POINTS = 200  # of a curve
_LONG = 40  # letters


class Outcome(NamedTuple):
    """What a group of runs has come to, a row of a table."""

    label: str
    n_seeds: int
    mean_return: float  # of the last update, mean over seeds
    half_width: float  # of its 95 % interval over seeds (Student's t); 2 standard errors if there is one seed
    n_steps: float  # environment steps of a run, mean over seeds
    seconds: float  # of a run, compilation included, mean over seeds


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seeds.

    Attributes
    ----------
    label : str
        What tells it from the other groups.
    runs : list of Run
    """

    label: str
    runs: list[Run]

    def curve(self, against: str, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return x, the mean over seeds of a column of the histories, and the half width of its interval.

        Shape (points,) each. x is `against`, "n_steps" or "seconds" (these from the end of the first update
        on, which may have compiled), in 200 equal steps over the range that all seeds have in common; the
        column is interpolated between updates. The intervals are Student's t 95 % ones of the mean over
        seeds. A single seed is given as it is, with ± 2 standard errors of its mean returns, and none of
        other columns.
        """
        histories = [run.history for run in self.runs]
        positions = [h[against] - (h[against][0] if against == "seconds" else 0.0) for h in histories]
        columns = [np.where(np.isfinite(h[column]), h[column], np.nan) for h in histories]
        if len(histories) == 1:
            errors = histories[0]["return_standard_error"] if column == "mean_return" else np.zeros(1)
            return positions[0], columns[0], 2 * np.nan_to_num(errors)
        end = min(x[-1] for x in positions)
        x = np.linspace(min(end, max(x[0] for x in positions)), end, _POINTS)
        return x, *_mean_with_interval(
            np.array([np.interp(x, *pair) for pair in zip(positions, columns, strict=True)])
        )

    def outcome(self) -> Outcome:
        """Return what the runs have come to."""
        last = np.array([run.history[-1] for run in self.runs])
        mean, half_width = _mean_with_interval(last["mean_return"])
        if len(last) == 1:
            half_width = 2 * last["return_standard_error"][0]
        steps, seconds = last["n_steps"].mean(), last["seconds"].mean()
        return Outcome(self.label, len(last), float(mean), float(half_width), float(steps), float(seconds))


def compare(runs: Sequence[Run | str | os.PathLike], path: str | os.PathLike | None = None) -> Any:
    """Draw the learning curves of several runs, and return the (matplotlib) figure.

    Runs that differ in nothing but the seed are one curve with a 95 % band of the mean over seeds (Student's
    t); a single seed has ± 2 standard errors of its own mean returns. Three panels: the mean return against
    environment steps, and against seconds, and the signal-to-noise ratio of the gradient against steps.

    Parameters
    ----------
    runs : sequence of Run, or of directories
        At least one.
    path : path, optional
        Where to write the picture too (.png, .pdf, .svg).

    Raises
    ------
    ValueError
        If there are none, a directory holds none, a run has no updates, or two differ not even in the seed.
        But where one is the beginning of the other, which was resumed from it, the longer stands for both.

    Examples
    --------
    >>> import fastpg
    >>> fastpg.compare(["runs/adam-0", "runs/adam-1", "runs/sgd-0"], "compare.png")  # doctest: +SKIP
    """
    from fastpg.plots import comparison, save

    figure = comparison(grouped(runs))
    if path is not None:
        save(figure, path)
    return figure


def grouped(runs: Sequence[Run | str | os.PathLike]) -> list[Group]:
    """Return the groups of runs that differ in nothing but the seed, in the order of their first runs."""
    if isinstance(runs, Run | str | os.PathLike) or not len(runs):
        raise ValueError(f"runs={runs!r}: must be a sequence of at least one run or directory")
    groups: dict[str, list[Run]] = {}
    for number, given in enumerate(runs):
        run = given if isinstance(given, Run) else load(Path(given))
        if not len(run.history):
            raise ValueError(f"runs[{number}]: has no updates")
        same = groups.setdefault(json.dumps(_settings(run), sort_keys=True), [])
        twin = next((i for i, other in enumerate(same) if other.seed == run.seed), None)
        if twin is None:
            same.append(run)
        elif (longer := _longer(same[twin], run)) is not None:
            same[twin] = longer
        else:
            raise ValueError(
                f"runs[{number}]: has the settings and the seed, {run.seed}, of another run: "
                "leave one out, or train with another seed"
            )
    described = [_descriptions(members[0]) for members in groups.values()]
    told = [key for key in described[0] if len({texts[key] for texts in described}) > 1]
    for key in told:
        # In place of long words the names of classes, where they are as different.
        words = {texts[key] for texts in described}
        names = [texts[key].partition("(")[0] for texts in described]
        if max(map(len, words)) > _LONG and len(set(names)) == len(words):
            for texts, name in zip(described, names, strict=True):
                texts[key] = name
    shown = [[texts[key] for key in told or ("env", "estimator") if texts[key]] for texts in described]
    labels = [", ".join(texts) or "default parameters" for texts in shown]
    return [Group(label, members) for label, members in zip(labels, groups.values(), strict=True)]


def _longer(one, other):
    """The longer of two runs of which the other is the beginning, as of one that was resumed; or None."""
    short, long = sorted((one, other), key=lambda run: len(run.history))
    if len(short.history) == len(long.history):
        return None
    returns = (run.history["mean_return"][: len(short.history)] for run in (short, long))
    return long if np.array_equal(*returns, equal_nan=True) else None


def _mean_with_interval(values):
    """The mean over the first axis and the half width of its 95 % interval (NaN for a single one)."""
    n = len(values)
    if n == 1:
        return values[0], np.full_like(values[0], np.nan)
    return values.mean(axis=0), student_t(n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)


def _settings(run):
    """All that makes a run but its seed and its length."""
    config = run.config()
    return {
        name: config[name]
        for name in ("env", "policy", "estimator", "optimizer", "n_trajectories", "horizon")
    }


def _descriptions(run):
    """The settings in words: class, and the fields that are not the class's defaults."""
    return {
        "env": id_of(run.env) or type(run.env).__name__,
        "parameters": ", ".join(_unusual(run.env)),
        "policy": _call(run.policy),
        "estimator": _call(run.estimator),
        "optimizer": _call(run.optimizer),
        "n_trajectories": f"N={run.n_trajectories:,}",
        "horizon": f"horizon={run.horizon}",
    }


def _call(value):
    if value is None:
        return ""
    return (
        f"{type(value).__name__}({', '.join(_unusual(value))})" if hasattr(value, "_fields") else repr(value)
    )


def _unusual(value):
    defaults = type(value)._field_defaults
    for name, item in zip(value._fields, value, strict=True):
        if name not in defaults or repr(encode(item)) != repr(encode(defaults[name])):
            text = _call(item) if hasattr(item, "_fields") else repr(item)
            yield (
                f"{name}={text}"
                if len(text) <= _LONG
                else f"{name}=…{zlib.crc32(repr(encode(item)).encode()):08x}"
            )  # so that long values differ
