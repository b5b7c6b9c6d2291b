"""Pictures of states: an environment's own, or what Gymnasium's renderer makes of them."""

from typing import Any

import gymnasium

_PICTURES_A_SECOND = 15  # of an environment that draws itself


def metadata_of(env, modes):
    """What Gymnasium's own environment says of its rendering, as far as fastpg can do it, or of pictures."""
    if hasattr(type(env), "picture"):
        return {"render_modes": ["rgb_array"], "render_fps": _PICTURES_A_SECOND}
    gymnasium_id = getattr(type(env), "gymnasium_id", None)
    if gymnasium_id not in gymnasium.registry or not hasattr(type(env), "render_state"):
        return {"render_modes": []}
    entry = gymnasium.spec(gymnasium_id).entry_point
    cls = gymnasium.envs.registration.load_env_creator(entry) if isinstance(entry, str) else entry
    metadata = dict(getattr(cls, "metadata", {}))
    offered = metadata.get("render_modes", [])
    return {**metadata, "render_modes": [m for m in offered if modes is None or m in modes]}


class Renderer:
    """Draws states in a mode of Gymnasium's, one of `modes`; in none unless it is given."""

    def __init__(self, env: Any, mode: str | None, modes: Any):
        own = any(hasattr(type(env), name) for name in ("picture", "render_state"))
        if mode is not None and mode not in modes:
            raise ValueError(f"render_mode={mode!r}: {type(env).__name__} has {list(modes) or 'none'}")
        if mode is not None and not own:
            raise ValueError(
                f"render_mode={mode!r}: {type(env).__name__} has no picture() and no render_state()"
            )
        self.env, self.mode = env, mode
        self._twin: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of: all but Gymnasium's renderer, of which it makes its own."""
        return self.__dict__ | {"_twin": None}

    def can_draw(self) -> bool:
        """Return whether there is a mode; warn unless there is, as Gymnasium does."""
        if self.mode is None:
            gymnasium.logger.warn("render: this environment was made without a render_mode")
        return self.mode is not None

    def draw(self, state: Any) -> Any:
        """Return what Gymnasium's `render` returns, of this state."""
        if hasattr(type(self.env), "picture"):
            return self.env.picture(state)
        if self._twin is None:
            self._twin = self.env.gymnasium_twin(self.mode)
            self._twin.reset()
        self.env.render_state(self._twin, state)
        return self._twin.render()

    def close(self) -> None:
        """Close Gymnasium's renderer."""
        if self._twin is not None:
            self._twin.close()
            self._twin = None
