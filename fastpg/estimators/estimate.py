"""What an estimate of a policy gradient is."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Estimate:
    """A Monte-Carlo estimate of ∇J(θ), with its error.

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
    seconds : float
        Wall-clock time, compilation included if it was the first call of its kind.
    """

    gradient: np.ndarray
    standard_error: np.ndarray
    mean_return: float
    return_standard_error: float
    mean_length: float
    n_trajectories: int
    n_steps: int
    seconds: float
