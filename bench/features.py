"""How the throughput of a softmax policy on CartPole-v1 falls with its number of parameters.

Run ``python -m bench.features``. Each row is the median, over rounds in which all policies take turns, of
the steps a second of a REINFORCE gradient at θ = 0 (22 steps a trajectory), and of their ratio to those of
the policy with 10 parameters in the same round. Kernels are compiled before.
"""

import argparse

import numpy as np

import fastpg
from fastpg.features import Fourier, Polynomial, RadialBasis, TileCoding

MAPS = {
    "observation": None,
    "Polynomial(1)": Polynomial(1),
    "Fourier(1)": Fourier(1),
    "Polynomial((3, 3, 1, 1))": Polynomial((3, 3, 1, 1)),
    "Fourier((3, 3, 1, 1))": Fourier((3, 3, 1, 1)),
    "RadialBasis((4, 4, 2, 2))": RadialBasis((4, 4, 2, 2), normalised=True),
    "Polynomial((4, 4, 4, 3))": Polynomial((4, 4, 4, 3)),
    "Fourier((4, 4, 4, 3))": Fourier((4, 4, 4, 3)),
    "TileCoding(8, 3)": TileCoding(8, 3),
}


def throughput(env, policy, seed, seconds, threads):
    """Steps a second, over about so many seconds."""
    n = 2_000
    while True:
        estimate = fastpg.policy_gradient(
            env, policy, policy.initial(), n_trajectories=n, seed=seed, threads=threads
        )
        if estimate.seconds > 0.5 * seconds:
            return estimate.n_steps / estimate.seconds
        n = int(n * min(20.0, seconds / estimate.seconds)) + 1


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    env = fastpg.make("CartPole-v1")
    policies = {name: fastpg.SoftmaxLinear.for_env(env, features=features) for name, features in MAPS.items()}
    for policy in policies.values():
        throughput(env, policy, 0, 0.0, arguments.threads)
    rounds = np.array(
        [
            [throughput(env, policy, i, arguments.seconds, arguments.threads) for policy in policies.values()]
            for i in range(arguments.rounds)
        ]
    )
    ratios = np.quantile(rounds / rounds[:, :1], (0.25, 0.5, 0.75), axis=0)
    print(f"{'features':28}{'P':>6}{'M steps/s':>11}{'ratio':>8}   quartiles")
    for i, (name, policy) in enumerate(policies.items()):
        low, middle, high = ratios[:, i]
        rate = np.median(rounds[:, i]) / 1e6
        print(f"{name:28}{policy.n_parameters:6}{rate:11.1f}{middle:8.3f}   {low:.3f} - {high:.3f}")


if __name__ == "__main__":
    main()
