"""An environment in ordinary Python: played step by step, and what is wrong with what its methods return."""

import traceback
from pathlib import Path

import numpy as np

from fastpg.nests import filled, leaves_of
from fastpg.random import RecordedRng, next_step, seed_key, trajectory_rng

_KIND_OF_DTYPE = {"b": bool, "i": int, "u": int, "f": float}
_KINDS = {bool: "a boolean", int: "an integer", float: "a float"}


def play(env, n_steps, seed, report):
    """Play with random actions; what is wrong with what comes back, or is raised, is added to the report."""
    try:
        _play(env, n_steps, seed, report)
    except Exception as exception:  # the best message there is
        report.errors.append(
            f"in ordinary Python: {type(exception).__name__}: {exception}{_place(exception)}"
        )


def _place(exception):
    """The line that raised it, the innermost one outside of this package."""
    here = Path(__file__).parent
    frames = [
        f for f in traceback.extract_tb(exception.__traceback__) if here not in Path(f.filename).parents
    ]
    return f" (in {frames[-1].name}, {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def _play(env, n_steps, seed, report):
    space = env.action_space
    actions = np.random.default_rng(seed)
    arrays = [value for value in env if isinstance(value, np.ndarray)]
    before = [array.copy() for array in arrays]
    episode, state, rng, like = 0, None, None, None
    for _ in range(n_steps):
        if state is None:
            rng = RecordedRng(*trajectory_rng(seed_key(seed), episode))
            state = env.reset(rng)
            episode += 1
            report.note_draws("reset", rng.draws)
            if not _check_state("reset", state, like, report):
                return
            like = state if like is None else like
            if not _same(env.reset(rng), state) and not _has_nan(state):
                report.errors.append("reset gives another state with the same random numbers: it is not pure")
        state = _read_only(state)
        action = random_action(space, actions)
        rng = RecordedRng(*next_step(rng))
        try:
            if not _check_observation(env, state, report):
                return
            result = env.step(state, action, rng)
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            report.errors.append("observe or step writes to an array in the state: copy() it first")
            return
        if not (isinstance(result, tuple) and len(result) == 3):
            report.errors.append(f"step returns {result!r}, must return (state, reward, terminated)")
            return
        report.note_draws("step", rng.draws)
        following, reward, terminated = result
        if not _check_state("step", following, like, report):
            return
        if not isinstance(reward, bool | int | float | np.number | np.bool_):
            report.errors.append(f"step returns the reward {reward!r}, must be a number")
        if not isinstance(terminated, bool | np.bool_):
            report.errors.append(f"step returns terminated={terminated!r}, must be a boolean")
        if not _same(env.step(state, action, rng)[0], following) and not _has_nan(following):
            report.errors.append("step gives another state from the same arguments: it is not pure")
        if _has_nan((following, reward)):
            report.warnings.append(f"step gives NaN: from {state!r} by action {action!r}")
        if report.errors:
            return
        state = None if terminated else following
    if any(not np.array_equal(array, old) for array, old in zip(arrays, before, strict=True)):
        report.errors.append("an array among the parameters was written to")


def _check_state(method, state, like, report):
    """Whether a state is one, and like those before."""
    if not (isinstance(state, tuple) and hasattr(state, "_fields")):
        report.errors.append(f"{method} returns the state {state!r}, must be a NamedTuple")
        return False
    for name, value in zip(state._fields, state, strict=True):
        kinds = {_kind(leaf) for leaf in leaves_of(value)}
        if None in kinds:
            report.errors.append(
                f"{method} returns {name}={value!r} in the state: must be a float, an integer or a boolean, "
                "or an array of them"
            )
            return False
    if like is not None and type(state) is not type(like):
        report.errors.append(
            f"{method} returns a state of class {type(state).__name__}, and reset one of class "
            f"{type(like).__name__}: it must stay the same"
        )
        return False
    order = [bool, int, float]
    for name, value, old in zip(state._fields, state, like or state, strict=True):
        new, first = [[_array_type(leaf) for leaf in leaves_of(v)] for v in (value, old)]
        if new != first:
            report.errors.append(
                f"{method} returns {name}={value!r} ({new[0]}), where reset has {old!r} ({first[0]}): the "
                "shape and type of an array in the state must not change"
            )
            return False
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
    elif isinstance(observation, np.ndarray):
        if not (isinstance(space, Box) and len(space.shape) > 1 and observation.shape == space.shape):
            report.errors.append(
                f"observe returns an array of shape {observation.shape}, where observation_space is {space}: "
                "the shapes must be the same, of at least 2 axes (with one axis, return a tuple of numbers)"
            )
            return False
        inside = space.contains(observation.astype(space.dtype))
    elif not isinstance(observation, tuple) or None in map(_kind, observation):
        report.errors.append(f"observe returns {observation!r}, must be a tuple of numbers, or an array")
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
    if isinstance(value, np.ndarray):
        return _KIND_OF_DTYPE.get(value.dtype.kind)
    for kind, types in ((bool, bool | np.bool_), (int, int | np.integer), (float, float | np.floating)):
        if isinstance(value, types):
            return kind
    return None


def _has_nan(values):
    return any(np.asarray(leaf).dtype.kind == "f" and np.isnan(leaf).any() for leaf in leaves_of(values))


def _same(state, other):
    pairs = zip(leaves_of(state), leaves_of(other), strict=True)
    return type(state) is type(other) and all(np.array_equal(a, b) for a, b in pairs)


def _read_only(state):
    """The same state with arrays that cannot be written to."""
    leaves = [np.copy(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves_of(state)]
    for leaf in leaves:
        if isinstance(leaf, np.ndarray):
            leaf.setflags(write=False)
    return filled(state, iter(leaves))


def _array_type(value):
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else "a number"


def random_action(space, rng):
    """An action, as the methods take it: an integer, or a tuple of floats."""
    if hasattr(space, "n"):
        return int(space.start) + int(rng.integers(space.n))
    low, high = np.maximum(space.low, -10.0), np.minimum(space.high, 10.0)
    return tuple(rng.uniform(low, high).tolist())
