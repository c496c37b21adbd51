"""How long the references take: `python -m crosscheck.bench.references`."""
