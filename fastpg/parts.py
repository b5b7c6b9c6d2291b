"""Functions that only compiled code calls, compiled only as far as their callers need it.

Numba gives every function machine code of its own. Of one that is inlined into callers and optimised again
there, nobody ever runs that: here it is left out, together with all but the cheap part of its optimisation,
which was measured to be a sixth of the time that a kernel takes to compile. What the kernel runs is the same.

One that is not inlined is optimised in full by itself, before the kernel as a whole is: some loops over lanes
vectorise in the second round only (those with a `fastpg.lane_calls`). It has no machine code of its own
either, or the kernel would run that, of the first round, in the process that compiled it: both have one name.
"""

from numba import types
from numba.core import event
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import InlineOverloads, NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes, InlineInlinables, WithLifting

_UNUSED = (WithLifting, InlineClosureLikes, InlineInlinables, InlineOverloads)


def _passes(state):
    """Return Numba's passes; for functions of fastpg itself without those that would find nothing to do."""
    manager = DefaultPassBuilder.define_nopython_pipeline(state)
    if (state.func_id.func.__module__ or "").startswith("fastpg."):
        rest = [(kind, name) for kind, name in manager.passes if kind not in _UNUSED]
        manager.passes = [(_Rewrites if kind is NopythonRewrites else kind, name) for kind, name in rest]
        manager.finalize()
    return manager


@register_pass(mutates_CFG=True, analysis_only=False)
class _Rewrites(NopythonRewrites):
    """Rewrites expressions of arrays, where there are arrays."""

    _name = "fastpg_rewrites"

    def run_pass(self, state):
        arrays = any(isinstance(kind, types.Array) for kind in state.typemap.values())
        return super().run_pass(state) if arrays else False


class PartCompiler(CompilerBase):
    """Numba's compiler, up to LLVM's representation of a function."""

    def define_pipelines(self):
        """Return Numba's own passes; what they write into is a `_Part`."""
        state = self.state
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)
        return [_passes(state)]


class OutlineCompiler(PartCompiler):
    """The same for a function that is not inlined."""

    def define_pipelines(self):
        """Return Numba's own passes; what they write into is an `_Outline`."""
        state = self.state
        state.library = _Outline(state.targetctx.codegen(), state.func_id.func_qualname)
        return [_passes(state)]


class _Part(JITCodeLibrary):
    """Code to be linked into other libraries, which never enters the execution engine."""

    def _optimize_final_module(self):
        cheap, builder = self._codegen._module_pass_manager(
            loop_vectorize=False, slp_vectorize=False, opt=self._codegen._opt_level, cost="cheap"
        )
        cheap.run(self._final_module, builder)

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name):
        """Return 0: there is no machine code."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self):
        """What Numba asks to set the environment of the function, for which a part has no place yet."""
        return self

    def set_env(self, name, environment):
        """Note an environment for later."""
        _environments[name] = environment


class _Outline(_Part):
    """The same, optimised in full."""

    def _optimize_final_module(self):
        JITCodeLibrary._optimize_final_module(self)


_environments: dict = {}


class _Environments(event.Listener):
    """Gives the parts of what was just compiled their environments, for exceptions with numbers in them."""

    def on_start(self, event):
        """Nothing to do."""

    def on_end(self, event):
        """Set those of all parts that have become machine code, of a kernel or of a user's own function."""
        dispatcher = event.data["dispatcher"]
        compiler = getattr(dispatcher, "_compiler", None)  # a loop or a block in object mode has none
        if compiler is None or issubclass(compiler.pipeline_class, PartCompiler):
            return
        codegen = dispatcher.targetctx.codegen()
        for name, environment in _environments.items():
            if codegen._engine.get_global_value_address(name):
                codegen.set_env(name, environment)


event.register("numba:compile", _Environments())
