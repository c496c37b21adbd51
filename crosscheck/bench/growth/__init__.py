"""How time and memory grow with the length: `python -m crosscheck.bench.growth`."""
