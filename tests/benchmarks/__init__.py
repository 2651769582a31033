"""The benchmark: `python -m tests.benchmarks`. Every way to rerank the same candidates, side by side, in one process."""
