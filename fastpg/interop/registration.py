"""fastpg's environments in Gymnasium's registry: ``gymnasium.make("fastpg:fastpg/CartPole-v1")``."""

import gymnasium
from gymnasium.envs.registration import EnvSpec


def gymnasium_name(id: str) -> str:
    """Return "fastpg/<id>", with any other slash a hyphen: Gymnasium knows one namespace only."""
    return f"fastpg/{id.replace('/', '-')}"


def register_with_gymnasium(id: str, horizon: int | None) -> None:
    """Enter an environment of fastpg's registry into Gymnasium's, under `gymnasium_name`."""
    gymnasium.registry[gymnasium_name(id)] = EnvSpec(
        id=gymnasium_name(id),
        entry_point="fastpg.interop.vector:make_single",
        vector_entry_point="fastpg.interop.vector:make_vector",
        max_episode_steps=horizon,
        kwargs={"fastpg_id": id},
    )
