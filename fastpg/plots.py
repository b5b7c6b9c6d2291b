"""Pictures of estimates and of runs (matplotlib, from the extra `cli`)."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastpg.algorithms.checks import is_algorithm

_AXES = {"steps": ("n_steps", "environment steps"), "seconds": ("seconds", "seconds after the first update")}


def gradient_components(estimate: Any, ax: Any = None) -> Any:
    """Draw the components of an `Estimate` with their 95 % intervals (Student's t), and return the axes."""
    ax = _axes(ax)
    low, high = estimate.confidence_interval.T
    components = np.arange(len(low))
    ax.axhline(0.0, color="0.6", lw=0.8)
    ax.vlines(components, low, high, color="C0", lw=1.5, label="95 % interval")
    ax.plot(components, estimate.gradient, "o", color="C0", ms=3, label="estimate")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("component")
    ax.set_ylabel("∇J(θ)")
    ax.set_title(
        f"{estimate.n_trajectories:,} trajectories, signal-to-noise ratio {estimate.signal_to_noise:.3g}"
    )
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def variance_by_estimator(estimates: Mapping[str, Any], ax: Any = None) -> Any:
    r"""Draw the variance of each estimator as a bar on a logarithmic axis, and return the axes.

    The total variance of a single trajectory, :math:`N \sum_p \mathrm{SE}_p^2`: it does not depend on N, and
    half of it is half as many trajectories for the same error.

    Parameters
    ----------
    estimates : dict of str to Estimate
        Of the same ∇J(θ), each with at least two trajectories.
    ax : matplotlib axes, optional
        New ones unless given.

    Raises
    ------
    ValueError
        If there are none, or one has no standard errors.
    """
    if not estimates:
        raise ValueError("estimates={}: must hold at least one")
    variances = {name: e.n_trajectories * np.sum(e.standard_error**2) for name, e in estimates.items()}
    for name, variance in variances.items():
        if not np.isfinite(variance):
            raise ValueError(f"estimates[{name!r}]: has no standard errors; needs at least two trajectories")
    ax = _axes(ax)
    bars = ax.barh(list(variances), list(variances.values()), color="C0")
    ax.bar_label(bars, fmt="{:.3g}", padding=3)
    seen = [variance for variance in variances.values() if variance > 0]
    if seen:
        ax.set_xscale("log")
        ax.set_xlim(10 ** np.floor(np.log10(min(seen) / 2)), 3 * max(seen))  # room for the labels
    ax.invert_yaxis()  # the first one on top
    ax.set_xlabel("variance of a single trajectory, summed over components")
    return ax


def learning_curve(run: Any, ax: Any = None, against: str = "steps") -> Any:
    """Draw the mean return (± 2 standard errors) of a run's updates, and return the axes.

    Parameters
    ----------
    run : Run
    ax : matplotlib axes, optional
        New ones unless given.
    against : "steps" or "seconds"
        Cumulated environment steps, or wall-clock time from the end of the first update on, which may have
        compiled.

    Raises
    ------
    ValueError
        If `against` is anything else.
    """
    if against not in _AXES:
        raise ValueError(f"against={against!r}: must be 'steps' or 'seconds'")
    ax = _axes(ax)
    history = run.history
    x, mean = history[_AXES[against][0]], history["mean_return"]
    x = x - x[:1] if against == "seconds" else x
    error = np.nan_to_num(history["return_standard_error"])
    _band(ax, x, mean, 2 * error, "C0", "mean return", "± 2 standard errors")
    _label(ax, against, "return")
    what = "environments" if is_algorithm(run.estimator) else "trajectories an update"
    ax.set_title(f"{type(run.env).__name__}, {type(run.estimator).__name__}, {run.n_trajectories:,} {what}")
    ax.legend(loc="lower right")
    return ax


def comparison(groups: Sequence[Any]) -> Any:
    """Draw groups of runs (`fastpg.comparison.grouped`) side by side, and return the matplotlib figure."""
    axes = _figure(15, 4.5).subplots(1, 3)
    panels = (("steps", "mean_return"), ("seconds", "mean_return"), ("steps", "signal_to_noise"))
    for ax, (against, name) in zip(axes, panels, strict=True):
        for i, group in enumerate(groups):
            x, mean, half_width = group.curve(_AXES[against][0], name)
            _band(ax, x, mean, half_width, f"C{i % 10}", group.label)
        _label(ax, against, "return" if name == "mean_return" else "signal-to-noise ratio of the gradient")
    axes[2].set_ylim(bottom=0.0)
    handles, labels = axes[0].get_legend_handles_labels()
    wrapped = ["\n".join(textwrap.wrap(label, 100)) for label in labels]
    axes[0].figure.legend(handles, wrapped, loc="outside lower center", fontsize="small")
    seeds = any(len(group.runs) > 1 for group in groups)
    single = any(len(group.runs) == 1 for group in groups)
    bands = ["95 % intervals over seeds (Student's t)"] * seeds + ["± 2 standard errors of one seed"] * single
    axes[0].figure.suptitle(f"Bands: {'; '.join(bands)}", fontsize="medium")
    return axes[0].figure


def save(picture: Any, path: str | os.PathLike) -> None:
    """Write a figure, or the figure of these axes, to a file, whole or not at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}")
    try:
        picture.figure.savefig(temporary, format=path.suffix[1:] or "png", dpi=150)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _figure(width, height):
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"pictures need matplotlib ({error}): pip install matplotlib, or fastpg's extra 'cli'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def _axes(ax):
    return _figure(7, 4).subplots() if ax is None else ax


def _band(ax, x, mean, half_width, color, label, band_label=None):
    ax.plot(x, mean, color=color, lw=1.5, label=label)
    ax.fill_between(x, mean - half_width, mean + half_width, color=color, alpha=0.25, lw=0, label=band_label)


def _label(ax, against, quantity):
    from matplotlib.ticker import EngFormatter

    if against == "steps":
        ax.xaxis.set_major_formatter(EngFormatter(sep=" "))
    ax.set_xlabel(_AXES[against][1])
    ax.set_ylabel(quantity)
    ax.grid(alpha=0.3)
