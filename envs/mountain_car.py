"""MountainCar: rock an underpowered car out of a valley (Moore 1990), as in Gymnasium."""

from typing import NamedTuple

from fastpg.random import uniform
from fastpg.simd import cos_bounded as cos


class State(NamedTuple):
    """Position and velocity of the car."""

    position: float  # m
    velocity: float  # m per step


class MountainCar(NamedTuple):
    """A car in the valley sin(3 x), too weak to drive straight up the right hill (Gymnasium's MountainCar).

    ===========  =====================================================================
    Observation  ``(position, velocity)``: m, m per step
    Action       0 accelerates to the left, 1 does not, 2 to the right
    Reward       -1 for every step, the last one too
    Start        position uniform on [-0.6, -0.4), velocity 0
    End          position >= `goal_position` and velocity >= `goal_velocity`
    Horizon      200 steps
    ===========  =====================================================================

    The task: Moore, "Efficient memory-based learning for robot control" (1990); these equations: Singh &
    Sutton, "Reinforcement learning with replacing eligibility traces" (1996), where the goal is at 0.5 as
    well. Gymnasium's documentation has the car stopped by the wall at either end: its code, and this,
    stops it at the left one only, and keeps the velocity of a car held at `max_position`. The
    documentation also leaves `goal_velocity` out of the end. The policy sees the float64 state;
    Gymnasium rounds its observation to float32.
    """

    min_position: float = -1.2  # m, a wall
    max_position: float = 0.6  # m
    max_speed: float = 0.07  # m per step
    goal_position: float = 0.5  # m
    goal_velocity: float = 0.0  # m per step
    force: float = 0.001  # m per step²
    gravity: float = 0.0025  # m per step²

    horizon = 200
    gymnasium_id = "MountainCar-v0"

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
        """Three actions: left, none, right."""
        from gymnasium.spaces import Discrete

        return Discrete(3)

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
        """Return the next state, the reward -1, and whether the car is at the goal."""
        pull = self.gravity * cos(3.0 * state.position)
        velocity = state.velocity + ((action - 1) * self.force - pull)
        velocity = min(max(velocity, -self.max_speed), self.max_speed)
        position = min(max(state.position + velocity, self.min_position), self.max_position)
        against_wall = (position == self.min_position) & (velocity < 0.0)
        velocity = 0.0 if against_wall else velocity
        terminated = (position >= self.goal_position) & (velocity >= self.goal_velocity)
        return State(position, velocity), -1.0, terminated

    def gymnasium_twin(self, render_mode=None):
        """Return Gymnasium's MountainCar with these parameters, to compare with, evaluate in, or watch."""
        import gymnasium

        twin = gymnasium.make(
            "MountainCar-v0",
            max_episode_steps=self.horizon,
            render_mode=render_mode,
            disable_env_checker=True,  # warns and slows; the parameters are ours to change
            goal_velocity=self.goal_velocity,
        )
        car = twin.unwrapped
        for name in self._fields:
            setattr(car, name, getattr(self, name))
        car.observation_space = self.observation_space
        car.low, car.high = car.observation_space.low, car.observation_space.high
        return twin

    def render_state(self, twin, state):
        """Put a state into the twin, for its renderer to draw."""
        import numpy as np

        twin.unwrapped.state = np.array(state, dtype=np.float64)
