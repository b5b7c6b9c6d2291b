"""Acrobot: swing a double pendulum up by the torque in its middle joint (Sutton 1996), as in Gymnasium."""

import math
from typing import NamedTuple

import numpy as np

from fastpg.dispatch import inline
from fastpg.random import uniform
from fastpg.simd import cos_bounded as cos
from fastpg.simd import sin_bounded as sin

_TURN = 2.0 * math.pi


class State(NamedTuple):
    """Angle of the upper link from hanging down, of the lower from the upper; angular velocities."""

    theta1: float  # rad
    theta2: float  # rad
    theta1_dot: float  # rad/s
    theta2_dot: float  # rad/s


@inline
def wrap(angle):
    """Return an angle less whole turns, in [-π, π]; both ends stay as they are."""
    size = abs(angle)
    size -= _TURN * np.ceil((size - math.pi) / _TURN)
    # The quotient may have been rounded to the wrong side of an integer.
    size = size - _TURN if size > math.pi else size
    size = size + _TURN if size < -math.pi else size
    return size if angle >= 0.0 else -size


@inline
def accelerations(env, theta1, theta2, theta1_dot, theta2_dot, torque):
    """Return the second derivatives of both angles."""
    m1, m2, l1 = env.link_mass_1, env.link_mass_2, env.link_length_1
    lc1, lc2, moi = env.link_com_pos_1, env.link_com_pos_2, env.link_moi
    sin1, cos1 = sin(theta1), cos(theta1)
    sin2, cos2 = sin(theta2), cos(theta2)
    coupling = m2 * l1 * lc2
    # The mass matrix is ((d1, d2), (d2, d3)), and the torques of gravity and rotation phi1 and phi2.
    d3 = m2 * lc2 * lc2 + moi
    d1 = (m1 * lc1 * lc1 + m2 * l1 * l1 + moi + d3) + 2.0 * coupling * cos2
    d2 = d3 + coupling * cos2
    phi2 = m2 * lc2 * env.gravity * (sin1 * cos2 + cos1 * sin2)
    phi1 = (
        (m1 * lc1 + m2 * l1) * env.gravity * sin1
        + phi2
        - coupling * theta2_dot * (theta2_dot + 2.0 * theta1_dot) * sin2
    )
    centrifugal = (0.0 if env.nips_dynamics else coupling) * theta1_dot * theta1_dot * sin2
    free = torque - centrifugal - phi2
    inverse = 1.0 / (d1 * d3 - d2 * d2)
    return -(d2 * free + d3 * phi1) * inverse, (d1 * free + d2 * phi1) * inverse


class Acrobot(NamedTuple):
    """Two links hanging from a fixed joint, driven at the joint between them (Gymnasium's Acrobot).

    ===========  =====================================================================
    Observation  ``(cos(theta1), sin(theta1), cos(theta2), sin(theta2), theta1_dot,
                 theta2_dot)``, the last two in rad/s
    Action       0 applies -`torque`, 1 none, 2 `torque`; plus noise uniform on
                 [-`torque_noise_max`, `torque_noise_max`), where that is positive
    Reward       -1 for every step, 0 for the last
    Start        all four uniform on [-0.1, 0.1)
    End          -cos(theta1) - cos(theta1 + theta2) > 1: the tip is a link's length
                 above the fixed joint
    Horizon      500 steps
    ===========  =====================================================================

    Equations of motion: Sutton & Barto, "Reinforcement learning: an introduction", or with
    `nips_dynamics` those printed in Sutton, "Generalization in reinforcement learning" (NIPS 8, 1996),
    which lack a term. One step of the classical Runge-Kutta method, after which angles are taken in
    [-π, π] and velocities clipped. The length of the second link is nowhere in them, and the end is that
    of links of length 1 whatever their lengths, as in Gymnasium. There the dynamics and the noise are
    attributes to be set, not arguments; `fastpg.make` takes ``book_or_nips="nips"`` as well. Gymnasium
    rounds its start state to float32, and the observation; fastpg has float64.
    """

    link_length_1: float = 1.0  # m
    link_mass_1: float = 1.0  # kg
    link_mass_2: float = 1.0  # kg
    link_com_pos_1: float = 0.5  # m, of the centre of mass from the joint
    link_com_pos_2: float = 0.5  # m
    link_moi: float = 1.0  # kg m², moment of inertia of either link
    max_vel_1: float = 4 * math.pi  # rad/s
    max_vel_2: float = 9 * math.pi  # rad/s
    dt: float = 0.2  # s, a time step
    torque_noise_max: float = 0.0  # N m
    torque: float = 1.0  # N m
    nips_dynamics: bool = False  # Gymnasium's book_or_nips = "nips"
    gravity: float = 9.8  # m/s², in Gymnasium a constant

    horizon = 500
    gymnasium_id = "Acrobot-v1"

    @classmethod
    def make(cls, *, book_or_nips=None, **parameters):
        """Return the environment, with the equations named as Gymnasium names them if need be.

        Parameters
        ----------
        book_or_nips : "book" or "nips", optional
            Sets `nips_dynamics`.
        **parameters
            The fields.
        """
        from fastpg.environment import checked_parameter

        if book_or_nips is not None:
            if book_or_nips not in ("book", "nips"):
                raise ValueError(f"book_or_nips={book_or_nips!r}: must be 'book' or 'nips'")
            if "nips_dynamics" in parameters:
                raise TypeError(
                    f"book_or_nips={book_or_nips!r}: nips_dynamics says the same; give one of them"
                )
            parameters["nips_dynamics"] = book_or_nips == "nips"
        return cls(**{name: checked_parameter(cls, name, value) for name, value in parameters.items()})

    @property
    def observation_space(self):
        """Gymnasium's space: a point of the circle for each angle, and two speeds."""
        from gymnasium.spaces import Box

        high = np.array([1.0, 1.0, 1.0, 1.0, self.max_vel_1, self.max_vel_2], dtype=np.float32)
        return Box(-high, high, dtype=np.float32)

    @property
    def action_space(self):
        """Three torques."""
        from gymnasium.spaces import Discrete

        return Discrete(3)

    def reset(self, rng):
        """Return a start state."""
        return State(
            uniform(rng, 0) * 0.2 - 0.1,
            uniform(rng, 1) * 0.2 - 0.1,
            uniform(rng, 2) * 0.2 - 0.1,
            uniform(rng, 3) * 0.2 - 0.1,
        )

    def start_bounds(self, *, low=-0.1, high=0.1):
        """Return the ends of the intervals that start states are from, by Gymnasium's reset options."""
        return State(low, low, low, low), State(high, high, high, high)

    def observe(self, state):
        """Return the directions of both links and their angular velocities."""
        return (
            cos(state.theta1),
            sin(state.theta1),
            cos(state.theta2),
            sin(state.theta2),
            state.theta1_dot,
            state.theta2_dot,
        )

    def step(self, state, action, rng):
        """Return the next state, the reward, and whether the tip is high enough."""
        theta1, theta2, v1, v2 = state
        half = 0.5 * self.dt
        noise = max(self.torque_noise_max, 0.0) * (2.0 * uniform(rng, 0) - 1.0)
        torque = (action - 1) * self.torque + noise

        # Stage i of Runge and Kutta's method has the derivatives v1, v2 and a1, a2 of its number.
        a1, a2 = accelerations(self, theta1, theta2, v1, v2, torque)
        v1_2, v2_2 = v1 + half * a1, v2 + half * a2
        a1_2, a2_2 = accelerations(self, theta1 + half * v1, theta2 + half * v2, v1_2, v2_2, torque)
        v1_3, v2_3 = v1 + half * a1_2, v2 + half * a2_2
        a1_3, a2_3 = accelerations(self, theta1 + half * v1_2, theta2 + half * v2_2, v1_3, v2_3, torque)
        v1_4, v2_4 = v1 + self.dt * a1_3, v2 + self.dt * a2_3
        a1_4, a2_4 = accelerations(self, theta1 + self.dt * v1_3, theta2 + self.dt * v2_3, v1_4, v2_4, torque)

        sixth = self.dt / 6.0
        theta1 = wrap(theta1 + sixth * (v1 + 2.0 * v1_2 + 2.0 * v1_3 + v1_4))
        theta2 = wrap(theta2 + sixth * (v2 + 2.0 * v2_2 + 2.0 * v2_3 + v2_4))
        v1 += sixth * (a1 + 2.0 * a1_2 + 2.0 * a1_3 + a1_4)
        v2 += sixth * (a2 + 2.0 * a2_2 + 2.0 * a2_3 + a2_4)
        v1 = min(max(v1, -self.max_vel_1), self.max_vel_1)
        v2 = min(max(v2, -self.max_vel_2), self.max_vel_2)

        terminated = -cos(theta1) - cos(theta1 + theta2) > 1.0
        return State(theta1, theta2, v1, v2), 0.0 if terminated else -1.0, terminated

    def gymnasium_twin(self, render_mode=None):
        """Return Gymnasium's Acrobot with these parameters, to compare with, evaluate in, or watch.

        Raises
        ------
        ValueError
            If `gravity` is not the 9.8 that Gymnasium's equations have.
        """
        import gymnasium

        if self.gravity != self._field_defaults["gravity"]:
            raise ValueError(f"gravity={self.gravity!r}: Gymnasium's Acrobot has only 9.8")
        twin = gymnasium.make(
            "Acrobot-v1",
            max_episode_steps=self.horizon,
            render_mode=render_mode,
            disable_env_checker=True,  # warns and slows; the parameters are ours to change
        )
        acrobot = twin.unwrapped
        for name in self._fields[:8]:
            setattr(acrobot, name.upper(), getattr(self, name))
        acrobot.dt, acrobot.torque_noise_max = self.dt, self.torque_noise_max
        acrobot.AVAIL_TORQUE = [-self.torque, 0.0, self.torque]
        acrobot.book_or_nips = "nips" if self.nips_dynamics else "book"
        acrobot.observation_space = self.observation_space
        return twin

    def render_state(self, twin, state):
        """Put a state into the twin, for its renderer to draw."""
        twin.unwrapped.state = np.array(state, dtype=np.float64)
