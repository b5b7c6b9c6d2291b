"""Blackjack against the installed Gymnasium with the same cards, and against the enumerated game."""

import math
from collections import Counter
from functools import cache

import gymnasium
import numba
import numpy as np
import pytest
from fastpg.envs.blackjack import DEALER_DRAWS, Blackjack, State, hand
from parity import assert_same_steps, columns_of, compiled_steps, python_steps
from scipy import stats

from fastpg.random import next_step, seed_key, trajectory_rng, uniform

JIT = not numba.config.DISABLE_JIT
# Statistical tests have fixed seeds, so they pass for ever or never; the level was set beforehand.
LEVEL = 1e-3

CASES = {
    "default": ({}, 100_000),
    "natural": ({"natural": True}, 100_000),
    "sab": ({"sab": True}, 100_000),
    "both": ({"natural": True, "sab": True}, 100_000),
}
DECK = {value: (4 if value == 10 else 1) / 13 for value in range(1, 11)}
STICK, HIT = 0, 1


class Cards:
    """Stands in for Gymnasium's generator: deals given cards."""

    def __init__(self, cards):
        self.cards = iter(cards)

    def choice(self, deck):
        return next(self.cards)


class Recorder:
    """Stands in for Gymnasium's generator: remembers the cards dealt by another one."""

    def __init__(self, generator):
        self.generator, self.cards = generator, []

    def choice(self, deck):
        self.cards.append(int(self.generator.choice(deck)))
        return self.cards[-1]


class Dealt(np.random.Generator):
    """Stands in for fastpg's random numbers: draws that become given cards."""

    def __init__(self, cards):
        super().__init__(np.random.PCG64(0))
        self.cards = iter(cards)

    def random(self):
        return (next(self.cards, 5) - 0.5) / 13


@numba.njit
def draws(key, n, m):
    """Draws 0 to m - 1 of the first step of n trajectories."""
    numbers = np.empty((n, m))
    for i in range(n):
        rng = next_step(trajectory_rng(key, i))
        for j in range(m):
            numbers[i, j] = uniform(rng, j)
    return numbers


def dealt(seed, n):
    """The cards that draws 0 (the player's) and 1 to 10 (the dealer's) of each step mean."""
    return np.minimum(1 + np.floor(13 * draws(seed_key(seed), n, 1 + DEALER_DRAWS)).astype(int), 10).tolist()


def state_of(player, dealer):
    return State(sum(player), 1 in player, len(player), dealer[0], dealer[1])


def random_hands(n, seed):
    """Hands of the player, of two cards and more and not bust, and the dealer's two cards."""
    rng = np.random.default_rng(seed)
    deck = list(DECK) + [10] * 3
    hands = []
    for wish in rng.geometric(0.5, n).tolist():
        player, dealer = rng.choice(deck, 2).tolist(), rng.choice(deck, 2).tolist()
        for card in rng.choice(deck, wish - 1).tolist():
            player += [card] if sum(player) + card <= 21 else []
        hands.append((player, dealer))
    return hands


def step_gymnasium(env, hands, actions, cards):
    """The states after the step as columns, rewards, terminated, observations."""
    twin = env.gymnasium_twin().unwrapped
    states, rewards, ends, observations = [], [], [], []
    for (player, dealer), action, dealt_cards in zip(hands, actions.tolist(), cards, strict=True):
        twin.player, twin.dealer = list(player), list(dealer)
        twin.np_random = Cards(dealt_cards if action == 1 else dealt_cards[1:])
        observation, reward, terminated, truncated, _ = twin.step(action)
        assert not truncated
        states.append(state_of(twin.player, twin.dealer))
        rewards.append(reward)
        ends.append(terminated)
        observations.append(observation)
    return columns_of(states), np.array(rewards), np.array(ends), observations


@pytest.mark.parametrize("case", CASES)
def test_transitions_are_gymnasiums(case):
    """From random hands with the same next cards: hands, observation, reward and termination, exactly."""
    parameters, n = CASES[case]
    n = n if JIT else 1_000
    env, hands, cards = Blackjack(**parameters), random_hands(n, seed=1), dealt(30, n)
    actions = np.random.default_rng(2).integers(0, 2, n)
    columns = columns_of([state_of(*pair) for pair in hands])
    *expected, observations = step_gymnasium(env, hands, actions, cards)
    assert set(expected[1]) == ({-1.0, 0.0, 1.0, 1.5} if case == "natural" else {-1.0, 0.0, 1.0})
    actual = compiled_steps(env, columns, actions, seed=30)
    assert_same_steps(actual, expected)
    following = zip(*(column.tolist() for column in actual[0].values()), strict=True)
    assert [env.observe(State(*state)) for state in following] == observations


@pytest.mark.parametrize("case", CASES)
def test_ordinary_python_steps_as_compiled_code_does(case):
    env = Blackjack(**CASES[case][0])
    columns = columns_of([state_of(*pair) for pair in random_hands(500, seed=3)])
    actions = np.random.default_rng(4).integers(0, 2, 500)
    assert_same_steps(python_steps(env, columns, actions, 5), compiled_steps(env, columns, actions, 5))


NATURAL, THREE_CARDS, OTHER_21 = [1, 10], [10, 5, 6], [5, 1, 5]
OUTCOMES = [
    # player, dealer and his next cards, reward by default, under natural, under sab
    (NATURAL, [10, 7], [], 1.0, 1.5, 1.0),
    (NATURAL, [1, 10], [], 0.0, 0.0, 0.0),
    (NATURAL, [10, 1], [], 0.0, 0.0, 0.0),
    (NATURAL, [10, 6], [5], 0.0, 0.0, 1.0),
    (NATURAL, [5, 6], [10], 0.0, 0.0, 1.0),
    (NATURAL, [10, 6], [10], 1.0, 1.5, 1.0),
    (THREE_CARDS, [1, 10], [], 0.0, 0.0, 0.0),
    (THREE_CARDS, [10, 7], [], 1.0, 1.0, 1.0),
    (OTHER_21, [10, 6], [5], 0.0, 0.0, 0.0),
    ([10, 7], [1, 6], [], 0.0, 0.0, 0.0),  # the dealer stands on a soft 17
    ([10, 8], [1, 6], [], 1.0, 1.0, 1.0),
    ([10, 6], [10, 6], [1], -1.0, -1.0, -1.0),  # and takes a card on 16
    ([2, 3], [10, 6], [6], 1.0, 1.0, 1.0),  # a bust dealer loses to any hand
    ([10, 10], [1, 1], [1, 1, 1, 1, 6, 1, 1, 1, 1, 9], 1.0, 1.0, 1.0),  # as many cards as there can be
    ([10, 10], [1, 1], [1, 1, 1, 1, 6, 1, 1, 1, 1, 5], -1.0, -1.0, -1.0),
]


@pytest.mark.parametrize(("player", "dealer", "cards", "by_default", "natural", "sab"), OUTCOMES)
def test_outcomes_of_sticking(player, dealer, cards, by_default, natural, sab):
    """The rules one by one, here and in Gymnasium."""
    rewards = {(False, False): by_default, (True, False): natural, (False, True): sab, (True, True): sab}
    for options, reward in rewards.items():
        env = Blackjack(*options)
        state, actual, terminated = env.step(state_of(player, dealer), STICK, Dealt(cards))
        assert (state, actual, terminated) == (state_of(player, dealer), reward, True)
        expected = step_gymnasium(env, [(player, dealer)], np.array([STICK]), [[None, *cards]])
        assert (actual, terminated) == (expected[1].item(), expected[2].item())


@pytest.mark.parametrize(
    ("player", "card", "observation", "reward", "terminated"),
    [
        ([10, 10], 1, (21, 7, 0), 0.0, False),
        ([10, 10], 2, (22, 7, 0), -1.0, True),
        ([10, 1], 10, (21, 7, 0), 0.0, False),
        ([10, 1, 10], 10, (31, 7, 0), -1.0, True),
        ([1, 1], 9, (21, 7, 1), 0.0, False),
        ([1, 1], 10, (12, 7, 0), 0.0, False),
        ([2, 2], 1, (15, 7, 1), 0.0, False),
    ],
)
def test_outcomes_of_hitting(player, card, observation, reward, terminated):
    env = Blackjack()
    state, *outcome = env.step(state_of(player, [7, 10]), HIT, Dealt([card]))
    assert [env.observe(state), *outcome] == [observation, reward, terminated]
    assert env.observation_space.contains(env.observe(state))
    *_, rewards, ended, observations = step_gymnasium(env, [(player, [7, 10])], np.array([HIT]), [[card]])
    assert (observations, rewards.item(), ended.item()) == ([observation], reward, terminated)


def test_whole_episodes_are_gymnasiums():
    """1,000 episodes with Gymnasium's start states, actions and cards, to their last step."""
    lengths = Counter()
    for seed in range(1_000):
        env = Blackjack(*[(False, False), (True, False), (False, True)][seed % 3])
        twin = env.gymnasium_twin()
        observation, _ = twin.reset(seed=seed)
        table, rng = twin.unwrapped, np.random.default_rng(seed)
        generator, ended, length = table.np_random, False, 0
        while not ended:
            state = state_of(table.player, table.dealer)
            assert env.observe(state) == observation
            action = int(rng.random() < (0.5 if seed % 2 else observation[0] < 18))
            table.np_random = recorder = Recorder(generator)
            observation, reward, ended, truncated, _ = twin.step(action)
            following = state_of(table.player, table.dealer)
            assert env.step(state, action, Dealt(recorder.cards)) == (following, reward, ended)
            length += 1
            assert not truncated
        lengths[length] += 1
    assert len(lengths) >= 5 and max(lengths) < env.horizon


# --- the game enumerated: an endless deck ---


@cache
def dealers_end(total, ace):
    """The distribution of what the dealer's hand counts in the end, 0 for a bust."""
    best = total + 10 if ace and total <= 11 else total
    if best >= 17:
        return {best if best <= 21 else 0: 1.0}
    distribution = Counter()
    for card, p in DECK.items():
        for end, q in dealers_end(total + card, ace or card == 1).items():
            distribution[end] += p * q
    return dict(distribution)


@cache
def sticking(best, natural, showing, options):
    """The distribution of the reward of sticking on a hand that counts `best`."""
    pays_natural, sab = options
    distribution = Counter()
    for hidden, p in DECK.items():
        for end, q in dealers_end(showing + hidden, 1 in (showing, hidden)).items():
            reward = float(np.sign(best - end))
            if natural and sab:
                reward = 0.0 if {showing, hidden} == {1, 10} else 1.0
            elif natural and pays_natural and reward == 1.0:
                reward = 1.5
            distribution[reward] += p * q
    return dict(distribution)


def episode_rewards(options, threshold):
    """The distribution of the return of the policy that sticks on `threshold` and above."""

    @cache
    def play(total, ace, natural, showing):
        if total > 21:
            return {-1.0: 1.0}
        best = total + 10 if ace and total <= 11 else total
        if best >= threshold:
            return sticking(best, natural, showing, options)
        distribution = Counter()
        for card, p in DECK.items():
            for reward, q in play(total + card, ace or card == 1, False, showing).items():
                distribution[reward] += p * q
        return dict(distribution)

    distribution = Counter()
    for first, p in DECK.items():
        for second, q in DECK.items():
            for showing, r in DECK.items():
                natural = {first, second} == {1, 10}
                for reward, s in play(first + second, 1 in (first, second), natural, showing).items():
                    distribution[reward] += p * q * r * s
    return distribution


def p_value(counts, distribution):
    """Chi-square of counts by outcome; an outcome of probability 0 must not occur."""
    assert set(counts) <= set(distribution)
    assert sum(distribution.values()) == pytest.approx(1.0, abs=1e-12)
    n = sum(counts.values())
    outcomes = sorted(distribution)
    return stats.chisquare([counts[k] for k in outcomes], [n * distribution[k] for k in outcomes]).pvalue


@numba.njit
def play_out(env, threshold, key, n):
    """Returns and lengths of n episodes that stick on `threshold` and above."""
    returns, lengths = np.empty(n), np.zeros(n, np.int64)
    for i in range(n):
        rng = trajectory_rng(key, i)
        state = env.reset(rng)
        terminated = False
        while not terminated:
            rng = next_step(rng)
            action = 1 if env.observe(state)[0] < threshold else 0
            state, returns[i], terminated = env.step(state, action, rng)
            lengths[i] += 1
    return returns, lengths


@pytest.mark.parametrize("threshold", [12, 17, 20])
@pytest.mark.parametrize("options", [(False, False), (True, False), (False, True), (True, True)])
def test_returns_are_distributed_as_the_enumerated_game(options, threshold):
    """Chi-square at 0.1 %, and the mean within 4 standard errors."""
    returns, _ = play_out(Blackjack(*options), threshold, seed_key(7), 200_000 if JIT else 500)
    distribution = episode_rewards(options, threshold)
    assert p_value(Counter(returns.tolist()), distribution) > LEVEL
    mean = sum(reward * p for reward, p in distribution.items())
    variance = sum((reward - mean) ** 2 * p for reward, p in distribution.items())
    assert abs(returns.mean() - mean) <= 4 * math.sqrt(variance / len(returns))


def test_gymnasiums_returns_are_distributed_as_the_enumerated_game():
    """So the enumeration is Gymnasium's game: chi-square of 5,000 episodes at 0.1 %."""
    twin = Blackjack(natural=True).gymnasium_twin().unwrapped
    twin.reset(seed=8)
    counts = Counter()
    for _ in range(5_000):
        observation, _ = twin.reset()
        terminated = False
        while not terminated:
            observation, reward, terminated, _, _ = twin.step(int(observation[0] < 17))
        counts[reward] += 1
    assert p_value(counts, episode_rewards((True, False), 17)) > LEVEL


@pytest.mark.parametrize("showing", range(1, 11))
def test_the_outcome_of_sticking_is_that_of_the_enumerated_dealer(showing):
    """Whatever the player has: chi-squares added up, at 0.1 % for the ten open cards together."""
    n = 20_000 if JIT else 200
    rng = np.random.default_rng(showing)
    hidden = rng.choice(list(DECK), n, p=list(DECK.values()))
    totals = rng.integers(12, 22, n)
    columns = {
        "player": totals,
        "ace": np.zeros(n, bool),
        "cards": np.full(n, 3),
        "showing": np.full(n, showing),
        "hidden": hidden,
    }
    _, rewards, terminated = compiled_steps(Blackjack(), columns, np.zeros(n, np.int64), seed=40 + showing)
    assert terminated.all()
    statistic = freedom = 0
    for total in range(12, 22):
        counts, distribution = (
            Counter(rewards[totals == total].tolist()),
            sticking(total, False, showing, (0, 0)),
        )
        assert set(counts) <= set(distribution)
        m = sum(counts.values())
        statistic += sum((counts[k] - m * p) ** 2 / (m * p) for k, p in distribution.items())
        freedom += len(distribution) - 1
    assert stats.chi2.sf(statistic, freedom) > LEVEL / 10


@numba.njit
def starts(env, key, n):
    """Start states as rows."""
    rows = np.empty((n, 5), np.int64)
    for i in range(n):
        state = env.reset(trajectory_rng(key, i))
        rows[i, 0] = state.player
        rows[i, 1] = state.ace
        rows[i, 2] = state.cards
        rows[i, 3] = state.showing
        rows[i, 4] = state.hidden
    return rows


def start_distribution():
    """The probabilities of the player's sum and ace in the start state."""
    distribution = Counter()
    for first, p in DECK.items():
        for second, q in DECK.items():
            distribution[(first + second, int(1 in (first, second)))] += p * q
    return distribution


def test_start_states_are_distributed_as_the_deck():
    """The player's hand, the dealer's cards, and the dealer's two next to each other: chi-square at 0.1 %."""
    rows = starts(Blackjack(), seed_key(9), 100_000 if JIT else 1_000)
    assert set(rows[:, 2]) == {2}
    assert p_value(Counter((total, ace) for total, ace, *_ in rows.tolist()), start_distribution()) > LEVEL
    pair = {(a, b): p * q for a, p in DECK.items() for b, q in DECK.items()}
    assert p_value(Counter((a, b) for *_, a, b in rows.tolist()), pair) > LEVEL
    joint = {(10 * k[0] + k[1], a): p * q for k, p in start_distribution().items() for a, q in DECK.items()}
    assert p_value(Counter((10 * t + ace, a) for t, ace, _, a, _ in rows.tolist()), joint) > LEVEL


def test_start_states_are_distributed_as_gymnasiums():
    """Two samples of 10,000, by the player's hand and by the dealer's cards: chi-square at 0.1 %."""
    n = 10_000 if JIT else 1_000
    twin = Blackjack().gymnasium_twin().unwrapped
    twin.reset(seed=10)
    theirs = []
    for _ in range(n):
        twin.reset()
        theirs.append(state_of(twin.player, twin.dealer))
    ours = starts(Blackjack(), seed_key(11), n)
    for columns in ([0, 1], [3], [4]):
        a, b = (Counter(map(tuple, np.array(rows)[:, columns].tolist())) for rows in (ours, theirs))
        table = [[counts[k] for k in sorted(set(a) | set(b))] for counts in (a, b)]
        assert stats.chi2_contingency(table).pvalue > LEVEL


def test_hit_cards_are_distributed_as_the_deck():
    """Chi-square at 0.1 % of the card that a hit adds to two fours."""
    n = 50_000 if JIT else 1_000
    state = State(8, False, 2, 5, 5)
    columns = {name: np.full(n, value) for name, value in state._asdict().items()}
    following, *_ = compiled_steps(Blackjack(), columns, np.ones(n, np.int64), seed=12)
    assert p_value(Counter((following["player"] - 8).tolist()), DECK) > LEVEL


def most_cards(total, ace, limit):
    """The most cards that a hand can still take while it counts less than `limit`."""
    best = total + 10 if ace and total <= 11 else total
    if best >= limit:
        return 0
    return 1 + max(most_cards(total + card, ace or card == 1, limit) for card in DECK)


def test_the_dealer_never_needs_another_card():
    longest = max(most_cards(a + b, 1 in (a, b), 17) for a in DECK for b in DECK)
    assert longest == DEALER_DRAWS


def test_the_horizon_is_never_reached():
    """Two aces and twenty hits that draw aces, the last a bust; Gymnasium has no limit."""
    env = Blackjack()
    state, terminated, length = State(2, True, 2, 5, 5), False, 0
    while not terminated:
        state, reward, terminated = env.step(state, HIT, Dealt([1]))
        length += 1
    assert (length, reward, state.player) == (20, -1.0, 22)
    assert length < env.horizon
    assert gymnasium.spec("Blackjack-v1").max_episode_steps is None
    assert env.gymnasium_twin().spec.max_episode_steps is None


def test_spaces_are_gymnasiums():
    env, twin = Blackjack(), Blackjack().gymnasium_twin()
    assert env.observation_space == twin.observation_space
    assert env.action_space == twin.action_space


def test_options_are_gymnasiums():
    twin = Blackjack(natural=True, sab=False).gymnasium_twin().unwrapped
    assert (twin.natural, twin.sab) == (True, False)
    twin = Blackjack(natural=False, sab=True).gymnasium_twin().unwrapped
    assert (twin.natural, twin.sab) == (False, True)


def test_states_are_put_into_gymnasiums_table():
    """The same observation, number of cards, and naturals."""
    env = Blackjack()
    twin = env.gymnasium_twin()
    for player, dealer in random_hands(300, seed=13):
        env.render_state(twin, state_of(player, dealer))
        table = twin.unwrapped
        assert state_of(table.player, table.dealer) == state_of(player, dealer)
        assert all(1 <= card <= 10 for card in table.player)
        assert table._get_obs() == env.observe(state_of(player, dealer))


def test_gymnasium_draws_a_state():
    """Whatever the table showed before."""
    pytest.importorskip("pygame")
    env = Blackjack()
    twin = env.gymnasium_twin(render_mode="rgb_array")
    pictures = []
    for seed in (1, 2):
        twin.reset(seed=seed)
        for state in (State(21, True, 3, 10, 3), State(12, False, 2, 1, 9)):
            env.render_state(twin, state)
            pictures.append(twin.render())
    assert np.array_equal(pictures[0], pictures[2]) and np.array_equal(pictures[1], pictures[3])
    assert not np.array_equal(pictures[0], pictures[1])
    twin.close()


def test_a_hand_that_was_hit_beyond_21_is_drawn():
    assert hand(31, True, 4) == [1, 10, 10, 10]
    assert hand(22, False, 3) == [10, 10, 2]
