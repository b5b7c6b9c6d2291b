"""The Gaussian policy that is linear in the observation, for continuous actions."""

import math
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from fastpg import vectors
from fastpg.arguments import check_dtype
from fastpg.dispatch import compiled_form
from fastpg.features import Constant, check_features
from fastpg.policies import gaussian
from fastpg.policies.gaussian_features import GaussianFeatures
from fastpg.policies.spaces import box_shape


class GaussianLinear(NamedTuple):
    r"""Gaussian policy over m real numbers, its mean linear in an observation of F numbers, with a bias.

    With x = (observation, 1), a row w_k of F + 1 parameters for each component of the action, and standard
    deviations σ_k, components are independent:

    .. math:: a_k \sim N(w_k \cdot x, \sigma_k^2)

    log σ is **fixed**, **learned** (m parameters, log σ_k), or **state-dependent** (m more rows v_k, with
    log σ_k = v_k·x). θ is the float64 vector of the rows w_k, one after the other, the bias last in each,
    followed by what log σ has. An environment clips the actions it is given to its bounds; the score is
    that of the action before.

    The methods are compiled into the estimators; called from ordinary Python they take and return NumPy
    arrays, and observations (..., F) and actions (..., m) may have batch axes in front.

    Source: Sutton & Barto, *Reinforcement Learning* (2nd ed. 2018), §13.7 and exercise 13.4.
    """

    n_observations: int
    log_std: tuple[float, ...]  # m numbers: log σ_k if fixed, and at the start if not
    n_log_std_parameters: int = 0  # 0 if fixed, m if learned, m · (F + 1) if state-dependent
    bits: int = 64  # of a number in the lanes

    @classmethod
    def for_env(cls, env, log_std="learned", initial_log_std=0.0, features=None, dtype=np.float64):
        """Return the policy whose sizes are those of the environment's spaces.

        Parameters
        ----------
        env : NamedTuple
        log_std : "learned", "state-dependent", or float
            A number is the log σ of all components, fixed.
        initial_log_std : float
            log σ under `initial` if it is not fixed.
        features : feature map, optional
            One of `fastpg.features`, such as ``Fourier(3)``: then the policy is linear in its features, and
            is a `GaussianFeatures`.
        dtype : float64 or float32
            That trajectories are computed in; see `SoftmaxLinear.dtype`. With `features`, float64.

        Raises
        ------
        TypeError
            If `features` is something else.
        ValueError
            Unless observations and actions are one-dimensional Boxes, and `log_std` one of the above, if the
            sizes or bounds of `features` do not fit them, or if `dtype` is something else.
        """
        bits = check_dtype(dtype)
        (f,) = box_shape("GaussianLinear", "observation", env.observation_space)
        (m,) = box_shape("GaussianLinear", "action", env.action_space)
        if features is not None:
            check_features(features)
            if bits != 64:
                raise ValueError(f"dtype={dtype!r}: with features the lanes have float64")
            return _with_features(features.for_env(env), m, log_std, initial_log_std)
        if log_std in ("learned", "state-dependent"):
            counts = {"learned": m, "state-dependent": m * (f + 1)}
            return cls(f, (float(initial_log_std),) * m, counts[log_std], bits)
        return cls(f, (fixed_log_std(log_std),) * m, 0, bits)

    @property
    def dtype(self) -> np.dtype:
        """float64 or float32: what the numbers of a trajectory are; see `SoftmaxLinear.dtype`."""
        return np.dtype(f"float{self.bits}")

    check_environment = gaussian.check_environment  # type: ignore[misc]

    @property
    def n_parameters(self) -> int:
        """The length of θ."""
        return len(self.log_std) * (self.n_observations + 1) + self.n_log_std_parameters

    def initial(self) -> np.ndarray:
        """Return θ with mean 0 and the standard deviations of `log_std`: float64, shape (n_parameters,)."""
        theta = np.zeros(self.n_parameters)
        if self.n_log_std_parameters:
            width = self.n_log_std_parameters // len(self.log_std)
            theta[-self.n_log_std_parameters :][width - 1 :: width] = self.log_std
        return theta

    def mean(self, theta, observation):
        """Return the mean of the action, shape (..., m)."""
        rows = vectors.outer_with_bias(self.log_std, observation)  # for its length
        return vectors.affine(vectors.leading(theta, rows), observation)

    def log_std_at(self, theta, observation):
        """Return log σ, shape (..., m)."""
        rows = vectors.outer_with_bias(self.log_std, observation)
        return _log_std(vectors.trailing(theta, rows), self.log_std, observation)

    sample, mode = gaussian.sample, gaussian.mode  # type: ignore[misc]
    log_prob, entropy = gaussian.log_prob, gaussian.entropy  # type: ignore[misc]

    def entropy_score(self, theta, observation):
        """Return ∇_θ H, shape (..., n_parameters): the derivative of every log σ_k, which is all it has."""
        zeros = vectors.scale(self.log_std_at(theta, observation), 0.0, 0.0)
        rows = vectors.outer_with_bias(zeros, observation)
        ones = vectors.scale(zeros, 1.0, 1.0)
        return vectors.concatenate(rows, _log_std_score(vectors.trailing(theta, rows), ones, observation))

    def score(self, theta, observation, action):
        r"""Return ∇_θ log π_θ(action | observation), shape (..., n_parameters).

        From log π(a) = Σ_k (−½ z_k² − log σ_k) + const with z_k = (a_k − w_k·x) / σ_k: the derivative with
        respect to the row w_k is (z_k / σ_k) x; with respect to log σ_k it is z_k² − 1, and so with respect
        to the row v_k it is (z_k² − 1) x.
        """
        mean, log_std = self.mean(theta, observation), self.log_std_at(theta, observation)
        z, inverse = gaussian.standardised(mean, log_std, action)
        rows = vectors.outer_with_bias(vectors.multiply(z, inverse), observation)
        excess = vectors.scale(vectors.squares(z), 1.0, -1.0)
        return vectors.concatenate(rows, _log_std_score(vectors.trailing(theta, rows), excess, observation))


def fixed_log_std(log_std: Any) -> float:
    """Return the log σ that is given as a number, or raise ValueError."""
    if isinstance(log_std, bool) or not isinstance(log_std, Real) or not math.isfinite(log_std):
        raise ValueError(f"log_std={log_std!r}: must be 'learned', 'state-dependent' or a finite number")
    return float(log_std)


def _with_features(features, m, log_std, initial_log_std):
    maps = {"learned": Constant(), "state-dependent": features}
    if log_std in maps:
        policy = GaussianFeatures(features, (float(initial_log_std),) * m, maps[log_std])
        if initial_log_std != 0.0:
            policy.initial()  # raises if no sum of these features is constant
        return policy
    return GaussianFeatures(features, (fixed_log_std(log_std),) * m)


def _log_std(parameters, log_std, observation):
    """Log σ from its parameters; which kind it is follows from how many there are."""
    n = np.shape(parameters)[-1]
    if n == 0:
        return np.broadcast_to(log_std, (*np.shape(observation)[:-1], len(log_std)))
    if n == len(log_std):
        return np.broadcast_to(parameters, (*np.shape(observation)[:-1], n))
    return vectors.affine(parameters, observation)


def _log_std_score(parameters, slope, observation):
    """The derivative with respect to those parameters, from that with respect to log σ."""
    n = np.shape(parameters)[-1]
    if n == 0:
        return slope[..., :0]
    return slope if n == np.shape(slope)[-1] else vectors.outer_with_bias(slope, observation)


@compiled_form(_log_std)
def _(parameters, log_std, observation):
    if len(parameters) == 0:
        return lambda parameters, log_std, observation: log_std
    if len(parameters) == len(log_std):
        return lambda parameters, log_std, observation: parameters
    return lambda parameters, log_std, observation: vectors.affine(parameters, observation)


@compiled_form(_log_std_score)
def _(parameters, slope, observation):
    if len(parameters) == 0:
        return lambda parameters, slope, observation: parameters
    if len(parameters) == len(slope):
        return lambda parameters, slope, observation: slope
    return lambda parameters, slope, observation: vectors.outer_with_bias(slope, observation)
