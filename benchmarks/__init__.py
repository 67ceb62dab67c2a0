"""Benchmarks beside real peers: ``python -m benchmarks NAME``."""
