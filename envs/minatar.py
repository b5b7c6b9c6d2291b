"""What MinAtar's games share (Young & Tian 2019): their images, pictures of them, and actions that stick."""

import numpy as np

from fastpg.dispatch import inline
from fastpg.random import uniform

_SQUARE = 24  # pixels


def image_space(n_channels):
    """Return the space of their observations: a board of 10 by 10 for each kind of thing."""
    from gymnasium.spaces import Box

    return Box(0, 1, (10, 10, n_channels), np.bool_)


def picture_of(image, colours):
    """Return an image as a picture, uint8, shape (240, 240, 3).

    Parameters
    ----------
    image : bool array, shape (10, 10, C)
    colours : sequence of (channel, (red, green, blue))
        Where several things are in one square, the last is seen.
    """
    squares = np.zeros((*image.shape[:2], 3), np.uint8)
    for channel, colour in colours:
        squares[image[:, :, channel]] = colour
    return squares.repeat(_SQUARE, axis=0).repeat(_SQUARE, axis=1)


@inline
def performed_action(chosen, last, probability, rng):
    """Return the last action with some probability (draw 0), and else the chosen one."""
    return last if uniform(rng, 0) < probability else chosen
