"""Blackjack: hit or stick against a dealer with fixed rules (Sutton & Barto 2018), as in Gymnasium."""

from typing import NamedTuple

from fastpg.dispatch import inline
from fastpg.random import integer

DEALER_DRAWS = 10
"""The most cards a dealer takes: after six aces (soft 16) a six and four aces (hard 16), and then any."""


class State(NamedTuple):
    """The player's hand, with every ace as 1, and the dealer's first two cards."""

    player: int  # sum of the cards
    ace: bool  # whether an ace is among them
    cards: int  # how many they are
    showing: int  # the dealer's card that lies open
    hidden: int  # and the other


@inline
def card(rank):
    """Return what a rank (0 to 12, ace to king) counts: ten, jack, queen and king 10, the ace 1."""
    return rank + 1 if rank < 9 else 10


@inline
def usable(total, ace):
    """Whether an ace counts 11 without a bust."""
    return ace & (total <= 11)


@inline
def value(total, ace):
    """What a hand counts, the usable ace as 11."""
    return total + (10 if usable(total, ace) else 0)


@inline
def is_natural(total, ace, cards):
    """Whether a hand is an ace and a ten."""
    return ace & (total == 11) & (cards == 2)


class Blackjack(NamedTuple):
    """The card game against a dealer, with an endless deck (Gymnasium's Blackjack).

    ===========  =====================================================================
    Observation  ``(sum, showing, usable ace)``: what the player's hand counts (4 to 31,
                 a usable ace as 11), the dealer's open card (1 to 10), 0 or 1
    Action       0 sticks, 1 hits
    Reward       1 for a win, 0 for a draw, -1 for a loss, 0 for a hit that is no bust;
                 1.5 for a win with an ace and a ten under `natural`
    Start        two cards each for player and dealer, tens four times as frequent
    End          the player is bust or sticks
    Horizon      21 steps, never reached: from two aces the twentieth hit is a bust
    ===========  =====================================================================

    The dealer takes cards below 17 and stands on any 17. Rules: Sutton & Barto, *Reinforcement Learning*
    (2nd ed. 2018), example 5.1. Under `sab` an ace and a ten win against anything but an ace and a ten,
    as in the book, and `natural` is ignored; otherwise a dealer's 21 of three cards or more draws
    with them. Gymnasium describes the action as of shape (1,): it is a plain integer.
    """

    natural: bool = False  # a win with an ace and a ten pays 1.5
    sab: bool = False  # Sutton and Barto's rule for an ace and a ten

    horizon = 21
    gymnasium_id = "Blackjack-v1"

    @property
    def observation_space(self):
        """Gymnasium's space: sum, dealer's card, usable ace."""
        from gymnasium.spaces import Discrete, Tuple

        return Tuple((Discrete(32), Discrete(11), Discrete(2)))

    @property
    def action_space(self):
        """Two actions: stick and hit."""
        from gymnasium.spaces import Discrete

        return Discrete(2)

    def reset(self, rng):
        """Return a start state."""
        first, second = card(integer(rng, 0, 13)), card(integer(rng, 1, 13))
        showing, hidden = card(integer(rng, 2, 13)), card(integer(rng, 3, 13))
        return State(first + second, (first == 1) | (second == 1), 2, showing, hidden)

    def observe(self, state):
        """Return what the player's hand counts, the dealer's open card, and whether an ace is usable."""
        return (
            value(state.player, state.ace),
            state.showing,
            1 if usable(state.player, state.ace) else 0,
        )

    def dealers_value(self, state, rng):
        """Return what the dealer's hand counts in the end: below 17 it takes cards, draws 1, 2, ..."""
        total = state.showing + state.hidden
        ace = (state.showing == 1) | (state.hidden == 1)
        for j in range(DEALER_DRAWS):
            drawn = card(integer(rng, 1 + j, 13)) if value(total, ace) < 17 else 0
            total += drawn
            ace = ace | (drawn == 1)
        return value(total, ace)

    def step(self, state, action, rng):
        """Return the state with the player's next card (draw 0), or as it was, and the outcome."""
        hit = action == 1
        drawn = card(integer(rng, 0, 13)) if hit else 0
        player = state.player + drawn
        ace = state.ace | (drawn == 1)
        bust = player > 21

        dealer = self.dealers_value(state, rng)
        own = 0 if bust else value(player, ace)
        others = 0 if dealer > 21 else dealer
        outcome = 1.0 if own > others else (-1.0 if own < others else 0.0)
        natural = is_natural(player, ace, state.cards)
        dealers_natural = (state.showing + state.hidden == 11) & ((state.showing == 1) | (state.hidden == 1))
        wins = natural & self.sab & (not dealers_natural)
        pays = natural & self.natural & (not self.sab) & (outcome == 1.0)
        outcome = 1.0 if wins else (1.5 if pays else outcome)

        reward = (-1.0 if bust else 0.0) if hit else outcome
        cards = state.cards + (1 if hit else 0)
        return State(player, ace, cards, state.showing, state.hidden), reward, bust | (not hit)

    def gymnasium_twin(self, render_mode=None):
        """Return Gymnasium's Blackjack with these options, to compare with, evaluate in, or watch."""
        import gymnasium

        return gymnasium.make(
            "Blackjack-v1",
            render_mode=render_mode,
            disable_env_checker=True,  # slows
            natural=self.natural,
            sab=self.sab,
        )

    def render_state(self, twin, state):
        """Put a state into Gymnasium's Blackjack: a hand of that sum and length, all cards of spades."""
        table = twin.unwrapped
        table.player = hand(state.player, state.ace, state.cards)
        table.dealer = [int(state.showing), int(state.hidden)]
        table.dealer_top_card_value_str = {1: "A", 10: "K"}.get(table.dealer[0], str(table.dealer[0]))
        table.dealer_top_card_suit = "S"


def hand(total, ace, cards):
    """Return a list of `cards` values that sum to `total`, with an ace or without."""
    values = [1 if ace else 2] * int(cards)
    rest = int(total) - sum(values)
    for i in range(1 if ace else 0, len(values)):
        more = min(rest, 10 - values[i])
        values[i] += more
        rest -= more
    return values
