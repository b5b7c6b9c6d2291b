"""Pendulum: swing a pendulum up and hold it there with a weak motor, as in Gymnasium."""

import math
from typing import NamedTuple

import numpy as np

from fastpg.dispatch import inline
from fastpg.random import uniform
from fastpg.simd import cos_bounded as cos
from fastpg.simd import fma
from fastpg.simd import sin_bounded as sin

_TURN = 2.0 * math.pi


@inline
def from_upright(theta):
    """Return an angle less whole turns, in [-π, π)."""
    shifted = theta + math.pi
    return fma(-np.floor(shifted / _TURN), _TURN, shifted) - math.pi


class State(NamedTuple):
    """Angle from upright, which counts whole turns, and angular velocity."""

    theta: float  # rad, counter-clockwise
    theta_dot: float  # rad/s


class Pendulum(NamedTuple):
    """A rod on a motor too weak to lift it in one go (Gymnasium's Pendulum).

    ===========  =====================================================================
    Observation  ``(cos(theta), sin(theta), theta_dot)``, the last in rad/s
    Action       ``(torque,)`` in N m, clipped to ± `max_torque`
    Reward       -(theta² + 0.1 theta_dot² + 0.001 torque²), of the state before the
                 step, theta taken in [-π, π), and of the clipped torque
    Start        theta uniform on [-π, π), theta_dot uniform on [-1, 1)
    End          never
    Horizon      200 steps
    ===========  =====================================================================

    A uniform rod about its end: theta'' = 3 g / (2 l) sin(theta) + 3 torque / (m l²), velocity integrated
    first and clipped to ± `max_speed`. Gymnasium squares and scales a float32 action in float32;
    fastpg does so in float64. The policy sees float64; Gymnasium rounds its observation to float32.
    Gymnasium's documentation does not say that the reward is that of the state before the step. Angles
    hold up to 2²¹ rad, five million steps at full speed; in lanes of float32 up to 2¹³ rad, twenty
    thousand. Beyond, they are NaN.
    """

    g: float = 10.0  # m/s²
    m: float = 1.0  # kg
    l: float = 1.0  # m  # noqa: E741
    dt: float = 0.05  # s, a time step
    max_speed: float = 8.0  # rad/s
    max_torque: float = 2.0  # N m

    horizon = 200
    gymnasium_id = "Pendulum-v1"

    @property
    def observation_space(self):
        """Gymnasium's space: a point of the circle, and a speed."""
        from gymnasium.spaces import Box

        high = np.array([1.0, 1.0, self.max_speed], dtype=np.float32)
        return Box(-high, high, dtype=np.float32)

    @property
    def action_space(self):
        """One number, the torque."""
        from gymnasium.spaces import Box

        return Box(-self.max_torque, self.max_torque, shape=(1,), dtype=np.float32)

    def reset(self, rng):
        """Return a start state."""
        return State(uniform(rng, 0) * _TURN - math.pi, uniform(rng, 1) * 2.0 - 1.0)

    def start_bounds(self, *, x_init=math.pi, y_init=1.0):
        """Return the ends of the intervals that start states are from, by Gymnasium's reset options."""
        return State(-x_init, -y_init), State(x_init, y_init)

    def observe(self, state):
        """Return the end of the rod, in units of its length, and the angular velocity."""
        return cos(state.theta), sin(state.theta), state.theta_dot

    def step(self, state, action, rng):
        """Return the next state, the reward, and False."""
        theta, theta_dot = state
        torque = min(max(action[0], -self.max_torque), self.max_torque)
        angle = from_upright(theta)
        cost = angle * angle + 0.1 * theta_dot * theta_dot + 0.001 * torque * torque

        gravity = 3.0 * self.g / (2.0 * self.l) * sin(theta)
        acceleration = gravity + 3.0 / (self.m * self.l * self.l) * torque
        theta_dot = min(max(theta_dot + acceleration * self.dt, -self.max_speed), self.max_speed)
        return State(theta + theta_dot * self.dt, theta_dot), -cost, False

    def gymnasium_twin(self, render_mode=None):
        """Return Gymnasium's Pendulum with these parameters, to compare with, evaluate in, or watch."""
        import gymnasium

        twin = gymnasium.make(
            "Pendulum-v1",
            max_episode_steps=self.horizon,
            render_mode=render_mode,
            disable_env_checker=True,  # warns and slows; the parameters are ours to change
            g=self.g,
        )
        pendulum = twin.unwrapped
        for name in self._fields:
            setattr(pendulum, name, getattr(self, name))
        pendulum.observation_space, pendulum.action_space = self.observation_space, self.action_space
        return twin

    def render_state(self, twin, state):
        """Put a state into the twin, for its renderer to draw; without the arrow of the last torque."""
        twin.unwrapped.state = np.array(state, dtype=np.float64)
        twin.unwrapped.last_u = None
