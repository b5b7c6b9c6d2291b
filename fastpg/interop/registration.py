"""fastpg's environments in Gymnasium's registry: ``gymnasium.make("fastpg:fastpg/CartPole-v1")``."""

import gymnasium
from gymnasium.envs.registration import EnvSpec


def register_with_gymnasium(id: str, horizon: int | None) -> None:
    """Enter an environment of fastpg's registry into Gymnasium's, as "fastpg/<id>"."""
    gymnasium.registry[f"fastpg/{id}"] = EnvSpec(
        id=f"fastpg/{id}",
        entry_point="fastpg.interop.vector:make_single",
        vector_entry_point="fastpg.interop.vector:make_vector",
        max_episode_steps=horizon,
        kwargs={"fastpg_id": id},
    )
