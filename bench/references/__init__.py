"""The same gradient by other means, each as a reader would write it; none imports anything of fastpg.

All estimate ∇J(θ) = E[(Σ_t ∇ log π_θ(a_t|s_t)) R(τ)] of CartPole-v1 and a softmax policy without a
baseline, from θ in fastpg's layout. `bench/test_references.py` checks that each does, before anyone times
it.
"""
