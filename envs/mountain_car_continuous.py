"""MountainCarContinuous: MountainCar with a force to choose and to pay for, as in Gymnasium."""

from typing import NamedTuple

from fastpg.random import uniform
from fastpg.simd import cos_bounded as cos


class State(NamedTuple):
    """Position and velocity of the car."""

    position: float  # m
    velocity: float  # m per step


class MountainCarContinuous(NamedTuple):
    """A car in the valley sin(3 x), too weak to drive straight up (Gymnasium's MountainCarContinuous).

    ===========  =====================================================================
    Observation  ``(position, velocity)``: m, m per step
    Action       ``(force,)``, clipped to [`min_action`, `max_action`]
    Reward       -0.1 force², of the force before it is clipped; 100 more at the end
    Start        position uniform on [-0.6, -0.4), velocity 0
    End          position >= `goal_position` and velocity >= `goal_velocity`
    Horizon      999 steps
    ===========  =====================================================================

    The task: Moore, "Efficient memory-based learning for robot control" (1990), with actions in an
    interval by O. Sigaud for Gym. Gymnasium's documentation has the car stopped by the wall at either
    end: its code, and this, stops it at the left one only. The documentation also leaves `goal_velocity`
    out of the end, and does not say which force is paid for.

    Gymnasium rounds its state to float32 at every step (and computes in float32 from there, if the
    action is float32 too); fastpg keeps float64, so one step from the same state differs by such a
    rounding.
    """

    min_action: float = -1.0
    max_action: float = 1.0
    min_position: float = -1.2  # m, a wall
    max_position: float = 0.6  # m
    max_speed: float = 0.07  # m per step
    goal_position: float = 0.45  # m
    goal_velocity: float = 0.0  # m per step
    power: float = 0.0015  # m per step², of a force of 1
    gravity: float = 0.0025  # m per step², in Gymnasium a constant

    horizon = 999
    gymnasium_id = "MountainCarContinuous-v0"

    @property
    def observation_space(self):
        """Gymnasium's space: where the car is kept."""
        import numpy as np
        from gymnasium.spaces import Box

        low = np.array([self.min_position, -self.max_speed], dtype=np.float32)
        high = np.array([self.max_position, self.max_speed], dtype=np.float32)
        return Box(low, high, dtype=np.float32)

    @property
    def action_space(self):
        """One number, the force."""
        import numpy as np
        from gymnasium.spaces import Box

        return Box(self.min_action, self.max_action, shape=(1,), dtype=np.float32)

    def reset(self, rng):
        """Return a start state."""
        return State(uniform(rng, 0) * 0.2 - 0.6, 0.0)

    def start_bounds(self, *, low=-0.6, high=-0.4):
        """Return the ends of the intervals that start states are from, by Gymnasium's reset options."""
        return State(low, 0.0), State(high, 0.0)

    def observe(self, state):
        """Return the whole state."""
        return state.position, state.velocity

    def step(self, state, action, rng):
        """Return the next state, the reward, and whether the car is at the goal."""
        force = min(max(action[0], self.min_action), self.max_action)
        pull = self.gravity * cos(3.0 * state.position)
        velocity = state.velocity + (force * self.power - pull)
        velocity = min(max(velocity, -self.max_speed), self.max_speed)
        position = min(max(state.position + velocity, self.min_position), self.max_position)
        against_wall = (position == self.min_position) & (velocity < 0.0)
        velocity = 0.0 if against_wall else velocity
        terminated = (position >= self.goal_position) & (velocity >= self.goal_velocity)
        reward = (100.0 if terminated else 0.0) - action[0] * action[0] * 0.1
        return State(position, velocity), reward, terminated

    def gymnasium_twin(self, render_mode=None):
        """Return Gymnasium's MountainCarContinuous with these parameters, to compare with or watch.

        Raises
        ------
        ValueError
            If `gravity` is not the 0.0025 that Gymnasium's equations have.
        """
        import gymnasium

        if self.gravity != self._field_defaults["gravity"]:
            raise ValueError(f"gravity={self.gravity!r}: Gymnasium's MountainCarContinuous has only 0.0025")
        twin = gymnasium.make(
            "MountainCarContinuous-v0",
            max_episode_steps=self.horizon,
            render_mode=render_mode,
            disable_env_checker=True,  # warns and slows; the parameters are ours to change
            goal_velocity=self.goal_velocity,
        )
        car = twin.unwrapped
        for name in self._fields[:-1]:
            setattr(car, name, getattr(self, name))
        car.observation_space, car.action_space = self.observation_space, self.action_space
        car.low_state, car.high_state = car.observation_space.low, car.observation_space.high
        return twin

    def render_state(self, twin, state):
        """Put a state into the twin, for its renderer to draw."""
        import numpy as np

        twin.unwrapped.state = np.array(state, dtype=np.float64)
