"""LinearQuadratic: linear dynamics with Gaussian noise and quadratic costs, in any dimensions."""

from typing import NamedTuple

import numpy as np

from fastpg.arguments import MAX_HORIZON, check_integer
from fastpg.matrices import add_product, dot, product
from fastpg.tables import check_shapes_of_fields, other_fields, same_fields
from fastpg.vectors import normals


class State(NamedTuple):
    """A vector of n numbers."""

    x: tuple[float, ...]


class LinearQuadratic(NamedTuple):
    """Keep a noisy linear system near the origin, at little cost (the linear-quadratic regulator).

    ===========  =====================================================================
    Observation  the state x, n numbers
    Action       u, m numbers, not clipped
    Reward       -(xᵀQx + uᵀRu), with x before the step
    Dynamics     x' = Ax + Bu + w, w normal with mean 0 and covariance `noise`
    Start        normal with mean `start_mean` and covariance `start_covariance`
    End          never
    Horizon      `horizon` steps
    ===========  =====================================================================

    Matrices are C-contiguous float64 arrays; `start_mean` is a tuple, so that n is part of the type and
    the products are unrolled. In place of a covariance C there is a field for its square root S = Sᵀ,
    SS = C. `from_matrices` makes the fields and checks them.

    Source: Anderson & Moore, *Optimal Control: Linear Quadratic Methods* (1990); for policy gradients
    Fazel, Ge, Kakade & Mesbahi, "Global convergence of policy gradient methods for the linear
    quadratic regulator" (ICML 2018).
    """

    A: np.ndarray  # shape (n, n)
    B: np.ndarray  # shape (n, m)
    Q: np.ndarray  # shape (n, n), positive semidefinite
    R: np.ndarray  # shape (m, m), positive definite
    noise_root: np.ndarray  # shape (n, n)
    start_mean: tuple[float, ...]  # n numbers
    start_root: np.ndarray  # shape (n, n)
    horizon: int

    __eq__ = same_fields
    __ne__ = other_fields

    def check_parameters(self):
        """Raise ValueError unless the matrices fit together."""
        square = dict.fromkeys(("A", "Q", "noise_root", "start_root"), ("n", "n"))
        check_shapes_of_fields(self, {"start_mean": ("n",), **square, "B": ("n", "m"), "R": ("m", "m")})

    @classmethod
    def from_matrices(cls, A, B, Q, R, *, noise=0.0, start_mean=0.0, start_covariance=1.0, horizon=100):
        """Return the environment with these matrices.

        Parameters
        ----------
        A : array, shape (n, n)
        B : array, shape (n, m)
        Q : array, shape (n, n)
            Symmetric and positive semidefinite.
        R : array, shape (m, m)
            Symmetric and positive definite.
        noise, start_covariance : array, shape (n, n), or float
            Covariances, symmetric and positive semidefinite; a number stands for that multiple of the
            identity.
        start_mean : array, shape (n,), or float
            A number stands for all components.
        horizon : int
            Steps of an episode.

        Raises
        ------
        TypeError
            If an argument holds anything but numbers, or `horizon` is not an integer.
        ValueError
            If an argument has another shape, is not finite, not symmetric or not definite as said above, or
            `horizon` < 1.
        """
        A = _numbers("A", A)
        if A.ndim != 2 or A.shape[0] != A.shape[1] or A.size == 0:
            raise ValueError(f"A: must be a square matrix, shape (n, n) with n >= 1, not shape {A.shape}")
        n = len(A)
        B = _numbers("B", B)
        if B.ndim != 2 or len(B) != n or B.size == 0:
            raise ValueError(f"B: must be of shape ({n}, m) with m >= 1, as A has {n} rows, not {B.shape}")
        m = B.shape[1]
        start_mean = _numbers("start_mean", start_mean)
        if start_mean.shape not in ((), (n,)):
            raise ValueError(f"start_mean: must be of shape ({n},), or a number, not {start_mean.shape}")
        horizon = check_integer("horizon", horizon, 1, MAX_HORIZON)
        Q = _semidefinite("Q", _numbers("Q", Q), n)
        R = _semidefinite("R", _numbers("R", R), m)
        if np.linalg.eigvalsh(R)[0] <= 0.0:
            raise ValueError(f"R={R.tolist()}: must be positive definite")
        return cls(
            A,
            B,
            Q,
            R,
            _root("noise", noise, n),
            tuple(np.broadcast_to(start_mean, n).tolist()),
            _root("start_covariance", start_covariance, n),
            int(horizon),
        )

    @classmethod
    def make(
        cls,
        *,
        A=((1.0, 0.1), (0.0, 1.0)),
        B=((0.0,), (0.1,)),
        Q=((1.0, 0.0), (0.0, 0.1)),
        R=((0.1,),),
        noise=0.001,
        start_mean=0.0,
        start_covariance=1.0,
        horizon=100,
    ):
        """Return `from_matrices` of the arguments; by default a point on a line, pushed by a force."""
        return cls.from_matrices(
            A,
            B,
            Q,
            R,
            noise=noise,
            start_mean=start_mean,
            start_covariance=start_covariance,
            horizon=horizon,
        )

    @property
    def noise(self):
        """The covariance of the noise, shape (n, n)."""
        return self.noise_root @ self.noise_root

    @property
    def start_covariance(self):
        """The covariance of the start state, shape (n, n)."""
        return self.start_root @ self.start_root

    @property
    def observation_space(self):
        """All of the n-dimensional space."""
        from gymnasium.spaces import Box

        return Box(-np.inf, np.inf, (len(self.A),), np.float64)

    @property
    def action_space(self):
        """All of the m-dimensional space."""
        from gymnasium.spaces import Box

        return Box(-np.inf, np.inf, (len(self.R),), np.float64)

    def reset(self, rng):
        """Return a start state."""
        return State(add_product(self.start_mean, self.start_root, normals(rng, self.start_mean)))

    def observe(self, state):
        """Return the whole state."""
        return state.x

    def step(self, state, action, rng):
        """Return the next state and the reward."""
        reward = -dot(state.x, product(self.Q, state.x)) - dot(action, product(self.R, action))
        x = product(self.A, state.x)
        x = add_product(x, self.B, action)
        x = add_product(x, self.noise_root, normals(rng, x))
        return State(x), reward, False


def _numbers(name, value):
    """The argument as a float64 array, finite."""
    try:
        numbers = np.array(value, order="C")
    except ValueError:  # rows of unequal length
        raise TypeError(f"{name}={value!r}: must be numbers, rows of equal length") from None
    if numbers.dtype.kind not in "iuf":
        raise TypeError(f"{name}={value!r}: must be numbers, rows of equal length")
    numbers = numbers.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name}={value!r}: must be finite")
    return numbers


def _semidefinite(name, matrix, n):
    """The matrix, if it is n by n, symmetric and positive semidefinite."""
    if matrix.shape != (n, n):
        raise ValueError(f"{name}: must be of shape ({n}, {n}), not {matrix.shape}")
    rounding = 1e-12 * np.abs(matrix).max()
    if np.abs(matrix - matrix.T).max() > rounding:
        raise ValueError(f"{name}={matrix.tolist()}: must be symmetric")
    if np.linalg.eigvalsh(matrix)[0] < -rounding * n:
        raise ValueError(f"{name}={matrix.tolist()}: must be positive semidefinite")
    return matrix


def _root(name, covariance, n):
    """The symmetric square root of a covariance; it also exists where some direction has no variance."""
    covariance = _numbers(name, covariance)
    if covariance.ndim == 0:
        covariance = covariance * np.eye(n)
    values, vectors = np.linalg.eigh(_semidefinite(name, covariance, n))
    return np.ascontiguousarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
