"""The kernel cache: what compiles and what does not, edits, races, damage, and where it cannot write."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from typing import NamedTuple

import numba
import numpy as np
import pytest

import fastpg
from fastpg import REINFORCE, dispatch, evaluate, policy_gradient
from fastpg.cache import KernelCache, cache_directory, fingerprint
from fastpg.lanes import simulate_chunks

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")

# One step, no sine: the smallest kernel there is. It refers to each kind of thing that gets compiled in.
TINY = """
from typing import NamedTuple

import numpy as np
import tiny_package.nested
import tiny_helper
from gymnasium.spaces import Box, Discrete
from tiny_helper import shifted

TABLE = np.array([100.0, 200.0])


class State(NamedTuple):
    x: float


class Tiny(NamedTuple):
    scale: float = 1.0

    horizon = 1
    observation_space = Box(-np.inf, np.inf, (1,))
    action_space = Discrete(2)

    def reset(self, rng):
        return State(1.0)

    def observe(self, state):
        return (state.x,)

    def step(self, state, action, rng):
        reward = 1.0 + shifted(state.x) + tiny_helper.OFFSET + tiny_package.nested.CONSTANT + TABLE[0]
        return state, self.scale * reward, True
"""
HELPER = """
import fastpg

SHIFT = 20.0
OFFSET = 300.0


@fastpg.inline
def shifted(x):
    return x + SHIFT
"""
NESTED = """
CONSTANT = 4000.0
"""
SOURCES = {"tiny.py": TINY, "tiny_helper.py": HELPER, "tiny_package/nested.py": NESTED}
RETURN = 1.0 + (1.0 + 20.0) + 300.0 + 4000.0 + 100.0

RUN = """
import json, warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np
    import fastpg
    from fastpg.lanes import simulate_chunks
    caught.clear()
    from tiny import Tiny
    env = Tiny()
    policy = fastpg.SoftmaxLinear.for_env(env)
    result = fastpg.evaluate(env, policy, np.arange(4.0), n_trajectories=3)

print(json.dumps({
    "returns": result.returns.tolist(),
    "compiled": sum(simulate_chunks.stats.cache_misses.values()),
    "loaded": sum(simulate_chunks.stats.cache_hits.values()),
    "warnings": [[warning.category.__name__, str(warning.message)] for warning in caught],
}))
"""


def start(directory, script="run.py"):
    """Start a script of `directory` in a new process, with the cache there."""
    return subprocess.Popen(
        [sys.executable, script],
        cwd=directory,
        env={**os.environ, "FASTPG_CACHE_DIR": str(directory / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return json.loads(output)


def run(directory, script="run.py"):
    return finish(start(directory, script))


def entries(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A directory with the sources above and a cache that holds their one kernel."""
    directory = tmp_path_factory.mktemp("compiled")
    (directory / "tiny_package").mkdir()
    (directory / "tiny_package/__init__.py").touch()
    for name, text in {**SOURCES, "run.py": RUN}.items():
        (directory / name).write_text(text)
    first = run(directory)
    assert first == {"returns": [RETURN] * 3, "compiled": 1, "loaded": 0, "warnings": []}
    assert len(entries(directory / "cache")) == 1
    return directory


@pytest.fixture
def project(compiled, tmp_path):
    """A copy of it: the cache knows no paths."""
    return shutil.copytree(compiled, tmp_path / "project")


def edit(directory, name, old, new):
    text = (directory / name).read_text()
    assert text.count(old) == 1
    (directory / name).write_text(text.replace(old, new))


# --- in one process ---


def test_another_value_compiles_nothing(env, policy, theta):
    """Seeds, parameters, θ, sizes, horizons, threads and baselines are run-time arguments."""
    policy_gradient(env, policy, theta, n_trajectories=10)
    evaluate(env, policy, theta, n_trajectories=10)
    before = len(simulate_chunks.overloads), entries(cache_directory())
    other = fastpg.make("CartPole-v1", gravity=3, semi_implicit=True)
    for n in (1, 10, 5_000, 100_000):
        policy_gradient(env, policy, theta, n_trajectories=n)
        evaluate(other, policy, -theta, n_trajectories=n, seed=2**64 - 1)
    for baseline in ("none", "mean", "optimal"):
        policy_gradient(other, policy, theta, REINFORCE(baseline), n_trajectories=np.int64(10), seed=2**63)
    policy_gradient(env, policy, 1 - theta, n_trajectories=10, horizon=1, threads=1, first_trajectory=2**40)
    assert (len(simulate_chunks.overloads), entries(cache_directory())) == before


def test_entries_are_whole(env, policy, theta):
    """No temporary file is left beside them."""
    policy_gradient(env, policy, theta, n_trajectories=2)
    names = entries(cache_directory())
    assert all(name.startswith("simulate_chunks-") and name.endswith(".nbc") for name in names)


# --- from process to process ---


def test_a_second_process_loads(project):
    again = run(project)
    assert again == {"returns": [RETURN] * 3, "compiled": 0, "loaded": 1, "warnings": []}


# What is compiled in: (file, old text, new text, by how much the return changes).
EDITS = {
    "method": ("tiny.py", "reward = 1.0", "reward = 1.5", 0.5),
    "array": ("tiny.py", "[100.0,", "[107.0,", 7.0),
    "global of a helper": ("tiny_helper.py", "SHIFT = 20.0", "SHIFT = 29.0", 9.0),
    "helper": ("tiny_helper.py", "x + SHIFT", "2 * x + SHIFT", 1.0),
    "attribute of a module": ("tiny_helper.py", "OFFSET = 300.0", "OFFSET = 310.0", 10.0),
    "module of a package": ("tiny_package/nested.py", "CONSTANT = 4000.0", "CONSTANT = 4002.0", 2.0),
}
END_TO_END = ("method", "global of a helper")


def test_an_edit_recompiles_and_changes_the_result(compiled, tmp_path):
    """With the cache of the unedited sources; undone, the edit finds the old kernel again."""
    processes = {}
    for edited in END_TO_END:
        directory = shutil.copytree(compiled, tmp_path / edited.replace(" ", "_"))
        edit(directory, *EDITS[edited][:3])
        processes[edited] = start(directory)
    results = {edited: finish(process) for edited, process in processes.items()}
    assert {edited: result["returns"] for edited, result in results.items()} == {
        edited: [RETURN + EDITS[edited][3]] * 3 for edited in END_TO_END
    }
    assert all((result["compiled"], result["loaded"]) == (1, 0) for result in results.values())
    name, old, new, _ = EDITS["method"]
    edit(tmp_path / "method", name, new, old)
    assert run(tmp_path / "method") == {"returns": [RETURN] * 3, "compiled": 0, "loaded": 1, "warnings": []}


def fingerprint_of_tiny(directory, monkeypatch):
    """The fingerprint under which a kernel of the environment of `directory` would be kept."""
    modules = ("tiny", "tiny_helper", "tiny_package", "tiny_package.nested")
    with monkeypatch.context() as context:
        context.syspath_prepend(str(directory))
        context.setattr(sys, "dont_write_bytecode", True)  # files of one second and size look alike to it
        for module in modules:
            context.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        env = importlib.import_module("tiny").Tiny()
        for module in modules:
            del sys.modules[module]
    return fingerprint(simulate_chunks.py_func, (numba.typeof(env), numba.int64), ("target",))


@pytest.fixture
def sources(compiled, tmp_path):
    """A copy of the sources alone, without what Python compiled of them."""
    ignored = shutil.ignore_patterns("__pycache__", "cache")
    return shutil.copytree(compiled, tmp_path / "sources", ignore=ignored)


@pytest.mark.parametrize("edited", EDITS)
def test_an_edit_changes_the_fingerprint(edited, sources, monkeypatch):
    before = fingerprint_of_tiny(sources, monkeypatch)
    assert fingerprint_of_tiny(sources, monkeypatch) == before
    edit(sources, *EDITS[edited][:3])
    assert fingerprint_of_tiny(sources, monkeypatch) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("tiny.py", "    def step", "    # A comment.\n\n    def step"),
        ("tiny_helper.py", "    return x", "    # Another, which moves lines.\n    return x"),
        ("tiny_helper.py", "SHIFT = 20.0", "SHIFT = 20.0\nUNUSED = 1.0"),
        ("tiny.py", "horizon = 1\n", "horizon = int('1')  # the same\n"),
    ],
    ids=["comment", "comment in a helper", "unused global", "same value"],
)
def test_an_edit_that_changes_no_code_does_not_change_the_fingerprint(name, old, new, sources, monkeypatch):
    before = fingerprint_of_tiny(sources, monkeypatch)
    edit(sources, name, old, new)
    assert fingerprint_of_tiny(sources, monkeypatch) == before


def test_an_edit_of_comments_loads(project):
    edit(project, "tiny.py", "    def step", "    # A comment.\n\n    def step")
    edit(project, "tiny_helper.py", "    return x", "    # Another.\n    return x")
    assert run(project) == {"returns": [RETURN] * 3, "compiled": 0, "loaded": 1, "warnings": []}


def test_the_fingerprint_knows_function_signature_and_target():
    def another(env):
        return env

    types = (numba.float64,)
    fingerprints = {
        fingerprint(simulate_chunks.py_func, types, ("target",)),
        fingerprint(simulate_chunks.py_func, (numba.int64,), ("target",)),
        fingerprint(simulate_chunks.py_func, types, ("other",)),
        fingerprint(another, types, ("target",)),
    }
    assert len(fingerprints) == 4


def test_an_environment_in_main_is_cached_like_any_other(project):
    """Two runs of a script share its kernel; an edited one does not get the old result."""
    script = TINY + RUN.replace("    from tiny import Tiny\n", "")
    (project / "main.py").write_text(script)
    runs = [run(project, "main.py") for _ in range(2)]
    assert [result["returns"] for result in runs] == [[RETURN] * 3] * 2
    assert [result["compiled"] for result in runs] == [1, 0]
    (project / "main.py").write_text(script.replace("reward = 1.0", "reward = 2.0"))
    edited = run(project, "main.py")
    assert (edited["returns"], edited["compiled"]) == ([RETURN + 1.0] * 3, 1)


# --- one small kernel, of which every new dispatcher stands for a new process ---


class Scale(NamedTuple):
    value: float


def scaled(scale, x):
    for i in range(len(x)):
        x[i] = scale.value * x[i]


def use(scale=None):
    """Compile or load the kernel, check what it does, and return (compiled, loaded)."""
    kernel = dispatch.kernel(scaled)
    x = np.arange(5.0)
    with warnings.catch_warnings():
        # There is no parallel loop in it, which Numba remarks upon.
        warnings.simplefilter("ignore", numba.core.errors.NumbaPerformanceWarning)
        kernel(Scale(3.0) if scale is None else scale, x)
    np.testing.assert_array_equal(x, 3.0 * np.arange(5.0))
    return sum(kernel.stats.cache_misses.values()), sum(kernel.stats.cache_hits.values())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(KernelCache, "_warned", False)
    return tmp_path / "cache"


def test_the_directory_is_made_when_it_is_needed(cache):
    assert not cache.exists()
    assert use() == (1, 0)
    assert len(entries(cache)) == 1
    assert use() == (0, 1)


RACE = """
from test_cache import use

print(*use())
"""


def test_ten_processes_may_start_at_once(cache):
    """On an empty cache, into which all of them compile and write the same entry; `use` checks the result."""
    command = [sys.executable, "-W", "error", "-c", RACE]
    here = os.path.dirname(__file__)
    processes = [
        subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(10)
    ]
    for process in processes:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert output.split() in (["1", "0"], ["0", "1"])
    assert len(entries(cache)) == 1
    assert use() == (0, 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"short",
        lambda data: bytes(1_000),
        lambda data: data[:-100] + bytes(byte ^ 1 for byte in data[-100:]),
        lambda data: data + b"more",
    ],
    ids=["truncated", "empty", "shorter than its checksum", "garbage", "bits flipped", "longer"],
)
def test_a_damaged_entry_heals(cache, damage):
    """It is compiled anew, silently, and replaced by a right one."""
    assert use() == (1, 0)
    (entry,) = cache.iterdir()
    damaged = damage(entry.read_bytes())
    entry.write_bytes(damaged)
    assert use() == (1, 0)
    assert entry.read_bytes() != damaged
    assert use() == (0, 1)
    assert entries(cache) == [entry.name]


def test_a_directory_that_cannot_be_written_is_warned_of_once(cache, tmp_path, monkeypatch):
    """Below a regular file, where root cannot write either. Every process compiles, and works."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTPG_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.warns(
        RuntimeWarning, match=r"cannot keep compiled kernels in .*file.cache.*FASTPG_CACHE_DIR"
    ):
        assert use() == (1, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert use() == (1, 0)


def test_a_class_made_in_a_function_is_not_cached(cache):
    """No other process could name it."""

    class Local(NamedTuple):
        value: float

    assert use(Local(3.0)) == (1, 0)
    assert not cache.exists()
    assert use(Local(3.0)) == (1, 0)
