"""Environments: dynamics only, one file each."""
