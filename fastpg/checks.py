"""Is this an environment, and a fast one? `check_env`, and compiler errors that a reader understands."""

import dis
import math
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.core.errors import NumbaError

from fastpg.arguments import check_environment, check_integer
from fastpg.bindings import Bindings, is_covered
from fastpg.dispatch import distinct
from fastpg.lane_memory import allocate, element, leaves_of
from fastpg.random import RecordedRng, next_step, seed_key, trajectory_rng

_KINDS = {bool: "a boolean", int: "an integer", float: "a float"}
_LIBM = {"sin", "cos", "tan", "exp", "log", "pow", "tanh", "sinh", "cosh", "asin", "acos", "atan", "atan2"}
_LIBM |= {"log2", "log10", "log1p", "expm1", "exp2", "cbrt", "hypot", "fmod", "erf", "erfc"}
_SUBSTITUTES = {"sin": "sin_bounded", "cos": "cos_bounded"} | dict.fromkeys(["exp", "log", "tanh"], "")


@dataclass
class EnvironmentReport:
    """What `check_env` found.

    Attributes
    ----------
    errors : list of str
        What is wrong: results would be too, or nothing compiles.
    warnings : list of str
        What is slow or unusual.
    draws : dict
        The numbers of the random draws that "reset" and "step" were seen to make.
    vectorised : bool or None
        Whether the loop over lanes that steps became SIMD code; None where it was not compiled.
    """

    environment: str
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    draws: dict[str, list[int]] = field(default_factory=dict)
    vectorised: bool | None = None

    def __str__(self) -> str:
        """A line for each finding."""
        verdict = "; ".join(
            part
            for part in (
                "not an environment fastpg can trust" if self.errors else "a correct environment",
                {True: "vectorised", False: "not vectorised", None: ""}[self.vectorised],
            )
            if part
        )
        lines = [f"{self.environment}: {verdict}"]
        lines += [f"  {method} draws {numbers}" for method, numbers in self.draws.items()]
        lines += [f"  error: {text}" for text in self.errors]
        lines += [f"  warning: {text}" for text in self.warnings]
        return "\n".join(lines)


def check_env(env: Any, *, n_steps: int = 200, seed: int = 0) -> EnvironmentReport:
    """Check an environment: what it returns, its spaces, its use of random numbers, and its compiled form.

    Plays `n_steps` steps with random actions in ordinary Python, looking at each; compiles a step, and
    compares it with the ordinary one from the same states with the same random numbers; then looks whether
    the machine code works on vectors, and if not, why.

    Parameters
    ----------
    env : NamedTuple
        The environment.
    n_steps : int
        At least 1.
    seed : int

    Returns
    -------
    EnvironmentReport
        To be printed; the warnings are in it.

    Raises
    ------
    TypeError
        If there are errors; the message is the report.

    Examples
    --------
    >>> import fastpg
    >>> print(fastpg.check_env(fastpg.make("CartPole-v1")))
    CartPole: a correct environment; vectorised
      reset draws [0, 1, 2, 3]
      step draws []
    """
    check_environment(env)
    check_integer("n_steps", n_steps, 1)
    report = EnvironmentReport(type(env).__name__)
    _read_methods(env, report)
    try:
        _play(env, n_steps, seed, report)
    except Exception as exception:
        report.errors.append(f"in ordinary Python: {type(exception).__name__}: {exception}")
    if not report.errors:
        _compare(env, seed, report)
    if not report.errors:
        _look_at_machine_code(env, report)
    if report.errors:
        raise TypeError(f"env: {report}")
    return report


@contextmanager
def readable_errors(env: Any, *others: Any):
    """Turn a failure to compile, of many screens, into a TypeError that says what is wrong with `env`."""
    try:
        yield
    except NumbaError as error:
        report = EnvironmentReport(type(env).__name__)
        try:
            _play(env, 20, 0, report)
        except Exception as exception:  # what ordinary Python says of it is the best message there is
            report.errors.append(f"in ordinary Python: {type(exception).__name__}: {exception}")
        if report.errors:
            raise TypeError(f"env: {type(env).__name__} cannot be compiled: {report.errors[0]}") from None
        names = ", ".join(type(thing).__name__ for thing in (env, *others))
        raise TypeError(f"{names}: cannot be compiled: {innermost_cause(str(error))}") from None
    except SystemError as error:  # how an exception in a kernel arrives, if it does
        raise RuntimeError(f"{type(env).__name__}: {error.__cause__!r} in compiled code") from error


def innermost_cause(text: str) -> str:
    """Return what Numba's message says of the user's own code, or else of its innermost frame."""
    if found := re.search(r"the type of a trajectory must not change.*|a trajectory may hold .*", text):
        return found.group()
    lines = [line.strip() for line in text.splitlines()]
    files = [i for i, line in enumerate(lines) if line.startswith('File "')]
    own = [i for i in files if not re.search(r'"(.*[/\\])?(fastpg[/\\](?!envs)|numba[/\\])', lines[i])]
    at = (own or files or [len(lines)])[0]
    start = max((i for i, line in enumerate(lines[:at]) if line.startswith("Failed in")), default=-1) + 1
    message = [line for line in lines[start:at] if line and not line.startswith(("During", "raised from"))]
    place = lines[at : at + 8]
    place = place[: place.index("^")] if "^" in place else place[:1]
    return " ".join(message[:4] + [line for line in place if line and line != "<source elided>"])


# --- in ordinary Python ---


def _reachable(env):
    """The methods a kernel calls, and the functions outside the engine that they call in their turn."""
    todo = [getattr(type(env), name) for name in ("reset", "observe", "step")]
    seen: list = []
    while todo:
        function = todo.pop(0)
        function = getattr(function, "py_func", function)
        if function in seen or not hasattr(function, "__code__") or is_covered(function):
            continue
        seen.append(function)
        for _, referents in Bindings(function).items.values():
            todo += referents
    return seen


def _read_methods(env, report):
    for function in _reachable(env):
        for instruction in dis.get_instructions(function):
            if instruction.opname == "RAISE_VARARGS":
                report.errors.append(
                    f"{function.__qualname__} raises (or asserts): an exception in a kernel is lost; check "
                    "parameters where the environment is made, or end the episode with terminated"
                )
                break
        called, owner = set(), None
        for instruction in dis.get_instructions(function):
            name = instruction.argval if isinstance(instruction.argval, str) else ""
            bound = function.__globals__.get(name) if instruction.opname == "LOAD_GLOBAL" else None
            of_math = owner is math or (bound is not None and bound is getattr(math, name, None))
            if name in _LIBM and of_math:
                called.add(name)
            owner = bound
        report.warnings += [_advice(name, function.__qualname__) for name in sorted(called)]


def _advice(name, where=""):
    here = f" in {where}" if where else ""
    if name in _SUBSTITUTES:
        better = f"fastpg.simd.{name}" + (f" or {_SUBSTITUTES[name]}" if _SUBSTITUTES[name] else "")
        return f"math.{name}{here} works, and keeps the loop from being vectorised: use {better}"
    return f"math.{name}{here} works, and keeps the loop from being vectorised: fastpg.simd has none"


def _play(env, n_steps, seed, report):
    """Play in ordinary Python and say what is wrong with what comes back."""
    space = env.action_space
    actions = np.random.default_rng(seed)
    reset_draws, step_draws = set(), set()
    arrays = [value for value in env if isinstance(value, np.ndarray)]
    before = [array.copy() for array in arrays]
    episode, state, rng, like = 0, None, None, None
    for _ in range(n_steps):
        if state is None:
            rng = RecordedRng(*trajectory_rng(seed_key(seed), episode))
            state = env.reset(rng)
            episode += 1
            reset_draws |= set(rng.draws)
            _check_draws("reset", rng.draws, report)
            if not _check_state("reset", state, like, report):
                return
            like = state if like is None else like
            if env.reset(rng) != state and not _has_nan(state):
                report.errors.append("reset gives another state with the same random numbers: it is not pure")
        if not _check_observation(env, state, report):
            return
        action = _random_action(space, actions)
        rng = RecordedRng(*next_step(rng))
        result = env.step(state, action, rng)
        if not (isinstance(result, tuple) and len(result) == 3):
            report.errors.append(f"step returns {result!r}, must return (state, reward, terminated)")
            return
        step_draws |= set(rng.draws)
        _check_draws("step", rng.draws, report)
        following, reward, terminated = result
        if not _check_state("step", following, like, report):
            return
        if not isinstance(reward, bool | int | float | np.number | np.bool_):
            report.errors.append(f"step returns the reward {reward!r}, must be a number")
        if not isinstance(terminated, bool | np.bool_):
            report.errors.append(f"step returns terminated={terminated!r}, must be a boolean")
        if env.step(state, action, rng)[0] != following and not _has_nan(following):
            report.errors.append("step gives another state from the same arguments: it is not pure")
        if _has_nan((following, reward)):
            report.warnings.append(f"step gives NaN: from {state!r} by action {action!r}")
        if report.errors:
            return
        state = None if terminated else following
    report.draws.update(reset=sorted(reset_draws), step=sorted(step_draws))
    if any(not np.array_equal(array, old) for array, old in zip(arrays, before, strict=True)):
        report.errors.append("an array among the parameters was written to")


def _check_draws(method, draws, report):
    twice = sorted({j for j in draws if draws.count(j) > 1})
    if twice and not any(text.startswith(f"{method} uses") for text in report.warnings):
        report.warnings.append(
            f"{method} uses draw {twice[0]} twice: the same number again, where another j gives another"
        )


def _check_state(method, state, like, report):
    """Whether a state is one, and like those before."""
    if not (isinstance(state, tuple) and hasattr(state, "_fields")):
        report.errors.append(f"{method} returns the state {state!r}, must be a NamedTuple")
        return False
    for name, value in zip(state._fields, state, strict=True):
        kinds = {_kind(leaf) for leaf in leaves_of(value)}
        if None in kinds:
            report.errors.append(
                f"{method} returns {name}={value!r} in the state: must be a float, an integer or a boolean"
            )
            return False
    if like is not None and type(state) is not type(like):
        report.errors.append(f"{method} returns a {type(state).__name__}, and reset a {type(like).__name__}")
        return False
    order = [bool, int, float]
    for name, value, old in zip(state._fields, state, like or state, strict=True):
        new, first = [[_kind(leaf) for leaf in leaves_of(v)] for v in (value, old)]
        wider = len(new) != len(first) or any(
            order.index(n) > order.index(f) for n, f in zip(new, first, strict=True)
        )
        if wider:
            report.errors.append(
                f"{method} returns {name}={value!r}, {_KINDS.get(new[0])}, where reset has {old!r}, "
                f"{_KINDS.get(first[0])}: the type of a state must not change"
            )
            return False
    return True


def _check_observation(env, state, report):
    from gymnasium.spaces import Box, Discrete, Tuple

    observation = env.observe(state)
    space = env.observation_space
    if isinstance(space, Discrete):
        if _kind(observation) not in (int, bool):
            report.errors.append(f"observe returns {observation!r}, must be an integer: the space is {space}")
            return False
        inside = space.contains(int(observation))
    elif not isinstance(observation, tuple) or None in map(_kind, observation):
        report.errors.append(f"observe returns {observation!r}, must be a tuple of numbers")
        return False
    elif isinstance(space, Tuple):
        inside = space.contains(tuple(map(int, observation)))
    elif isinstance(space, Box):
        if (len(observation),) != space.shape:
            report.errors.append(
                f"observe returns {len(observation)} numbers, {observation!r}, where observation_space "
                f"has {space.shape}: the length must not vary"
            )
            return False
        inside = space.contains(np.array(observation, space.dtype))
    else:
        report.errors.append(f"observation_space={space}: must be a Box, Discrete, or a Tuple of Discrete")
        return False
    if not inside and not any("outside" in text for text in report.warnings):
        report.warnings.append(f"observe returns {observation!r}, outside the observation_space {space}")
    return True


def _kind(value):
    for kind, types in ((bool, bool | np.bool_), (int, int | np.integer), (float, float | np.floating)):
        if isinstance(value, types):
            return kind
    return None


def _has_nan(values):
    return any(isinstance(leaf, float | np.floating) and np.isnan(leaf) for leaf in leaves_of(values))


def _random_action(space, rng):
    """An action, as the methods take it: an integer, or a tuple of floats."""
    if hasattr(space, "n"):
        return int(space.start) + int(rng.integers(space.n))
    low, high = np.maximum(space.low, -10.0), np.minimum(space.high, 10.0)
    return tuple(rng.uniform(low, high).tolist())


# --- compiled ---


def _compare(env, seed, report):
    """Steps from the same states with the same random numbers, compiled and in ordinary Python."""
    from fastpg.stepping import Simulator

    n, n_steps = 64, 20
    horizon = 2**40
    width = np.size(env.observe(env.reset(trajectory_rng(seed_key(seed), 0))))
    try:
        with readable_errors(env):
            simulator = Simulator(env, n, horizon, np.float64)
            simulator.seed(seed_key(seed), np.arange(n))
            first = simulator.reset()
    except TypeError as error:
        report.errors.append(str(error))
        return
    rngs = [trajectory_rng(seed_key(seed), i) for i in range(n)]
    states = simulator.states()
    for i, rng in enumerate(rngs):
        start = env.reset(rng)
        expected = [*leaves_of(start), *np.reshape(env.observe(start), width)]
        found = [*leaves_of(element(states, i)), *np.reshape(first[i], width)]
        if not _agree(found, expected):
            report.errors.append(f"reset compiled is not reset in ordinary Python: {found}, not {expected}")
            return
    actions = np.random.default_rng(seed)
    alive = np.ones(n, bool)
    for _ in range(n_steps):
        states = simulator.states()
        chosen = [_random_action(env.action_space, actions) for _ in range(n)]
        rngs = [next_step(rng) for rng in rngs]
        observations, _, rewards, terminated, _ = simulator.step(np.array(chosen), True)
        following = simulator.states()
        for i in np.flatnonzero(alive):
            state, reward, ended = env.step(element(states, i), chosen[i], rngs[i])
            expected = [*leaves_of(state), reward, ended, *np.reshape(env.observe(state), width)]
            found = [
                *leaves_of(element(following, i)),
                rewards[i],
                terminated[i],
                *np.reshape(observations[i], width),
            ]
            if not _agree(found, expected):
                report.errors.append(
                    f"step compiled is not step in ordinary Python: from {element(states, i)!r} by action "
                    f"{chosen[i]!r} it gives {found}, not {expected}; a global or random number that is not "
                    "the environment's own, or arithmetic on integers that overflow?"
                )
                return
        alive &= ~terminated


def _agree(found, expected):
    return np.allclose(
        np.array(found, float), np.array(expected, float), rtol=1e-9, atol=1e-9, equal_nan=True
    )


@cache
def _one_step():
    from fastpg.stepping import _sit, step_seats

    @numba.njit
    def one_step(env, actions, key, like_action, n_lanes):
        like = _sit(env, key, 0)
        memory = allocate(like)
        restart, outcomes = np.zeros(n_lanes, np.bool_), np.zeros(n_lanes, np.uint8)
        rewards, first = np.zeros(n_lanes), 0 * n_lanes
        return step_seats(
            env, memory, actions, restart, rewards, outcomes, first, n_lanes, n_lanes, like, like_action
        )

    return one_step, step_seats


def lane_loop(env: Any) -> str:
    """Return LLVM's final code of the loop over lanes that steps this environment."""
    one_step, step_seats = _one_step()
    env = distinct(env)
    shape = env.action_space.shape
    n = int(np.prod(shape)) if shape else 0
    like_action = (0.0,) * n if shape else 0
    actions = np.zeros(8 * n) if shape else np.zeros(8, np.int64)
    one_step.compile(tuple(numba.typeof(value) for value in (env, actions, seed_key(0), like_action, 8)))
    codes = step_seats.inspect_llvm().items()
    return "\n".join(code for types, code in codes if types[0] == numba.typeof(env))


def _look_at_machine_code(env, report):
    code = lane_loop(env)
    # LLVM may well vectorise the rest of a loop around calls that it makes one lane after the other.
    slow = sorted(set(re.findall(r"call [^@\n]*@(?:llvm\.)?(\w+)", code)) & _LIBM)
    report.vectorised = "vector.body" in code and not slow
    if slow:
        report.warnings += [_advice(name) for name in slow if not any(name in w for w in report.warnings)]
    elif not report.vectorised:
        report.warnings.append(
            "the loop over lanes is not vectorised: is there a branch around a large piece of work, a loop "
            "whose length depends on the state, or array[i] where fastpg.tables.lookup would do?"
        )
