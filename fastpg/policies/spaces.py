"""What policies need of an environment's spaces, and whether a policy is one for them."""

from typing import Any

from fastpg.environment import observation_shape


def box_shape(name: str, what: str, space: Any, n_axes: int = 1) -> tuple[int, ...]:
    """Return the shape of a Box with that many axes, or raise ValueError for the policy of that name."""
    from gymnasium.spaces import Box

    if not (isinstance(space, Box) and len(space.shape) == n_axes):
        axes = {1: "one", 3: "three"}[n_axes]
        raise ValueError(f"env: {name} needs a {axes}-dimensional Box {what}, not {space}")
    return space.shape


def action_numbers(name: str, space: Any) -> tuple[int, ...]:
    """Return the numbers of Discrete actions, or raise ValueError for the policy of that name."""
    from gymnasium.spaces import Discrete

    if not isinstance(space, Discrete):
        raise ValueError(f"env: {name} needs Discrete actions, not {space}")
    return tuple(range(int(space.start), int(space.start) + int(space.n)))


def check_discrete_actions(policy: Any, env: Any) -> None:
    """Raise ValueError unless `env` has the policy's actions, integers from `first_action` on."""
    actions = env.action_space
    theirs = getattr(actions, "n", None), getattr(actions, "start", None)
    if theirs != (policy.n_actions, policy.first_action):
        raise ValueError(f"policy={policy!r}: is for other actions than the environment's {actions}")


def check_real_actions(policy: Any, env: Any, m: int) -> None:
    """Raise ValueError unless actions of `env` are m real numbers."""
    actions = env.action_space
    if not (hasattr(actions, "low") and actions.shape == (m,)):
        raise ValueError(f"policy={policy!r}: is for other actions than the environment's {actions}")


def check_observations(policy: Any, env: Any) -> None:
    """Raise ValueError unless observations of `env` are as long as those of the policy, `n_observations`."""
    shape = observation_shape(env)
    if shape != (policy.n_observations,):
        theirs = shape[0] if len(shape) == 1 else f"of shape {shape}"
        raise ValueError(
            f"policy={policy!r}: is for observations of another length than the environment's {theirs}"
        )
