"""The C yardstick from Python: build ``cartpole.c``, load it, and take gradients with it."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

SOURCE = Path(__file__).with_name("cartpole.c")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp")
SINGLE = (*FLAGS, "-DSINGLE", "-fsingle-precision-constant")  # float32 in the lanes
SINGLE_LANES = 64
LANES = 32  # the fastest of 16 to 256, by 5 %; `python -m bench.references.yardstick` measures it anew

_N_PARAMETERS = 10
_MAX_CHUNK = 4096
_MIN_CHUNKS = 8


class Sums(NamedTuple):
    """Sums over trajectories, of their scores s (float64, shape (10,)) and returns R."""

    s: np.ndarray
    sr: np.ndarray
    s2: np.ndarray
    s2r: np.ndarray
    s2r2: np.ndarray
    r: float
    r2: float
    length: float


class Gradient(NamedTuple):
    """An estimate of the gradient without a baseline."""

    gradient: np.ndarray
    mean_return: float
    n_steps: int
    seconds: float


def compiler() -> str | None:
    """Return the path of gcc, or None."""
    return shutil.which("gcc")


def build(source: Path, options: tuple[str, ...]) -> Path:
    """Compile a C file unless that was done before, and return the shared library.

    Compiled and linked in two calls: linked with -ffast-math, the library would switch the whole
    process, fastpg included, to flushing denormal numbers.

    Raises
    ------
    RuntimeError
        If there is no gcc.
    """
    gcc = compiler()
    if gcc is None:
        raise RuntimeError("the C yardstick needs gcc, which is not on the PATH (Debian: apt install gcc)")
    version = subprocess.run([gcc, "--version"], check=True, capture_output=True).stdout
    digest = hashlib.sha256(source.read_bytes() + version + repr(options).encode()).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"fastpg-yardstick-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    library = directory / f"{source.stem}-{digest}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            compiled, linked = Path(scratch, "object.o"), Path(scratch, "library.so")
            subprocess.run([gcc, *options, "-fPIC", "-c", str(source), "-o", str(compiled)], check=True)
            subprocess.run([gcc, "-shared", "-fopenmp", str(compiled), "-o", str(linked), "-lm"], check=True)
            os.replace(linked, library)
    return library


@cache
def load(flags: tuple[str, ...] = FLAGS, lanes: int = LANES) -> ctypes.CDLL:
    """Build and load the library."""
    library = ctypes.CDLL(str(build(SOURCE, (*flags, f"-DL={lanes}"))))
    pointer = np.ctypeslib.ndpointer(np.float64, flags="C_CONTIGUOUS")
    integer = ctypes.c_int64
    library.gradient.argtypes = [
        pointer, integer, ctypes.c_uint64, integer, integer, ctypes.c_int, pointer,
    ]  # fmt: skip
    library.gradient.restype = integer
    return library


def sums(
    theta, n_trajectories: int, seed: int = 0, horizon: int = 500, threads: int = 1, library=None
) -> tuple[Sums, int]:
    """Simulate trajectories 0 to n - 1 of a seed; return the sums over them and the number of steps."""
    weights = np.ascontiguousarray(theta, dtype=np.float64)
    if weights.shape != (_N_PARAMETERS,):
        raise ValueError(f"theta: has shape {weights.shape}, must have ({_N_PARAMETERS},)")
    chunk = max(1, min(_MAX_CHUNK, -(-n_trajectories // _MIN_CHUNKS)))
    out = np.zeros(5 * _N_PARAMETERS + 3)
    n_steps = (library or load()).gradient(weights, horizon, seed, n_trajectories, chunk, threads, out)
    blocks = out[: 5 * _N_PARAMETERS].reshape(5, _N_PARAMETERS)
    return Sums(*blocks, *out[5 * _N_PARAMETERS :].tolist()), n_steps


def gradient(
    theta, n_trajectories: int, seed: int = 0, horizon: int = 500, threads: int = 1, library=None
) -> Gradient:
    """Estimate the gradient of the expected return of CartPole-v1 at θ, REINFORCE without a baseline.

    Parameters
    ----------
    theta : array_like, shape (10,)
        In the layout of ``fastpg.SoftmaxLinear``.
    n_trajectories, seed, horizon, threads : int
        As in ``fastpg.policy_gradient``.
    library : ctypes.CDLL, optional
        From `load`, for other flags than `FLAGS`.
    """
    library = library or load()
    started = time.perf_counter()
    total, n_steps = sums(theta, n_trajectories, seed, horizon, threads, library)
    seconds = time.perf_counter() - started
    return Gradient(total.sr / n_trajectories, total.r / n_trajectories, n_steps, seconds)


def _compare_builds(alternations: int = 9, n_trajectories: int = 200_000) -> None:
    """Print how fast other lane counts and vector widths are, on one thread, at θ = 0."""
    builds = {f"L={lanes}": (FLAGS, lanes) for lanes in (16, 32, 64, 128, 256)}
    wide = (*FLAGS, "-mprefer-vector-width=512")
    builds |= {f"L={lanes}, 512 bits": (wide, lanes) for lanes in (32, 64, 128, 256)}
    builds |= {f"L={lanes}, float32": (SINGLE, lanes) for lanes in (32, 64, 128, 256)}
    speeds: dict[str, list[float]] = {name: [] for name in builds}
    for _ in range(alternations):
        for name, options in builds.items():
            result = gradient(np.zeros(_N_PARAMETERS), n_trajectories, library=load(*options))
            speeds[name].append(result.n_steps / result.seconds / 1e6)
    for name, values in speeds.items():
        print(f"{name:18s} {np.median(values):7.1f} M steps/s")


if __name__ == "__main__":
    _compare_builds()
