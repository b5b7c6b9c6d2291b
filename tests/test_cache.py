"""The kernel cache: what compiles and what does not, edits, races, damage, and where it cannot write."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
import types
import warnings
from typing import NamedTuple

import numba
import numpy as np
import pytest

import fastpg
from fastpg import REINFORCE, dispatch, evaluate, policy_gradient
from fastpg.cache import KernelCache
from fastpg.fingerprint import UncacheableError, fingerprint
from fastpg.lanes import simulate_chunks

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")

# One step, no sine: the smallest kernel there is. It refers to each kind of thing that gets compiled in.
TINY = """
from typing import NamedTuple

import numpy as np
import gymnasium
import tiny_package.nested
import tiny_helper
from gymnasium.spaces import Box, Discrete
from tiny_aliases import aliased
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
        return state, self.scale * (reward + aliased(state.x)), True

    def keywords(self, x, *, k=1.0):
        return x + k

    def gymnasium_twin(self, render_mode=None):
        return gymnasium.make("CartPole-v1", render_mode=render_mode), Box(0, 1, (1,)), SPACE


SPACE = Discrete(3)
"""
# What a name is bound to, where that is compiled elsewhere or has no code of its own.
ALIASES = """
import math as functions
from enum import Enum
from math import floor as rounded
from typing import NamedTuple

import fastpg
import numpy as np
from fastpg.simd import sin as wave

Real = np.float32


class Colour(Enum):
    RED = 1
    BLUE = 2


class Constants(NamedTuple):
    a: float = 1.0

    def method(self, x):
        return self.a * x


CONSTANTS = Constants()


@fastpg.inline
def first(x):
    return x


@fastpg.inline
def second(x):
    return 2 * x


chosen = first


def adder(n):
    @fastpg.inline
    def added(x):
        return x + n
    return added


one, two = adder(1), adder(2)
either = one


@fastpg.inline
def aliased(x, default=0.0):
    zero = 0.0 * (first(x) + second(x) + chosen(x) + CONSTANTS.method(x))
    zero += 0.0 * (one(x) + two(x) + either(x) + Real(0.1) + rounded(x) + functions.sqrt(x) + default)
    if int(x) in {7, 8} or Colour.RED.value == 3:
        zero += 1.0
    return zero + wave(zero)
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
SOURCES = {
    "tiny.py": TINY,
    "tiny_helper.py": HELPER,
    "tiny_aliases.py": ALIASES,
    "tiny_package/nested.py": NESTED,
}
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
    """The kernels."""
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


def test_another_value_compiles_nothing(env, policy, theta, tmp_path, monkeypatch):
    """Seeds, parameters, θ, sizes, horizons, threads and baselines are run-time arguments."""
    monkeypatch.setattr(dispatch, "_INTERPRETED", -1)  # what is compiled late is compiled now
    policy_gradient(env, policy, theta, n_trajectories=10)
    evaluate(env, policy, theta, n_trajectories=10)
    before = len(simulate_chunks.overloads)
    monkeypatch.setenv(
        "FASTPG_CACHE_DIR", str(tmp_path)
    )  # into the other one, processes beside this one write
    other = fastpg.make("CartPole-v1", gravity=3, semi_implicit=True)
    for n in (1, 10, 5_000, 100_000):
        policy_gradient(env, policy, theta, n_trajectories=n)
        evaluate(other, policy, -theta, n_trajectories=n, seed=2**64 - 1)
    for baseline in ("none", "mean", "optimal"):
        policy_gradient(other, policy, theta, REINFORCE(baseline), n_trajectories=np.int64(10), seed=2**63)
    policy_gradient(env, policy, 1 - theta, n_trajectories=10, horizon=1, threads=1, first_trajectory=2**40)
    assert (len(simulate_chunks.overloads), list(tmp_path.iterdir())) == (before, [])


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
    "function of the engine": ("tiny_aliases.py", "sin as wave", "cos as wave", 1.0),
    "builtin": ("tiny_aliases.py", "floor as rounded", "ceil as rounded", 0.0),
    "module": ("tiny_aliases.py", "import math as functions", "import numpy as functions", 0.0),
    "type": ("tiny_aliases.py", "Real = np.float32", "Real = np.float64", 0.0),
    "function reached anyway": ("tiny_aliases.py", "chosen = first", "chosen = second", 0.0),
    "closure reached anyway": ("tiny_aliases.py", "either = one", "either = two", 0.0),
    "value in a closure": ("tiny_aliases.py", "adder(2)", "adder(3)", 0.0),
    "method of an instance": ("tiny_aliases.py", "self.a * x", "self.a + x", 0.0),
    "field of an instance": ("tiny_aliases.py", "= Constants()\n", "= Constants(2.0)\n", 0.0),
    "default of a field": ("tiny_aliases.py", "a: float = 1.0", "a: float = 2.0", 0.0),
    "member of an enumeration": ("tiny_aliases.py", "RED = 1", "RED = 3", 1.0),
    "set": ("tiny_aliases.py", "{7, 8}", "{7, 9}", 0.0),
    "number's type": ("tiny_aliases.py", "int(x) in {7,", "int(x) in {7.0,", 0.0),
    "default": ("tiny_aliases.py", "default=0.0", "default=1.0", 0.0),
    "keyword default": ("tiny.py", "k=1.0", "k=2.0", 0.0),
    "compilation": ("tiny_helper.py", "@fastpg.inline", "@fastpg.dispatch.exact", 0.0),
}
END_TO_END = ("method", "function of the engine")


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
    modules = ("tiny", "tiny_helper", "tiny_aliases", "tiny_package", "tiny_package.nested")
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
        ("tiny.py", "horizon = 1\n", "horizon = 2\n"),
        ("tiny.py", "SPACE = Discrete(3)", "SPACE = Discrete(4)"),
    ],
    ids=["comment", "comment in a helper", "unused global", "horizon", "space"],
)
def test_an_edit_that_changes_no_code_does_not_change_the_fingerprint(name, old, new, sources, monkeypatch):
    before = fingerprint_of_tiny(sources, monkeypatch)
    edit(sources, name, old, new)
    assert fingerprint_of_tiny(sources, monkeypatch) == before


# What Numba compiles in that has no text to hash: instead of `first`, which `aliased` calls.
UNREADABLE = {
    "vectorize": """
        import numba

        @numba.vectorize
        def first(x):
            return x
        """,
    "overload": """
        from numba.extending import overload

        def first(x):
            return x

        @overload(first)
        def overload_first(x):
            return lambda x: x
        """,
    "register_jitable": """
        from numba.extending import register_jitable

        @register_jitable
        def first(x):
            return x
        """,
    "intrinsic": """
        from numba.extending import intrinsic

        @intrinsic
        def first(typing, x):
            return x(x), lambda context, builder, signature, args: args[0]
        """,
    "type_callable": """
        from numba.extending import type_callable

        def first(x):
            return x

        @type_callable(first)
        def type_first(context):
            return lambda x: x
        """,
    "a cache of its own": """
        import numba

        @numba.njit(cache=True)
        def first(x):
            return x
        """,
    "jitclass": """
        import numba

        @numba.experimental.jitclass([("a", numba.float64)])
        class first:
            def __init__(self, a):
                self.a = a
        """,
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_not_cached(kind, sources, monkeypatch):
    old = "@fastpg.inline\ndef first(x):\n    return x\n"
    edit(sources, "tiny_aliases.py", old, textwrap.dedent(UNREADABLE[kind]))
    with pytest.raises(UncacheableError, match="aliased refers to .*first"):
        fingerprint_of_tiny(sources, monkeypatch)


def test_an_extension_of_numbas_own_types_is_not_cached(tmp_path):
    """No name would tell which code it changes. In a process of its own: it cannot be unloaded."""
    script = """
        import operator
        import numba
        from fastpg.envs.cartpole import CartPole
        from fastpg.fingerprint import UncacheableError, fingerprint
        from numba.extending import overload, overload_attribute

        def refused():
            try:
                fingerprint(refused, (numba.typeof(CartPole()),), ())
            except UncacheableError as error:
                return "extension" in str(error)
            return False

        print([refused()])
        DECORATOR
        def extension(*args):
            return None
        print([refused()])
        """
    for decorator in ("@overload(operator.add)", "@overload_attribute(numba.types.Array, 'first')"):
        (tmp_path / "run.py").write_text(textwrap.dedent(script).replace("DECORATOR", decorator))
        process = start(tmp_path)
        output, errors = process.communicate()
        assert (output.split(), errors) == (["[False]", "[True]"], "")


def test_the_fingerprint_knows_numbas_settings(monkeypatch):
    def now():
        return fingerprint(simulate_chunks.py_func, (numba.float64,), ())

    before = now()
    for name, value in (("BOUNDSCHECK", 1), ("LOOP_VECTORIZE", 0), ("SLP_VECTORIZE", 1)):
        with monkeypatch.context() as context:
            context.setattr(numba.config, name, value)
            assert now() != before
    assert now() == before


def test_an_argument_of_an_unknown_type_is_not_cached():
    with pytest.raises(UncacheableError, match="argument"):
        fingerprint(simulate_chunks.py_func, (numba.typeof(dispatch.inline(lambda x: x)),), ())


def test_an_edit_of_comments_loads(project):
    edit(project, "tiny.py", "    def step", "    # A comment.\n\n    def step")
    edit(project, "tiny_helper.py", "    return x", "    # Another.\n    return x")
    assert run(project) == {"returns": [RETURN] * 3, "compiled": 0, "loaded": 1, "warnings": []}


def test_the_fingerprint_knows_function_signature_and_target():
    def another(env):
        return env

    floats = (numba.float64,)
    fingerprints = {
        fingerprint(simulate_chunks.py_func, floats, ("target",)),
        fingerprint(simulate_chunks.py_func, (numba.int64,), ("target",)),
        fingerprint(simulate_chunks.py_func, floats, ("other",)),
        fingerprint(another, floats, ("target",)),
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
    assert all(path.suffix == ".nbc" for path in cache.iterdir())  # nothing unfinished is left beside it
    shutil.rmtree(cache)
    assert use() == (1, 0)
    assert len(entries(cache)) == 1


ESTIMATE = """
import sys
import fastpg
env = fastpg.make("Bandit-v0")
policy = fastpg.SoftmaxTabular.for_env(env)
estimator = getattr(fastpg, sys.argv[1])()
print(fastpg.policy_gradient(env, policy, policy.initial(), estimator, n_trajectories=9).gradient.tolist())
"""


def test_a_kernel_from_the_cache_starts_the_threads_that_it_needs(tmp_path):
    environment = {**os.environ, "FASTPG_CACHE_DIR": str(tmp_path)}

    def gradient(estimator):
        command = [sys.executable, "-c", ESTIMATE, estimator]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    assert gradient("GPOMDP") == gradient("GPOMDP")
    assert [path.suffix for path in tmp_path.iterdir()] == [".nbc"]  # nothing but one kernel


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
    (entry,) = (cache / name for name in entries(cache))
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


NOTEBOOK = """
from typing import NamedTuple
import fastpg
import numpy as np

SHIFT = 1.0
TABLE = np.array([1.0, 2.0])
RENDERED = 0


@fastpg.inline
def shifted(x):
    return x + SHIFT


@fastpg.inline
def other(x):
    return x - SHIFT


class Shift(NamedTuple):
    value: float = 1.0

    def apply(self, x):
        return self.value * shifted(x) + TABLE[0] + self.unused() * x

    def unused(self):
        return 0.0

    def render(self):
        global RENDERED
        RENDERED += 1
"""


def applied(shift, x):
    for i in range(len(x)):
        x[i] = shift.apply(x[i])


@pytest.fixture
def notebook(cache, monkeypatch):
    """A module in which a kernel of float64 has been compiled, and a function that needs one of float32."""
    module = types.ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", module)
    exec(NOTEBOOK, vars(module))
    run_applied(module, float)
    assert len(entries(cache)) == 1
    return module


def run_applied(module, dtype):
    x = np.zeros(1, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", numba.core.errors.NumbaPerformanceWarning)
        dispatch.kernel(applied)(module.Shift(), x)
    return x[0]


def redefine(module, text):
    exec(text, vars(module))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            "SHIFT = 2.0",
            r"SHIFT changed after notebook\.shifted was compiled.* define notebook\.shifted again",
        ),
        ("TABLE[0] = 7.0", r"TABLE changed after notebook\.Shift\.apply was compiled"),
        ("shifted = other", r"shifted changed after notebook\.Shift\.apply was compiled"),
        ("@fastpg.inline\ndef shifted(x):\n    return x", r"shifted changed after notebook\.Shift\.apply"),
        ("Shift.unused = lambda self: 1.0", r"unused changed after notebook\.Shift was compiled"),
    ],
    ids=["constant", "array", "other helper", "helper again", "method"],
)
def test_a_redefinition_after_compilation_is_refused(notebook, cache, cell, message):
    """Methods compiled before it keep the old value: a kernel of both would be kept under the new name."""
    kept = entries(cache)
    redefine(notebook, cell)
    with pytest.raises(RuntimeError, match=message):
        run_applied(notebook, np.float32)
    assert entries(cache) == kept


def test_a_redefinition_of_all_that_changed_is_welcome(notebook, cache):
    redefine(notebook, NOTEBOOK.replace("SHIFT = 1.0", "SHIFT = 2.0"))
    assert run_applied(notebook, np.float32) == 3.0
    assert run_applied(notebook, float) == 3.0
    assert len(entries(cache)) == 3


def test_what_compiled_code_does_not_use_may_change(notebook, cache):
    """A global that only ordinary Python uses, a new global named like an attribute."""
    notebook.Shift().render()
    redefine(notebook, "value = 3.0\nShift.render = lambda self: None")
    assert run_applied(notebook, np.float32) == 2.0
    assert len(entries(cache)) == 2


def test_a_kernel_that_was_loaded_froze_nothing(notebook, cache):
    """So a redefinition after it is compiled, and kept, as it should be."""
    module = types.ModuleType("notebook")
    sys.modules["notebook"] = module
    exec(NOTEBOOK, vars(module))
    kept = entries(cache)
    assert run_applied(module, float) == 2.0
    assert entries(cache) == kept
    redefine(module, "SHIFT = 2.0")
    assert run_applied(module, float) == 3.0
    assert len(entries(cache)) == 2


def test_a_class_that_its_name_does_not_find_is_not_cached(notebook, cache):
    redefine(notebook, "Old = Shift\nclass Shift(Old):\n    __slots__ = ()")
    assert run_applied(types.SimpleNamespace(Shift=notebook.Old), np.float32) == 2.0
    assert len(entries(cache)) == 1


def test_an_interrupted_write_leaves_nothing(cache, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            use()
    assert entries(cache) == []


def test_cartpole_is_fingerprinted_in_milliseconds(env, policy):
    """It is cacheable, with its Gymnasium spaces and twin; the first calls load parts of Numba."""
    signature = numba.typeof(env), numba.typeof(policy)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        assert len(fingerprint(simulate_chunks.py_func, signature, ())) == 32
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.1


def test_a_warm_call_takes_no_fingerprint(env, policy, theta, monkeypatch):
    evaluate(env, policy, theta, n_trajectories=2)
    monkeypatch.setattr("fastpg.cache.fingerprint", None)
    evaluate(env, policy, theta, n_trajectories=2)


def test_a_class_made_in_a_function_is_not_cached(cache):
    """No other process could name it."""

    class Local(NamedTuple):
        value: float

    assert use(Local(3.0)) == (1, 0)
    assert not cache.exists()
    assert use(Local(3.0)) == (1, 0)


@numba.njit
def with_a_block_of_objects(n):
    total = 0
    for i in range(n):
        with numba.objmode(seen="int64"):
            seen = len(str(i))
        total += seen
    return total


@numba.jit(forceobj=True)
def in_object_mode(n):
    total = 0
    for i in range(n):
        total += i
    return total


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")
def test_users_may_compile_in_object_mode():
    """Although this package listens to what Numba compiles."""
    assert with_a_block_of_objects(12) == 14
    assert in_object_mode(5) == 10
