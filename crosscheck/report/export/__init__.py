"""What leaves Keras with the same numbers: each public class and some whole models, in every format there is.

`python -m crosscheck.report.export` measures it and writes EXPORT.md; with names it prints their rows.
"""
