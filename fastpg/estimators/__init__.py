"""Estimators of the policy gradient, one file each, and the call that runs them."""
