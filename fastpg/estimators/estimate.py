"""What an estimate of a policy gradient is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpg.intervals import student_t

_SHOWN = 20  # components in a table


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """A Monte-Carlo estimate of ∇J(θ), with its error.

    ``print(estimate)`` shows it as a table, ``estimate.plot()`` as a picture.

    Attributes
    ----------
    gradient, standard_error : float64 array, shape (n_parameters,)
        The estimate and the standard error of each component (NaN for a single trajectory, from which
        no error can be estimated).
    mean_return, return_standard_error : float
        Of the undiscounted return of a trajectory.
    mean_length : float
        Steps a trajectory.
    n_trajectories, n_steps : int
        The steps with those of a pilot batch, where a baseline was fitted on one.
    seconds : float
        Wall-clock time, compilation included if it was the first call of its kind.
    covariance : float64 array, shape (n_parameters, n_parameters), or None
        Of the estimate, where it was asked for: its diagonal is ``standard_error**2``.
    fisher : float64 array, shape (n_parameters, n_parameters), or function, or None
        The Fisher information matrix F, where it was asked for; of more than 512 parameters what returns F v
        for a vector v. Either is what `fastpg.natural_gradient` takes.
    effective_sample_size : float or None
        (Σ w)² / Σ w² of importance weights w (Kong 1992), where trajectories are weighted.
    """

    gradient: np.ndarray
    standard_error: np.ndarray
    mean_return: float
    return_standard_error: float
    mean_length: float
    n_trajectories: int
    n_steps: int
    seconds: float
    covariance: np.ndarray | None = None
    fisher: np.ndarray | Callable[[np.ndarray], np.ndarray] | None = None
    effective_sample_size: float | None = None

    @property
    def signal_to_noise(self) -> float:
        r"""Euclidean norm of the gradient over that of its standard errors; NaN for a single trajectory.

        .. math:: \mathrm{SNR} = \|\widehat{\nabla J}\| \Big/ \sqrt{\textstyle\sum_p \mathrm{SE}_p^2}

        A ratio of amplitudes, and of the whole estimate, so that it grows as √N. Its power −2 is the
        noise-to-signal ratio tr Cov(∇Ĵ) / ‖∇J‖² of Han and Yang (arXiv 2602.01460), estimates in the place of
        what is true; as E‖∇Ĵ‖² = ‖∇J‖² + tr Cov(∇Ĵ), noise alone has a value near 1. That of a single
        component is ``gradient / standard_error``. Infinite if there is no error, NaN if both are zero.
        """
        return _ratio(np.linalg.norm(self.gradient), np.linalg.norm(self.standard_error))

    @property
    def confidence_interval(self) -> np.ndarray:
        """The 95 % intervals of the components (Student's t), float64, shape (n_parameters, 2)."""
        width = student_t(self.n_trajectories - 1) * self.standard_error
        return np.stack([self.gradient - width, self.gradient + width], axis=-1)

    def plot(self, ax: Any = None) -> Any:
        """Draw the components with their 95 % intervals, and return the (matplotlib) axes."""
        from fastpg.plots import gradient_components

        return gradient_components(self, ax)

    def __repr__(self) -> str:
        """A line."""
        return (
            f"<Estimate of {len(self.gradient)} components: mean return {self._mean_return()}, "
            f"signal-to-noise {self.signal_to_noise:.3g}, {self._trajectories()}>"
        )

    def __str__(self) -> str:
        """A table; the middle of a long one is left out."""
        lines = [
            f"∇J(θ) from {self._trajectories()}, {self.n_steps:,} steps in {self.seconds:.3g} s",
            f"mean return {self._mean_return()}, mean length {self.mean_length:.4g}",
            f"signal-to-noise ratio {self.signal_to_noise:.4g}",
        ]
        if self.effective_sample_size is not None:
            lines[-1] += f", effective sample size {self.effective_sample_size:,.1f}"
        n = len(self.gradient)
        shown = list(range(n)) if n <= _SHOWN else [*range(_SHOWN // 2), *range(n - _SHOWN // 2, n)]
        lines.append(f"{'component':>9} {'gradient':>12} {'std. error':>11} {'95 % interval':>28}")
        intervals = self.confidence_interval
        for previous, i in zip([-1, *shown], shown, strict=False):
            if i != previous + 1:
                lines.append(f"{'…':>9}")
            error, (low, high) = self.standard_error[i], intervals[i]
            text = "–" if np.isnan(error) else f"{error:.2g}"
            interval = "–" if np.isnan(low) else f"[{low:12.5g}, {high:12.5g}]"
            lines.append(f"{i:>9} {self.gradient[i]:12.5g} {text:>11} {interval:>28}")
        if not np.isfinite(self.gradient).all():
            lines.append("not finite: an observation, a reward or a score was not; try fastpg.check_env(env)")
        return "\n".join(lines)

    def _mean_return(self):
        error = self.return_standard_error
        return f"{self.mean_return:.5g}" + ("" if np.isnan(error) else f" ± {error:.2g}")

    def _trajectories(self):
        return "1 trajectory" if self.n_trajectories == 1 else f"{self.n_trajectories:,} trajectories"


def _ratio(x, y):
    """The quotient of two numbers as IEEE has it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(x) / np.float64(y))
