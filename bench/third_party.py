"""Other people's learners on fastpg's CartPole-v1 and on their stock one: ``python -m bench.third_party``.

Stable-Baselines3's PPO and A2C with the hyperparameters of rl-baselines3-zoo, and a PPO as CleanRL writes
it (Huang et al., JMLR 23, 2022), each trained on both. Wall time without compilation and evaluation; the
time inside the environments' steps apart; the return of the trained policy's most probable actions over
100 episodes of Gymnasium's own environment. Needs stable-baselines3 and PyTorch. Run it on an idle machine.
"""

import argparse
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics
from gymnasium.wrappers.vector import RecordEpisodeStatistics as RecordVectorStatistics
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecMonitor
from torch import nn

import fastpg
from bench.speed import conditions
from fastpg.interop.stable_baselines3 import StableBaselinesVecEnv

ID = "CartPole-v1"
ENV = fastpg.make(ID)
EPISODES = 100


@dataclass(frozen=True)
class Outcome:
    """One training run."""

    learner: str
    environments: str
    seed: int
    steps: int
    returns: list[float]  # of the evaluation's episodes
    seconds: float
    stepping_seconds: float


def evaluate(act: Callable[[np.ndarray], np.ndarray], seed: int) -> list[float]:
    """Return the returns of episodes of Gymnasium's own environment, played side by side."""
    games = [gymnasium.make(ID) for _ in range(EPISODES)]
    observations = np.array([game.reset(seed=10_000 * seed + i)[0] for i, game in enumerate(games)])
    returns, alive = np.zeros(EPISODES), np.arange(EPISODES)
    while alive.size:
        running = []
        for i, action in zip(alive, act(observations[alive]), strict=True):
            observations[i], reward, terminated, truncated, _ = games[i].step(int(action))
            returns[i] += reward
            if not (terminated or truncated):
                running.append(i)
        alive = np.array(running, dtype=int)
    return returns.tolist()


# --- Stable-Baselines3 ---


def decaying(initial: float) -> Callable[[float], float]:
    """Return SB3's schedule that falls linearly to 0."""
    return lambda remaining: initial * remaining


SB3_LEARNERS: dict[str, tuple[Any, int, Callable[[], dict]]] = {  # rl-baselines3-zoo: class, steps, settings
    "SB3 PPO": (
        PPO,
        100_000,
        lambda: {
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
            "ent_coef": 0.0,
            "learning_rate": decaying(0.001),
            "clip_range": decaying(0.2),
        },
    ),
    "SB3 A2C": (A2C, 500_000, lambda: {"ent_coef": 0.0}),
}
SB3_ENVS = 8


class Timed(VecEnvWrapper):
    """Adds up the time within steps."""

    seconds = 0.0

    def reset(self):
        """Pass on."""
        return self.venv.reset()

    def step_wait(self):
        """Step by the clock."""
        started = time.perf_counter()
        result = self.venv.step_wait()
        self.seconds += time.perf_counter() - started
        return result


def sb3_environments(kind: str) -> Timed:
    """Return the vector environment, with what counts the episodes."""
    if kind == "fastpg":
        return Timed(VecMonitor(StableBaselinesVecEnv(ENV, SB3_ENVS)))
    return Timed(make_vec_env(ID, SB3_ENVS, vec_env_cls=DummyVecEnv))


def train_sb3(learner: str, kind: str, seed: int, share: float) -> Outcome:
    """Train one of SB3's algorithms."""
    algorithm, steps, settings = SB3_LEARNERS[learner]
    environments = sb3_environments(kind)
    model = algorithm("MlpPolicy", environments, seed=seed, device="cpu", **settings())
    started = time.perf_counter()
    model.learn(int(steps * share))
    seconds = time.perf_counter() - started
    returns = evaluate(lambda observations: model.predict(observations, deterministic=True)[0], seed)
    return Outcome(learner, kind, seed, model.num_timesteps, returns, seconds, environments.seconds)


# --- PPO as CleanRL writes it ---

CLEANRL = "CleanRL-style PPO"
CLEANRL_STEPS = 500_000
N_ENVS, N_STEPS, N_MINIBATCHES, N_EPOCHS = 4, 128, 4, 4
LEARNING_RATE, DISCOUNT, GAE_LAMBDA, CLIP = 2.5e-4, 0.99, 0.95, 0.2
ENTROPY_WEIGHT, VALUE_WEIGHT, MAX_GRADIENT_NORM = 0.01, 0.5, 0.5


def cleanrl_environments(kind: str) -> Any:
    """Return the vector environment, with what counts the episodes; a step also begins the next episode."""
    if kind == "fastpg":
        return RecordVectorStatistics(fastpg.VectorEnv(ENV, N_ENVS, autoreset_mode="SameStep"))
    games = [lambda: RecordEpisodeStatistics(gymnasium.make(ID))] * N_ENVS
    return SyncVectorEnv(games, autoreset_mode=AutoresetMode.SAME_STEP)


class Agent(nn.Module):
    """Actor and critic: two networks of two layers of 64 tanh units, orthogonally initialised."""

    def __init__(self, n_inputs: int, n_actions: int):
        super().__init__()
        self.actor, self.critic = self._network(n_inputs, n_actions, 0.01), self._network(n_inputs, 1, 1.0)

    @staticmethod
    def _network(n_inputs, n_outputs, last_gain):
        layers = []
        for inputs, outputs, gain in (
            (n_inputs, 64, 2**0.5),
            (64, 64, 2**0.5),
            (64, n_outputs, last_gain),
        ):
            layer = nn.Linear(inputs, outputs)
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    def value(self, observations):
        """Return V(s)."""
        return self.critic(observations).squeeze(-1)

    def policy(self, observations):
        """Return π(·|s)."""
        return torch.distributions.Categorical(logits=self.actor(observations), validate_args=False)


def advantages_of(rewards, values, dones, last_value, last_done):
    """Return the generalised advantage estimates (Schulman et al. 2016), shape (steps, environments).

    ``dones[t]`` says that observation t is the first of an episode; a time limit counts as an end.
    """
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(last_value)
    next_value, next_done = last_value, last_done
    for t in reversed(range(len(rewards))):
        alive = 1.0 - next_done
        error = rewards[t] + DISCOUNT * next_value * alive - values[t]
        running = error + DISCOUNT * GAE_LAMBDA * alive * running
        advantages[t] = running
        next_value, next_done = values[t], dones[t]
    return advantages


def improve(agent, optimizer, observations, actions, log_probs, values, advantages):
    """Make the epochs of clipped updates on one batch (Schulman et al. 2017)."""
    returns = advantages + values
    batch = len(actions)
    for _ in range(N_EPOCHS):
        for some in torch.randperm(batch).split(batch // N_MINIBATCHES):
            policy, value = agent.policy(observations[some]), agent.value(observations[some])
            ratio = (policy.log_prob(actions[some]) - log_probs[some]).exp()
            advantage = advantages[some]
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            policy_loss = -torch.min(advantage * ratio, advantage * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
            clipped = values[some] + (value - values[some]).clamp(-CLIP, CLIP)
            value_errors = torch.max((value - returns[some]) ** 2, (clipped - returns[some]) ** 2)
            value_loss = 0.5 * value_errors.mean()
            loss = policy_loss + VALUE_WEIGHT * value_loss - ENTROPY_WEIGHT * policy.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()


def train_cleanrl(kind: str, seed: int, share: float) -> Outcome:
    """Train the PPO above."""
    torch.manual_seed(seed)
    environments = cleanrl_environments(kind)
    agent = Agent(environments.single_observation_space.shape[0], int(environments.single_action_space.n))
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE, eps=1e-5)
    n_updates = int(CLEANRL_STEPS * share) // (N_ENVS * N_STEPS)
    observations = torch.zeros(N_STEPS, N_ENVS, *environments.single_observation_space.shape)
    actions = torch.zeros(N_STEPS, N_ENVS, dtype=torch.int64)
    log_probs, rewards, dones, values = torch.zeros(4, N_STEPS, N_ENVS)
    stepping = 0.0

    started = time.perf_counter()
    seen = torch.as_tensor(environments.reset(seed=seed)[0])
    done = torch.zeros(N_ENVS)
    for update in range(n_updates):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1.0 - update / n_updates)
        with torch.no_grad():
            for t in range(N_STEPS):
                policy = agent.policy(seen)
                observations[t], dones[t], values[t] = seen, done, agent.value(seen)
                actions[t] = action = policy.sample()
                log_probs[t] = policy.log_prob(action)
                step_started = time.perf_counter()
                following, reward, terminated, truncated, _ = environments.step(action.numpy())
                stepping += time.perf_counter() - step_started
                rewards[t] = torch.as_tensor(reward)
                seen, done = torch.as_tensor(following), torch.as_tensor(terminated | truncated).float()
            advantages = advantages_of(rewards, values, dones, agent.value(seen), done)
        improve(
            agent,
            optimizer,
            observations.flatten(0, 1),
            *(x.flatten() for x in (actions, log_probs, values, advantages)),
        )
    seconds = time.perf_counter() - started

    def act(observations):
        with torch.no_grad():
            return agent.actor(torch.as_tensor(observations)).argmax(-1).numpy()

    steps = n_updates * N_STEPS * N_ENVS
    return Outcome(CLEANRL, kind, seed, steps, evaluate(act, seed), seconds, stepping)


# --- the run ---

STOCK = {"SB3 PPO": "DummyVecEnv", "SB3 A2C": "DummyVecEnv", CLEANRL: "SyncVectorEnv"}


def compile_kernels() -> None:
    """Compile before any clock runs."""
    vector = fastpg.VectorEnv(ENV, 1, autoreset_mode="SameStep")
    vector.reset(seed=0)
    vector.step([0])


def train(learner: str, kind: str, seed: int, share: float) -> Outcome:
    """Train a learner on "fastpg" or on its "stock" environments."""
    if learner == CLEANRL:
        return train_cleanrl(kind, seed, share)
    return train_sb3(learner, kind, seed, share)


def markdown(facts: dict[str, str], outcomes: list[Outcome]) -> str:
    """Return the report: medians over the seeds, and the returns of all their episodes."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "| learner | environments | steps | final return | wall s | stepping s | stepping µs |"]
    lines += ["|---|---|---|---|---|---|---|"]
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.learner, outcome.environments), []).append(outcome)
    for (learner, kind), runs in groups.items():
        returns = [r for run in runs for r in run.returns]
        wall = statistics.median(run.seconds for run in runs)
        stepping = statistics.median(run.stepping_seconds for run in runs)
        lines.append(
            f"| {learner} | {'fastpg' if kind == 'fastpg' else STOCK[learner]} | {runs[0].steps:,} "
            f"| {np.mean(returns):.1f} ± {np.std(returns):.1f} | {wall:.1f} | {stepping:.2f} "
            f"| {stepping / runs[0].steps * 1e6:.2f} |"
        )
    lines += [
        "",
        f"Final return: mean ± standard deviation of {EPISODES} episodes a seed. Stepping µs: of one step",
    ]
    lines[-1] += " of one environment."
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train all learners, or those named, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learner", action="append", choices=list(STOCK), help="all unless given")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind (default 3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, one seed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every run")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the table")
    arguments = parser.parse_args()
    share, n_seeds = (0.1, 1) if arguments.quick else (1.0, arguments.seeds)

    torch.set_num_threads(1)  # the networks are small
    facts = conditions() | {
        "learners": ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("stable-baselines3", "torch")),
        "effort": f"{n_seeds} seeds" + (", a tenth of the steps" if arguments.quick else ""),
    }
    compile_kernels()
    outcomes = []
    for learner in arguments.learner or STOCK:
        for seed in range(n_seeds):
            for kind in ("fastpg", "stock"):
                print(f"{learner}, {kind}, seed {seed} ...", file=sys.stderr, flush=True)
                outcomes.append(train(learner, kind, seed, share))

    report = markdown(facts, outcomes)
    print(report)
    if arguments.markdown:
        arguments.markdown.write_text(report, encoding="utf-8")
    if arguments.json:
        content = {"conditions": facts, "runs": [asdict(outcome) for outcome in outcomes]}
        arguments.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
