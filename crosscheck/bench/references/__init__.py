"""The time that the references take: `python -m crosscheck.bench.references`."""
