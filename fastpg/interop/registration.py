"""fastpg's environments in Gymnasium's registry: ``gymnasium.make("fastpg:fastpg/CartPole-v1")``."""

import gymnasium
from gymnasium.envs.registration import EnvSpec


def gymnasium_name(id: str) -> str:
    """Return "fastpg/<id>", with any other slash a hyphen: Gymnasium knows one namespace only."""
    return f"fastpg/{id.replace('/', '-')}"


def register_with_gymnasium(id: str, horizon: int | None) -> None:
    """Enter an environment of fastpg's registry into Gymnasium's, under `gymnasium_name`.

    Raises
    ------
    ValueError
        If another environment of fastpg's has that name there ("A-B-v0" and "A/B-v0" do).
    """
    there = gymnasium.registry.get(gymnasium_name(id))
    if there is not None and there.kwargs.get("fastpg_id") != id:
        whose = there.kwargs.get("fastpg_id", "another's")
        raise ValueError(f"id={id!r}: would be {gymnasium_name(id)!r} to Gymnasium, which is {whose!r}")
    gymnasium.registry[gymnasium_name(id)] = EnvSpec(
        id=gymnasium_name(id),
        entry_point="fastpg.interop.single:make_single",
        vector_entry_point="fastpg.interop.vector:make_vector",
        max_episode_steps=horizon,
        kwargs={"fastpg_id": id},
    )
