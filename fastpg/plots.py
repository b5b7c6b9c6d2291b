"""Pictures of runs (matplotlib, from the extra `cli`)."""

import os
from pathlib import Path
from typing import Any

import numpy as np


def learning_curve(run: Any, ax: Any = None) -> Any:
    """Draw the mean return (± 2 standard errors) against environment steps, and return the axes.

    Parameters
    ----------
    run : Run
    ax : matplotlib axes, optional
        New ones unless given.
    """
    from matplotlib.ticker import EngFormatter

    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(7, 4), layout="constrained").subplots()
    history = run.history
    mean, error = history["mean_return"], np.nan_to_num(history["return_standard_error"])
    ax.plot(history["n_steps"], mean, color="C0", lw=1.5, label="mean return")
    ax.fill_between(
        history["n_steps"],
        mean - 2 * error,
        mean + 2 * error,
        color="C0",
        alpha=0.25,
        lw=0,
        label="± 2 standard errors",
    )
    ax.xaxis.set_major_formatter(EngFormatter(sep=" "))
    ax.set_xlabel("environment steps")
    ax.set_ylabel("return")
    ax.set_title(
        f"{type(run.env).__name__}, {type(run.estimator).__name__}, "
        f"{run.n_trajectories:,} trajectories an update"
    )
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right")
    return ax


def save(ax: Any, path: str | os.PathLike) -> None:
    """Write the figure of these axes to a file, whole or not at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}")
    try:
        ax.figure.savefig(temporary, format=path.suffix[1:] or "png", dpi=150)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
