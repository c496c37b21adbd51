"""Growth of time and memory with the sequence length: `python -m crosscheck.bench.growth`."""
