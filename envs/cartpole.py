"""CartPole: balance a pole on a cart (Barto, Sutton & Anderson 1983), as in Gymnasium."""

import math
from typing import NamedTuple

from fastpg.random import uniform
from fastpg.simd import cos_bounded as cos
from fastpg.simd import sin_bounded as sin


class State(NamedTuple):
    """Position and velocity of the cart, angle from the vertical and angular velocity of the pole."""

    x: float  # m
    x_dot: float  # m/s
    theta: float  # rad, clockwise
    theta_dot: float  # rad/s


class CartPole(NamedTuple):
    """A pole hinged to a cart that is pushed left or right (Gymnasium's CartPole).

    ===========  =====================================================================
    Observation  ``(x, x_dot, theta, theta_dot)``: m, m/s, rad, rad/s
    Action       0 pushes the cart to the left, 1 to the right
    Reward       1 for every step, the failing one too; with `sutton_barto_reward`
                 0, and -1 for the failing one
    Start        all four uniform on [-0.05, 0.05)
    End          abs(x) > `x_threshold` or abs(theta) > `theta_threshold_radians`
    Horizon      500 steps (CartPole-v1), 200 (CartPole-v0)
    ===========  =====================================================================

    Equations of motion: Florian, "Correct equations for the dynamics of the cart-pole system" (2007),
    without friction. The policy sees the float64 state; Gymnasium rounds its observation to float32.
    """

    gravity: float = 9.8  # m/s²
    masscart: float = 1.0  # kg
    masspole: float = 0.1  # kg
    length: float = 0.5  # m, half the pole
    force_mag: float = 10.0  # N
    tau: float = 0.02  # s, a time step
    theta_threshold_radians: float = 12 * 2 * math.pi / 360  # rad
    x_threshold: float = 2.4  # m
    semi_implicit: bool = False  # integrate velocities first (Gymnasium's "semi-implicit euler")
    sutton_barto_reward: bool = False

    horizon = 500
    gymnasium_id = "CartPole-v1"

    @property
    def observation_space(self):
        """Gymnasium's space: twice the thresholds, so that a failing observation is inside."""
        import numpy as np
        from gymnasium.spaces import Box

        bounds = [self.x_threshold * 2, np.inf, self.theta_threshold_radians * 2, np.inf]
        high = np.array(bounds, dtype=np.float32)
        return Box(-high, high, dtype=np.float32)

    @property
    def action_space(self):
        """Two actions: left and right."""
        from gymnasium.spaces import Discrete

        return Discrete(2)

    def reset(self, rng):
        """Return a start state."""
        return State(
            uniform(rng, 0) * 0.1 - 0.05,
            uniform(rng, 1) * 0.1 - 0.05,
            uniform(rng, 2) * 0.1 - 0.05,
            uniform(rng, 3) * 0.1 - 0.05,
        )

    def start_bounds(self, *, low=-0.05, high=0.05):
        """Return the ends of the intervals that start states are from, by Gymnasium's reset options."""
        return State(low, low, low, low), State(high, high, high, high)

    def observe(self, state):
        """Return the whole state."""
        return state.x, state.x_dot, state.theta, state.theta_dot

    def step(self, state, action, rng):
        """Return the next state, the reward, and whether the pole or the cart is out of bounds."""
        x, x_dot, theta, theta_dot = state
        force = self.force_mag if action == 1 else -self.force_mag
        costheta = cos(theta)
        sintheta = sin(theta)
        total_mass = self.masscart + self.masspole
        polemass_length = self.masspole * self.length

        temp = (force + polemass_length * theta_dot * theta_dot * sintheta) / total_mass
        theta_acc = (self.gravity * sintheta - costheta * temp) / (
            self.length * (4.0 / 3.0 - self.masspole * costheta * costheta / total_mass)
        )
        x_acc = temp - polemass_length * theta_acc * costheta / total_mass

        new_x_dot = x_dot + self.tau * x_acc
        new_theta_dot = theta_dot + self.tau * theta_acc
        new_x = x + self.tau * (new_x_dot if self.semi_implicit else x_dot)
        new_theta = theta + self.tau * (new_theta_dot if self.semi_implicit else theta_dot)

        terminated = (abs(new_x) > self.x_threshold) | (abs(new_theta) > self.theta_threshold_radians)
        failure_reward = -1.0 if self.sutton_barto_reward else 1.0
        survival_reward = 0.0 if self.sutton_barto_reward else 1.0
        reward = failure_reward if terminated else survival_reward
        return State(new_x, new_x_dot, new_theta, new_theta_dot), reward, terminated

    def gymnasium_twin(self, render_mode=None):
        """Return Gymnasium's CartPole with these parameters, to compare with, evaluate in, or watch."""
        import gymnasium

        twin = gymnasium.make(
            "CartPole-v1",
            max_episode_steps=self.horizon,
            render_mode=render_mode,
            disable_env_checker=True,  # warns and slows; the parameters are ours to change
            sutton_barto_reward=self.sutton_barto_reward,
        )
        cart = twin.unwrapped
        for name in self._fields[:8]:
            setattr(cart, name, getattr(self, name))
        cart.total_mass = self.masspole + self.masscart
        cart.polemass_length = self.masspole * self.length
        cart.kinematics_integrator = "semi-implicit euler" if self.semi_implicit else "euler"
        return twin

    def render_state(self, twin, state):
        """Put a state into Gymnasium's environment, for its renderer."""
        twin.unwrapped.state = tuple(state)


class CartPoleV0(CartPole):
    """CartPole-v0: the same with a horizon of 200 steps."""

    __slots__ = ()
    horizon = 200
    gymnasium_id = "CartPole-v0"
