"""The same gradient as the references', checked to be the same before it is timed (`bench.compare`)."""

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import fastpg
from bench.contestants import Setting, Waiting, installed, timer
from bench.duels import Duel, Effort, failed, first_call_seconds, fought, not_there
from bench.measuring import CORES
from bench.policies import BALANCING, THETA_SEEDS, UNIFORM, balancing_network, random_theta
from bench.references import yardstick
from fastpg.throughput import gradient_timer

MAX_DIFFERENCE = 5.0  # in standard errors, of any component
HIDDEN = (64, 64)
FIRST_GRADIENT = """
import sys, time, fastpg
env = fastpg.make("{id}")
policy = fastpg.{maker}
started = time.perf_counter()
fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=2)
print(time.perf_counter() - started)
"""


def difference(estimate: Any, facts: dict) -> float:
    """Return the largest difference of a component, or of the mean return, in standard errors."""
    ours = np.append(estimate.gradient, estimate.mean_return)
    errors = np.append(estimate.standard_error, estimate.return_standard_error)
    combined = np.hypot(errors, facts["standard_error"])
    return float(np.max(np.abs(ours - facts["mean"]) / np.where(combined > 0.0, combined, 1.0)))


def reference(name: str, theta: np.ndarray, *more: str, lanes: tuple[int, ...] = ()) -> tuple[str, ...]:
    """Return the arguments of Python that run a reference."""
    sizes = ("--lanes", *map(str, lanes)) if lanes else ()
    return ("-W", "ignore", "-m", f"bench.references.{name}", json.dumps(theta.tolist()), *sizes, *more)


def c_library(policy: Any) -> ctypes.CDLL:
    """Return the C program in the policy's precision."""
    if policy.dtype == np.float64:
        return yardstick.load()
    return yardstick.load(yardstick.SINGLE, yardstick.SINGLE_LANES)


def c_facts(theta: np.ndarray, library: ctypes.CDLL, n: int = 100_000) -> dict:
    """Return the C program's estimate, as the references tell theirs."""
    sums, _ = yardstick.sums(theta, n, seed=1, threads=CORES, library=library)
    mean = np.append(sums.sr, sums.r) / n
    squares = np.append(sums.s2r2, sums.r2) / n
    return {"mean": mean, "standard_error": np.sqrt((squares - mean**2) / (n - 1))}


def c_timer(theta: np.ndarray, library: ctypes.CDLL, seconds: float) -> Callable[[], float]:
    """Return what measures M steps/s of the C program."""
    first = yardstick.gradient(theta, 20_000, threads=CORES, library=library)
    n = max(1000, int(20_000 * seconds / first.seconds))

    def speed() -> float:
        estimate = yardstick.gradient(theta, n, threads=CORES, library=library)
        return estimate.n_steps / estimate.seconds / 1e6

    return speed


def gradient_settings(
    id: str, theta: np.ndarray, effort: Effort, peers: str
) -> dict[str, tuple[str, list[Setting]]]:
    """Return the references for a linear policy, as `against` takes them."""
    jax = (peers, *reference("jax_gymnax", theta, "--id", id, lanes=effort.lanes))
    found = {"JAX, gymnax": ("gymnax", [Setting("", jax)])}
    if id == "CartPole-v1":
        torch = (peers, *reference("torch_autograd", theta, lanes=effort.lanes))
        numpy = (sys.executable, *reference("numpy_vectorised", theta, lanes=effort.lanes))
        loop = (sys.executable, *reference("python_loop", theta))
        each = f"{CORES} processes"
        found["PyTorch, autograd"] = "torch", ways_of_torch(torch)
        found["NumPy, vectorised"] = "numpy", [Setting(each, numpy, CORES)]
        found["Python loop over Gymnasium"] = "gymnasium", [Setting(each, loop, CORES)]
    return found


def ways_of_torch(command: tuple[str, ...]) -> list[Setting]:
    """Return a process a core, and a thread a core."""
    threads = (*command, "--threads", str(CORES))
    return [Setting(f"{CORES} processes", command, CORES), Setting(f"{CORES} threads", threads)]


def gradients(effort: Effort, peers: str) -> Iterator[Duel]:
    """The same gradient of a linear policy, in fastpg's float64 and in its float32."""
    for id in effort.ids:
        with Waiting() as waiting:
            yield from gradients_of(id, effort, peers, waiting)


def gradients_of(id: str, effort: Effort, peers: str, waiting: Waiting) -> Iterator[Duel]:
    """One environment."""
    tasks = {}
    for dtype in ("float64", "float32"):
        policy = fastpg.policy_for(fastpg.make(id), dtype)
        more = ", in float32" if dtype == "float32" else ""
        if id == "CartPole-v1":
            tasks[f"{id}, 22 steps a trajectory{more}"] = policy, UNIFORM
            tasks[f"{id}, 410 steps a trajectory{more}"] = policy, BALANCING
        else:
            tasks[f"{id}{more}"] = policy, random_theta(fastpg.make(id), policy, THETA_SEEDS[id])
    for task, (policy, theta) in tasks.items():
        duels, timers = [], []
        with_c = id == "CartPole-v1" and effort.wants("C by hand")
        if with_c and yardstick.compiler() is None:
            yield Duel("gradient", task, "C by hand", skipped="no gcc")
        elif with_c:
            try:
                library = c_library(policy)
                flags = yardstick.FLAGS if policy.dtype == np.float64 else yardstick.SINGLE
                setting = f"{' '.join(flags)}, {CORES} threads, {policy.dtype}"
                facts = c_facts(theta, library)
                duels.append(checked("gradient", task, "C by hand", setting, policy, id, theta, facts))
                timers.append(c_timer(theta, library, effort.seconds))
            except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
                yield Duel("gradient", task, "C by hand", skipped=failed(error))
        candidates = gradient_settings(id, theta, effort, peers)
        if policy.dtype == np.float32:  # the others compute in float64
            candidates = {name: way for name, way in candidates.items() if name[:3] in ("JAX", "PyT")}
        yield from against("gradient", task, id, policy, theta, candidates, duels, timers, effort, waiting)


def networks(effort: Effort, peers: str) -> Iterator[Duel]:
    """The same gradient of a policy that is a network, in float32 everywhere."""
    if "CartPole-v1" not in effort.ids:
        return
    policy = fastpg.SoftmaxMLP.for_env(fastpg.make("CartPole-v1"), hidden=HIDDEN)
    hidden = "--hidden", *map(str, HIDDEN)
    tasks = {"22": policy.initial(0), "some 400": balancing_network(policy)}
    for length, theta in tasks.items():
        jax = reference("jax_gymnax", theta, *hidden, lanes=(256, 64, 1024))
        torch = (peers, *reference("torch_autograd", theta, *hidden, lanes=(256, 1024, 4096)))
        candidates = {
            "JAX, gymnax": ("gymnax", [Setting("", (peers, *jax))]),
            "PyTorch, autograd": ("torch", ways_of_torch(torch)),
        }
        task = f"CartPole-v1, {length} steps a trajectory, tanh {'-'.join(map(str, HIDDEN))}"
        with Waiting() as waiting:
            yield from against(
                "network", task, "CartPole-v1", policy, theta, candidates, [], [], effort, waiting
            )


def checked(
    section: str, task: str, peer: str, setting: str, policy: Any, id: str, theta: np.ndarray, facts: dict
) -> Duel:
    """Return a duel to be fought, once it is known that both compute the same."""
    n = 100_000 if section == "gradient" else 10_000
    estimate = fastpg.policy_gradient(fastpg.make(id), policy, theta, n_trajectories=n)
    off = difference(estimate, facts)
    if off > MAX_DIFFERENCE:
        raise RuntimeError(f"{peer}, {task}: another gradient, by {off:.1f} standard errors")
    return Duel(section, task, peer, setting, compile_seconds=facts.get("compile_seconds"), difference=off)


def against(
    section: str,
    task: str,
    id: str,
    policy: Any,
    theta: np.ndarray,
    candidates: dict[str, tuple[str, list[Setting]]],
    duels: list[Duel],
    timers: list[Callable[[], float]],
    effort: Effort,
    waiting: Waiting,
) -> Iterator[Duel]:
    """Fight those that are given, and the candidates: name: package that it needs, and the ways to run it."""
    for name, (package, ways) in candidates.items():
        if not effort.wants(name):
            continue
        python = ways[0].command[0]
        if not installed(python, package):
            yield Duel(section, task, name, skipped=not_there(python, package))
            continue
        try:
            how, contestant = waiting.fastest(ways, effort.seconds)
            facts = contestant.facts
            kind = "float64" if name.startswith(("NumPy", "Python")) else "float32"
            setting = ", ".join(filter(None, (facts["versions"], facts["setting"], how, kind)))
            duels.append(checked(section, task, name, setting, policy, id, theta, facts))
        except RuntimeError as error:
            yield Duel(section, task, name, skipped=failed(error))
            continue
        timers.append(timer(contestant, effort.seconds))
    maker = f"SoftmaxMLP.for_env(env, hidden={HIDDEN})"
    if section == "gradient":
        maker = f"policy_for(env, '{policy.dtype}')"
    compile_seconds = first_call_seconds(FIRST_GRADIENT.format(id=id, maker=maker))
    duels = [replace(duel, our_compile_seconds=compile_seconds) for duel in duels]
    ours = gradient_timer(fastpg.make(id), policy, theta, effort.seconds, threads=CORES)
    yield from fought(duels, effort.rounds, ours, timers)
