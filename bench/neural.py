"""Gradients of neural policies, and where their time goes: ``python -m bench.neural [--peers PYTHON]``.

CartPole-v1, tanh 64-64, float32, standard errors included, at two θ: the initial one, and one that balances.

* `speed`: million environment steps a second, on all cores and on one;
* `matrix products`: on one thread, products of the same shapes alone, as a fraction of the whole; all the
  floating-point operations of products, as a fraction of the peak of this BLAS (a product of two matrices of
  1024²); what the rest is made of: activations, acting in the lanes, and what remains (recorded steps,
  moments of scores, Python);
* `memory`: the peak of a process with 100,000 trajectories over one with 1,000;
* `peers`, with ``--peers``, an interpreter that has them: the same gradient by JAX and PyTorch
  (`bench.compare_gradients`), and the steps a second of PPO's training by Stable-Baselines3.

Run it from the checkout's root on an idle machine.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import fastpg
from bench.compare_gradients import networks
from bench.contestants import installed
from bench.duels import FULL, QUICK
from bench.measuring import CORES, ROOT, Result, alternate, conditions, load, markdown, ratios, run_fresh
from bench.policies import balancing_network
from fastpg.blas import single_threaded_blas
from fastpg.dispatch import kernel
from fastpg.lane_memory import MAX_LANES
from fastpg.networks.activations import activate, through_activation
from fastpg.networks.products import times, times_transposed
from fastpg.neural_scores import ROWS
from fastpg.throughput import gradient_timer

ENV = fastpg.make("CartPole-v1")
POLICY = fastpg.SoftmaxMLP.for_env(ENV)
TASKS = {"initial θ, 22 steps a trajectory": POLICY.initial(0), "balancing": balancing_network(POLICY)}

PEAK_MEMORY = """
import fastpg
from bench.measuring import peak_mebibytes
env = fastpg.make("CartPole-v1")
policy = fastpg.SoftmaxMLP.for_env(env)
fastpg.policy_gradient(env, policy, policy.initial(), fastpg.REINFORCE("mean"), n_trajectories={n})
print(peak_mebibytes())
"""
PPO = """
import sys, time
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
torch.set_num_threads(1)
games = make_vec_env("CartPole-v1", 8)
model = PPO("MlpPolicy", games, n_steps=32, batch_size=256, n_epochs=20, gae_lambda=0.8, gamma=0.98,
            learning_rate=0.001, device="cpu", seed=0)
model.learn(2048)
print("ready", flush=True)
for line in sys.stdin:
    started = time.perf_counter()
    model.learn(8192, reset_num_timesteps=False)
    print(8192 / (time.perf_counter() - started), flush=True)
"""


# --- products of the shapes that a step goes through ---


@kernel
def forward_products(network, theta, layers, room, n):
    """Multiply as `forward` does, n times; `layers` are matrices of the sizes of all layers."""
    for _ in range(n):
        at = 0
        for k in range(1, len(network.sizes)):
            a, b = network.sizes[k - 1], network.sizes[k]
            times_transposed(layers[k - 1], theta[at : at + a * b].reshape((b, a)), layers[k], room)
            at += (a + 1) * b


@kernel
def backward_products(network, theta, layers, length, gradient, n):
    """Multiply as `propagate` does, and as `collect` does for trajectories of that length."""
    for _ in range(n):
        at = len(theta)
        for k in range(len(network.sizes) - 1, 0, -1):
            a, b = network.sizes[k - 1], network.sizes[k]
            at -= (a + 1) * b
            for first in range(0, len(layers[0]), length):
                rows = slice(first, first + length)
                times(layers[k][rows].T, layers[k - 1][rows], gradient[at : at + a * b].reshape((b, a)))
            if k > 1:
                times(layers[k], theta[at : at + a * b].reshape((b, a)), layers[k - 1])


@kernel
def activations(layer, bias, derivative, n):
    """Apply tanh to a layer as often as a step has it applied, and its derivative."""
    for _ in range(n):
        activate(layer, bias, 2)
        if derivative:
            through_activation(layer, layer, 2)


@kernel
def square(a, b, out, n):
    """Multiply matrices."""
    for _ in range(n):
        np.dot(a, b, out)


def seconds_of(kernel, *arguments) -> float:
    """Return the seconds of one repetition."""
    kernel(*arguments, 1)
    n = 1
    while True:
        started = time.perf_counter()
        kernel(*arguments, n)
        seconds = time.perf_counter() - started
        if seconds > 0.05:
            return seconds / n
        n *= 4


def parts(theta: np.ndarray, length: int) -> dict[str, float]:
    """Return the seconds a step that products and activations take by themselves."""
    network, theta = POLICY.network, theta.astype(np.float32)
    rows = max(1, ROWS // length) * length if length <= ROWS else ROWS
    length = min(length, rows)
    rng = np.random.default_rng(0)

    def layers(n):
        return tuple(rng.normal(size=(n, size)).astype(np.float32) for size in network.sizes)

    acting, scoring = layers(MAX_LANES), layers(rows)
    gradient, room = np.empty_like(theta), np.empty_like(theta)
    forward = seconds_of(forward_products, network, theta, acting, room) / MAX_LANES
    forward += seconds_of(forward_products, network, theta, scoring, room) / rows
    backward = seconds_of(backward_products, network, theta, scoring, length, gradient) / rows
    bias = np.zeros(network.sizes[1], np.float32)
    hidden = len(network.sizes) - 2
    tanh = hidden * seconds_of(activations, scoring[1], bias, False) / rows
    both = hidden * seconds_of(activations, scoring[1], bias, True) / rows
    return {"products": forward + backward, "activations": tanh + both}


def peak() -> float:
    """Return the floating-point operations a second of one thread, at its best."""
    a = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    return 2 * 1024**3 / seconds_of(square, a, a.copy(), a.copy())


def operations() -> int:
    """Return the floating-point operations a step of all products: twice forward, once back."""
    products = [2 * a * b for a, b in zip(POLICY.network.sizes[:-1], POLICY.network.sizes[1:], strict=True)]
    return 2 * sum(products) + sum(products) + sum(products[1:])


def acting_seconds(theta: np.ndarray, n: int) -> float:
    """Return the seconds a step of playing alone, on one thread."""
    started = time.perf_counter()
    lengths = fastpg.evaluate(ENV, POLICY, theta, n_trajectories=n, threads=1).lengths
    return (time.perf_counter() - started) / lengths.sum()


def speeds(times: int, seconds: float) -> Iterator[Result]:
    """M steps/s, and what one thread's time is made of."""
    with single_threaded_blas():
        best = max(peak() for _ in range(3))
    for task, theta in TASKS.items():
        estimate = fastpg.policy_gradient(ENV, POLICY, theta, n_trajectories=1000)
        length, section = round(estimate.mean_length), f"CartPole-v1, tanh 64-64, {task}"
        n = max(128, int(2e5 / length))
        fastpg.evaluate(ENV, POLICY, theta, n_trajectories=n, threads=1)
        all_cores = gradient_timer(ENV, POLICY, theta, seconds)
        one = gradient_timer(ENV, POLICY, theta, seconds, threads=1)
        fast, single = alternate(times, all_cores, one)
        yield Result(section, f"{CORES} threads", "M steps/s", fast)
        yield Result(section, "1 thread", "M steps/s", single)
        shares: dict[str, list[float]] = {}
        for speed in single:
            with single_threaded_blas():
                found = parts(theta, length)
            play, whole = acting_seconds(theta, n), 1e-6 / speed
            network = seconds_of_forward(theta)
            found["playing, but for the network"] = max(play - network, 0.0)
            found["the rest"] = whole - sum(found.values())
            for name, value in found.items():
                shares.setdefault(name, []).append(100 * value / whole)
        for name, values in shares.items():
            yield Result(section, f"of one thread's time: {name}", "%", values)
        rate = [operations() * speed * 1e6 for speed in single]
        yield Result(section, "operations of products, of BLAS's peak", "%", [100 * r / best for r in rate])
    yield Result("BLAS", "1024² product, one thread", "GFLOP/s", [best / 1e9])


def seconds_of_forward(theta: np.ndarray) -> float:
    """Return the seconds a step of the network's outputs for all lanes."""
    network, theta = POLICY.network, theta.astype(np.float32)
    x = np.zeros((MAX_LANES, network.n_inputs), np.float32)
    with single_threaded_blas():
        return seconds_of(forwards, network, theta, x, network.workspace(MAX_LANES, theta)) / MAX_LANES


@kernel
def forwards(network, theta, x, work, n):
    """Compute outputs, n times."""
    for _ in range(n):
        network.forward(theta, x, work)


def memory() -> Iterator[Result]:
    """The peak of fresh processes, over the number of trajectories."""
    run_fresh("-c", PEAK_MEMORY.format(n=2))  # compiles, which takes memory
    large, small = (float(run_fresh("-c", PEAK_MEMORY.format(n=n))[1].split()[-1]) for n in (100_000, 1_000))
    yield Result("memory", "N = 100,000 / N = 1,000", "×", [large / small])


# --- peers ---


def against_peers(peers: str, quick: bool) -> Iterator[Result]:
    """The same gradient by others, and PPO's training."""
    for duel in networks(QUICK if quick else FULL, peers):
        section = f"fastpg / {duel.peer}, {duel.task}"
        if duel.skipped:
            yield Result(section, "gradient", skipped=duel.skipped)
            continue
        yield Result(section, duel.setting, "M steps/s", duel.theirs)
        yield Result(section, "gradient", "×", duel.ratios())
    yield from against_ppo(peers, 3 if quick else 5)


def against_ppo(peers: str, times: int) -> Iterator[Result]:
    """Environment steps a second of a policy gradient, over those of PPO's training."""
    section = "fastpg's gradient / Stable-Baselines3's PPO, training, 8 environments"
    if not installed(peers, "stable_baselines3"):
        yield Result(section, "steps a second", skipped="no stable-baselines3")
        return
    process = subprocess.Popen(
        [peers, "-W", "ignore", "-c", PPO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdin is not None and process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise RuntimeError("Stable-Baselines3's PPO did not start")

    def theirs() -> float:
        process.stdin.write("go\n")
        process.stdin.flush()
        return float(process.stdout.readline()) / 1e6

    ours = gradient_timer(ENV, POLICY, POLICY.initial(0), 0.5)
    mine, other = alternate(times, ours, theirs)
    process.stdin.close()
    process.wait()
    yield Result(section, "PPO", "steps/s", [1e6 * x for x in other])
    yield Result(section, "steps a second", "×", ratios(mine, other))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter, to see that it works")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter that has the peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the table")
    arguments = parser.parse_args()
    facts = conditions()
    sections = [speeds(3, 0.1) if arguments.quick else speeds(7, 0.5), memory()]
    if arguments.peers:
        sections.append(against_peers(arguments.peers, arguments.quick))
    results = []
    for section in sections:
        for result in section:
            results.append(result)
            print(f"  {result.section}: {result.quantity} {result.median()}", file=sys.stderr, flush=True)
    facts["load at end"] = load()
    if arguments.json:
        samples = {f"{r.section}: {r.quantity}": r.samples for r in results}
        arguments.json.write_text(json.dumps({"conditions": facts, "samples": samples}, indent=1))
    report = markdown(facts, results)
    print(report)
    if arguments.markdown:
        arguments.markdown.write_text(f"# Neural policies\n\n{report}", encoding="utf-8")


if __name__ == "__main__":
    main()
