"""Benchmarks of fastpg: the C yardstick, pytest-benchmark suites, and the run that measures everything."""
