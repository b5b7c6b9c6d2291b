"""What the suites keep: ``pytest bench/ --benchmark-only --benchmark-json bench/results/suites.json``."""

from bench.measuring import conditions


def pytest_benchmark_update_machine_info(config, machine_info):
    """Note processor, versions, date and commit as the other benchmarks do."""
    machine_info.clear()
    machine_info.update(conditions())


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Keep a digest of each benchmark, for some have thousands of rounds."""
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)
