"""The course as a website, built from the repository alone: `make site`, or `python -m course.web`."""
