"""What MinAtar's games share (Young & Tian 2019): their images, and actions that stick."""

import numpy as np

from fastpg.dispatch import inline
from fastpg.random import uniform


def image_space(n_channels):
    """Return the space of their observations: a board of 10 by 10 for each kind of thing."""
    from gymnasium.spaces import Box

    return Box(0, 1, (10, 10, n_channels), np.bool_)


@inline
def performed_action(chosen, last, probability, rng):
    """Return the last action with some probability (draw 0), and else the chosen one."""
    return last if uniform(rng, 0) < probability else chosen
