"""Is this an environment, and a fast one? `check_env`."""

import dis
import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numba
import numpy as np

from fastpg.arguments import check_action_space, check_environment, check_horizon, check_integer
from fastpg.bindings import Bindings, is_covered
from fastpg.dispatch import distinct
from fastpg.lane_memory import allocate, holds_arrays
from fastpg.lanes import as_observation
from fastpg.nests import element, leaves_of
from fastpg.ordinary_play import play, random_action
from fastpg.random import next_step, seed_key, trajectory_rng
from fastpg.reports import Report
from fastpg.vectors import n_components

_LIBM = {"sin", "cos", "tan", "exp", "log", "pow", "tanh", "sinh", "cosh", "asin", "acos", "atan", "atan2"}
_LIBM |= {"log2", "log10", "log1p", "expm1", "exp2", "cbrt", "hypot", "fmod", "erf", "erfc"}
_SUBSTITUTES = {"sin": "sin_bounded", "cos": "cos_bounded"} | dict.fromkeys(["exp", "log", "tanh"], "")


@dataclass
class EnvironmentReport(Report):
    """What `check_env` found.

    Attributes
    ----------
    vectorised : bool or None
        Whether the loop over lanes that steps became SIMD code, which it does not where a state or an
        observation holds arrays; None where it was not compiled.
    """

    vectorised: bool | None = None

    def __str__(self) -> str:
        """A line for each finding."""
        verdict = "not an environment fastpg can trust" if self.errors else "a correct environment"
        speed = {True: "; vectorised", False: "; not vectorised", None: ""}[self.vectorised]
        return self.lines(verdict + speed)


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
    _look_at_attributes(env, report)
    if report.errors:
        raise TypeError(f"env: {report}")
    _read_methods(env, report)
    play(env, n_steps, seed, report)
    if not report.errors:
        _compare(env, seed, report)
    if not report.errors:
        _look_at_machine_code(env, report)
    if report.errors:
        raise TypeError(f"env: {report}")
    return report


def _look_at_attributes(env, report):
    """What no method tells: the action space and the horizon."""
    try:
        check_action_space(env.action_space)
        if env.horizon is not None:
            check_horizon(env, None)
    except (TypeError, ValueError) as error:
        report.errors.append(str(error))
    if not hasattr(env, "observation_space"):
        report.errors.append("observation_space: is missing")


# --- the source ---


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
                    f"{function.__qualname__} raises (or asserts): an exception ends the whole call, with "
                    "all that other trajectories have done; check parameters where the environment is "
                    "made, or end the episode with terminated"
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


# --- compiled ---


def _compare(env, seed, report):
    """Steps from the same states with the same random numbers, compiled and in ordinary Python."""
    from fastpg.simulator import Simulator

    n, n_steps = 64, 20
    horizon = 2**40
    width = np.size(env.observe(env.reset(trajectory_rng(seed_key(seed), 0))))
    try:
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
        expected = [*_numbers(start), *np.reshape(env.observe(start), width)]
        found = [*_numbers(element(states, i)), *np.reshape(first[i], width)]
        if not _agree(found, expected):
            report.errors.append(f"reset compiled is not reset in ordinary Python: {found}, not {expected}")
            return
    actions = np.random.default_rng(seed)
    alive = np.ones(n, bool)
    for _ in range(n_steps):
        states = simulator.states()
        chosen = [random_action(env.action_space, actions) for _ in range(n)]
        rngs = [next_step(rng) for rng in rngs]
        observations, _, rewards, terminated, _ = simulator.step(np.array(chosen), True)
        following = simulator.states()
        for i in np.flatnonzero(alive):
            state, reward, ended = env.step(element(states, i), chosen[i], rngs[i])
            expected = [*_numbers(state), reward, ended, *np.reshape(env.observe(state), width)]
            found = [
                *_numbers(element(following, i)),
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


def _numbers(state):
    return np.concatenate([np.ravel(leaf) for leaf in leaves_of(state)]).tolist() if state else []


def _agree(found, expected):
    return np.allclose(
        np.array(found, float), np.array(expected, float), rtol=1e-9, atol=1e-9, equal_nan=True
    )


@cache
def _one_step():
    from fastpg.stepping import start_of, step_seats

    @numba.njit
    def one_step(env, actions, key, like_action, n_lanes):
        like = start_of(env, key, 0)
        memory = allocate(like)
        restart, outcomes = np.zeros(n_lanes, np.bool_), np.zeros(n_lanes, np.uint8)
        observation = as_observation(env.observe(like.state))
        observations = np.zeros(n_lanes * n_components(observation), np.float32)
        shown, first = (observations, np.zeros(n_lanes), outcomes), 0 * n_lanes
        return step_seats(env, memory, actions, restart, shown, first, n_lanes, n_lanes, like, like_action)

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


def _holds_arrays(env):
    state = env.reset(trajectory_rng(seed_key(0), 0))
    return holds_arrays((state, env.observe(state)))


def _look_at_machine_code(env, report):
    code = lane_loop(env)
    # LLVM may well vectorise the rest of a loop around calls that it makes one lane after the other.
    slow = sorted(set(re.findall(r"call [^@\n]*@(?:llvm\.)?(\w+)", code)) & _LIBM)
    report.vectorised = "vector.body" in code and not slow
    if _holds_arrays(env):  # then it is not, and Numba's code for arrays has such calls of its own
        report.vectorised = False
    elif slow:
        report.warnings += [_advice(name) for name in slow if not any(name in w for w in report.warnings)]
    elif not report.vectorised:
        report.warnings.append(
            "the loop over lanes is not vectorised: is there a branch around a large piece of work, a loop "
            "whose length depends on the state, or array[i] where fastpg.tables.lookup would do?"
        )
