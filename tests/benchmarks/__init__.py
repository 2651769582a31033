"""The benchmark, `python -m tests.benchmarks`: every way to rerank the same candidates, side by side."""
