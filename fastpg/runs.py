"""A finished training run: its policy, its history, and how it is kept in a directory."""

import csv
import importlib.util
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastpg.environment import load_class, make, registry

HISTORY = np.dtype(
    [
        ("update", np.int64),
        ("n_steps", np.int64),  # environment steps, cumulated
        ("seconds", np.float64),  # wall clock, cumulated
        ("mean_return", np.float64),
        ("return_standard_error", np.float64),
        ("mean_length", np.float64),
        ("gradient_norm", np.float64),  # Euclidean
        ("gradient_error", np.float64),  # Euclidean norm of the standard errors
        ("signal_to_noise", np.float64),  # the one over the other
        ("learning_rate", np.float64),
        # Of algorithms alone, NaN for others; see `fastpg.algorithms.minibatches.Statistics`.
        ("kl", np.float64),
        ("entropy", np.float64),
        ("clipped", np.float64),
        ("value_error", np.float64),
    ]
)

_PARTIAL = ".policy.npz"
_FILES = ("policy.npz", "history.csv", "config.json", _PARTIAL)


@dataclass(frozen=True, eq=False)
class Run:
    """What `fastpg.train` returns and `fastpg.load` reads.

    Attributes
    ----------
    env, policy, estimator, optimizer : NamedTuple
        Trained by an algorithm (`fastpg.PPO` and so on), that is the estimator, the optimizer is None, and
        `n_trajectories` is the number of environments.
    theta : array, shape (n_parameters,)
        After the last update.
    history : structured array, shape (updates,)
        A row an update, of the policy before it: ``run.history["mean_return"]``; fields: ``HISTORY``.
    optimizer_state : tuple of arrays
    n_trajectories, horizon, seed : int
    """

    env: Any
    policy: Any
    estimator: Any
    optimizer: Any
    theta: np.ndarray
    history: np.ndarray
    optimizer_state: tuple[np.ndarray, ...]
    n_trajectories: int
    horizon: int
    seed: int

    def __repr__(self) -> str:
        """A line."""
        last = f", last mean return {self.history['mean_return'][-1]:.5g}" if len(self.history) else ""
        how = type(self.estimator).__name__
        return f"<Run of {how} in {type(self.env).__name__}: {len(self.history):,} updates{last}>"

    def config(self) -> dict[str, Any]:
        """Return all settings as JSON has them.

        For readers only: ``env_id``, the environment's name for `fastpg.make`, and ``env_parameters``, in
        what it differs from that one (all parameters if it has no name).
        """
        import fastpg

        id = id_of(self.env)
        usual = _made(id)
        return {
            "fastpg": fastpg.__version__,
            "env_id": id,
            "env_parameters": {
                name: plain(value)
                for name, value in zip(self.env._fields, self.env, strict=True)
                if usual is None or not _equal(value, getattr(usual, name))
            },
            "env": encode(self.env),
            "policy": encode(self.policy),
            "estimator": encode(self.estimator),
            "optimizer": encode(self.optimizer),
            "n_updates": len(self.history),
            "n_trajectories": self.n_trajectories,
            "horizon": self.horizon,
            "seed": self.seed,
        }

    def plot(self, ax: Any = None, against: str = "steps") -> Any:
        """Draw the learning curve (matplotlib) and return its axes; see `fastpg.plots.learning_curve`."""
        from fastpg.plots import learning_curve

        return learning_curve(self, ax, against)

    def save(self, path: str | os.PathLike) -> Path:
        """Write the run to a new or empty directory, whole or not at all.

        ``policy.npz`` (θ and everything needed to load it), ``history.csv``, ``config.json`` and, where
        matplotlib is installed, ``learning_curve.png`` (a picture that fails is only warned of).

        Raises
        ------
        ValueError
            If `path` already holds something or cannot be written, or if `load` could not find a class
            of the run again, such as one that was defined inside a function.
        OSError
            If writing fails later; nothing is left then.
        """
        target = check_output(path)
        config = self.config()
        for name in ("env", "policy", "estimator", "optimizer"):
            try:
                decode(config[name])
            except Exception as error:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: fastpg.load could not make it again ({error}); its "
                    "class must be defined at the top level of a module"
                ) from error
        text = json.dumps(config, indent=2)
        state = {f"optimizer_state_{i}": array for i, array in enumerate(self.optimizer_state)}
        arrays: dict[str, Any] = {"theta": self.theta, "history": self.history, "config": text, **state}
        with _to_fill(target):
            (target / "config.json").write_text(text + "\n")
            with open(target / "history.csv", "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(HISTORY.names or ())
                writer.writerows(self.history.tolist())
            np.savez(target / _PARTIAL, **arrays)
            os.replace(target / _PARTIAL, target / "policy.npz")  # last: it makes the directory a run
        if importlib.util.find_spec("matplotlib"):
            from fastpg.plots import save

            try:
                save(self.plot(), target / "learning_curve.png")
            except Exception as error:
                warnings.warn(f"learning_curve.png could not be drawn: {error}", stacklevel=2)
        return target


def load(path: str | os.PathLike) -> Run:
    """Return the run that `Run.save` wrote to a directory.

    The modules of its classes are imported, and with them their code is run; beyond that a file can
    only make instances of NamedTuple classes.

    Raises
    ------
    ValueError
        If there is none, or it is damaged, or its environment's class is no longer there.
    """
    file = Path(path) / "policy.npz"
    if not file.is_file():
        raise ValueError(f"path={str(path)!r}: holds no run (there is no {file})")
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as data:
            config = json.loads(str(data["config"]))
            state = [data[name] for name in data.files if name.startswith("optimizer_state_")]
            return Run(
                env=decode(config["env"]),
                policy=decode(config["policy"]),
                estimator=decode(config["estimator"]),
                optimizer=decode(config["optimizer"]),
                theta=data["theta"],
                history=_with_all_columns(data["history"]),
                optimizer_state=tuple(state),
                n_trajectories=config["n_trajectories"],
                horizon=config["horizon"],
                seed=config["seed"],
            )
    except Exception as error:
        raise ValueError(f"path={str(path)!r}: the run cannot be read: {error}") from error


def row_of(**columns: float) -> tuple:
    """Return a row of a history; columns that are not given are NaN."""
    return tuple(columns.get(name, float("nan")) for name in HISTORY.names or ())


def _with_all_columns(history):
    """The history of a run, maybe of an earlier version, which lacked some columns: NaN where unknown."""
    whole = np.zeros(len(history), HISTORY)
    known = set(history.dtype.names or ())
    for name in HISTORY.names or ():
        if name in known:
            whole[name] = history[name]
        elif HISTORY[name].kind == "f":
            whole[name] = np.nan
    if "signal_to_noise" not in known:
        with np.errstate(divide="ignore", invalid="ignore"):
            whole["signal_to_noise"] = whole["gradient_norm"] / whole["gradient_error"]
    return whole


def check_output(path: str | os.PathLike) -> Path:
    """Return where a run may be written, or raise ValueError; makes nothing."""
    target = Path(path)
    try:
        if os.path.lexists(target):
            if not target.is_dir():
                raise ValueError(f"path={str(path)!r}: is a file, must be a new or empty directory")
            held = sorted(os.listdir(target))
            if held:
                what = "a run" if set(_FILES) & set(held) else held[0]
                raise ValueError(f"path={str(path)!r}: already holds {what}; choose a new directory")
        nearest = next(place for place in (target, *target.parents) if os.path.lexists(place))
        tempfile.TemporaryDirectory(dir=nearest).cleanup()
    except OSError as error:
        raise ValueError(f"path={str(path)!r}: cannot be written ({error.strerror})") from None
    return target


@contextmanager
def _to_fill(target: Path) -> Iterator[None]:
    """Make the directory unless it is there; if filling it fails, take back what was made."""
    made = [place for place in (target, *target.parents) if not place.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / "config.json").touch(exist_ok=False)  # of two that save here at once, one fails
        try:
            yield
        except BaseException:
            for name in _FILES:
                (target / name).unlink(missing_ok=True)
            raise
    except BaseException:
        with suppress(OSError):  # another process may have put something there
            for place in made:
                place.rmdir()
        raise


def id_of(env: Any) -> str | None:
    """Return the name under which `fastpg.make` makes this class; None if there is none.

    Of several, the one with these very parameters, or else the first.
    """
    ids = [spec.id for spec in registry.values() if _named_by(spec, type(env))]
    return next((id for id in ids if _equal(_made(id), env)), ids[0] if ids else None)


def has_default_parameters(env: Any) -> bool:
    """Return whether `fastpg.make` gives this environment by a name alone."""
    return _equal(_made(id_of(env)), env)


def _named_by(spec, cls):
    if isinstance(spec.entry_point, str):  # not imported for this
        return spec.entry_point == f"{cls.__module__}:{cls.__qualname__}"
    return spec.entry_point is cls


def _made(id):
    """What `make` of that name alone gives, or None."""
    try:
        return None if id is None else make(id)
    except (TypeError, ValueError):  # it has parameters without defaults
        return None


def _equal(one, other):
    """Whether two settings are equal, arrays and types included: 1 is neither 1.0 nor True."""
    return repr(encode(one)) == repr(encode(other))


def plain(value: Any) -> Any:
    """Return a parameter for a reader: of an array of more than 16 numbers only its shape."""
    if isinstance(value, np.ndarray) and value.size > 16:
        return f"array of shape {value.shape}"
    encoded = encode(value)
    return encoded.get("array", repr(value)) if isinstance(encoded, dict) else encoded


def encode(value: Any) -> Any:
    """Return a NamedTuple, array or scalar as JSON has it; what JSON cannot hold as its ``repr``."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        cls = type(value)
        fields = {name: encode(item) for name, item in zip(value._fields, value, strict=True)}
        return {"class": f"{cls.__module__}:{cls.__qualname__}", "fields": fields}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, bool | int | float | str | None):
        return value
    return {"repr": repr(value)}


def decode(value: Any) -> Any:
    """Return what `encode` was given; None for what it could only describe."""
    if isinstance(value, dict):
        if "class" in value:
            return load_class(value["class"])(**{n: decode(item) for n, item in value["fields"].items()})
        if "array" in value:
            return np.array(value["array"], dtype=value["dtype"])
        return None
    if isinstance(value, list):
        return tuple(decode(item) for item in value)
    return value
