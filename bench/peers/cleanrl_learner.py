"""A PPO as CleanRL writes it, in PyTorch: ``python -m bench.peers.cleanrl_learner CartPole-v1``.

After Huang et al., "CleanRL" (JMLR 23, 2022), with the defaults of its ``ppo.py``: 4 environments of a
``SyncVectorEnv``, 128 steps, 4 minibatches, 4 epochs, 500,000 steps. (CleanRL is a file to copy, not a
package.)
"""

import gymnasium
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn

from bench.peers.solving import Trial, arguments
from bench.serving import versions

STEPS = 500_000
N_ENVS, N_STEPS, N_MINIBATCHES, N_EPOCHS = 4, 128, 4, 4
LEARNING_RATE, DISCOUNT, GAE_LAMBDA, CLIP = 2.5e-4, 0.99, 0.95, 0.2
ENTROPY_WEIGHT, VALUE_WEIGHT, MAX_GRADIENT_NORM = 0.01, 0.5, 0.5


def environments(kind, id):
    """Return the vector environment; a step also begins the next episode."""
    if kind == "stock":
        games = [lambda: gymnasium.make(id)] * N_ENVS
        return SyncVectorEnv(games, autoreset_mode=AutoresetMode.SAME_STEP)
    import fastpg

    games = fastpg.VectorEnv(fastpg.make(id), N_ENVS, autoreset_mode="SameStep")
    games.reset()  # the kernel comes from the disk before training, like PyTorch
    return games


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


def main():
    """Train until solved."""
    parser = arguments(__doc__.splitlines()[0], ids=["CartPole-v1"])
    parser.add_argument("--environments", choices=["stock", "fastpg"], default="stock")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    games = environments(options.environments, options.id)
    agent = Agent(games.single_observation_space.shape[0], int(games.single_action_space.n))
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE, eps=1e-5)
    n_updates = STEPS // (N_ENVS * N_STEPS)
    observations = torch.zeros(N_STEPS, N_ENVS, *games.single_observation_space.shape)
    actions = torch.zeros(N_STEPS, N_ENVS, dtype=torch.int64)
    log_probs, rewards, dones, values = torch.zeros(4, N_STEPS, N_ENVS)

    def greedy(observations):
        with torch.no_grad():
            return agent.actor(torch.as_tensor(observations)).argmax(-1).numpy()

    trial = Trial(options.id, options.seed)
    seen = torch.as_tensor(games.reset(seed=options.seed)[0])
    done = torch.zeros(N_ENVS)
    for update in range(n_updates):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1.0 - update / n_updates)
        with torch.no_grad():
            for t in range(N_STEPS):
                policy = agent.policy(seen)
                observations[t], dones[t], values[t] = seen, done, agent.value(seen)
                actions[t] = action = policy.sample()
                log_probs[t] = policy.log_prob(action)
                following, reward, terminated, truncated, _ = games.step(action.numpy())
                rewards[t] = torch.as_tensor(reward)
                seen, done = torch.as_tensor(following), torch.as_tensor(terminated | truncated).float()
            advantages = advantages_of(rewards, values, dones, agent.value(seen), done)
        improve(
            agent,
            optimizer,
            observations.flatten(0, 1),
            *(x.flatten() for x in (actions, log_probs, values, advantages)),
        )
        if trial.check(greedy, (update + 1) * N_STEPS * N_ENVS):
            break
    trial.report(versions=versions("torch", "gymnasium"))


if __name__ == "__main__":
    main()
