# make test        tests and notebooks, as continuous integration runs them
# make reproduce   run the notebooks and compare with the paper (PRESET=full for the long way)
# make portability the tests of numbers, and chapters 3 and 6, under other vector instructions and
#                  numbers of threads (PORTABILITY=--short: some minutes)
# make results     every measured number, table and list in README and docs, from the results
# make site        the documentation, build/site/index.html, with the chapters' outputs; npm brings MathJax
#                  (SITE_ITEMS=: the paper's items run, too)
# make slides      the chapters as slides, build/slides, with all that they load; npm brings it
# make test-site   look at it in Chromium, and at the live parts in JupyterLab
# make lint        code style
# The first call creates .venv and installs the package; later ones start at once.

# The package runs on Python 3.10; its tests need 3.11.
PYTHON ?= python3
VENV ?= .venv
# The version that the shipped results were made with. Without a GPU, spare the CUDA libraries:
#   make test TORCH="torch==2.13.0 --index-url URL"   with the URL of the CPU builds on PyTorch's install page
TORCH ?= torch==2.13.0
PRESET ?= quick
# Notebooks, or files of tests, at a time.
JOBS ?= 2
# Options of tools/portability.py.
PORTABILITY ?=
# What runs for the site. Of an item of the paper that does not, the site shows what figures/ holds.
SITE_ITEMS ?= morphable_model synthetic_data coarsenet differentiable_rendering lighting_and_albedo finenet \
	end_to_end frgc_evaluation

BIN := $(VENV)/bin
# Processes of one thread finish sooner than one process of many.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
NOTEBOOKS = $(sort $(wildcard notebooks/*.ipynb))

.PHONY: test reproduce results portability site slides test-site lint clean

test: $(VENV)/.installed-dev
	$(TESTS)
	$(if $(NOTEBOOKS),$(TESTS) --nbmake --nbmake-timeout=900 $(NOTEBOOKS))

reproduce: $(VENV)/.installed-notebooks
	$(BIN)/facerecon reproduce --preset $(PRESET) --jobs $(JOBS)

results: $(VENV)/.installed-dev
	$(BIN)/python tools/results.py

portability: $(VENV)/.installed-dev
	$(BIN)/python tools/portability.py $(PORTABILITY)

site: $(VENV)/.installed-docs runs/site/check_setup/notebook.ipynb runs/site/mathjax-3.2.2/tex-svg-full.js
	$(BIN)/facerecon reproduce --jobs $(JOBS) --out runs/site $(SITE_ITEMS)
	$(BIN)/sphinx-build -W --keep-going -c docs -d build/doctrees . build/site

# Chapter 0 measures this machine and reproduces nothing, so `facerecon reproduce` does not know it.
runs/site/check_setup/notebook.ipynb: notebooks/00_check_setup.ipynb $(shell find src -name '*.py')
	mkdir -p $(@D)
	$(BIN)/papermill $< $@ -p output_dir $(@D)

runs/site/mathjax-3.2.2/tex-svg-full.js:
	mkdir -p $(@D)
	cd $(@D) && tar xzf "$$(npm pack --silent mathjax@3.2.2)" --strip-components=2 package/es5/tex-svg-full.js

# The runs are the site's. What a browser loads lies beside the slides: they work without a network.
slides: $(VENV)/.installed-docs runs/site/check_setup/notebook.ipynb build/slides/node_modules/reveal.js
	$(BIN)/facerecon reproduce --jobs $(JOBS) --out runs/site $(SITE_ITEMS)
	$(BIN)/python tools/make_slides.py runs/site/check_setup/notebook.ipynb \
		$(SITE_ITEMS:%=runs/site/%/notebook.ipynb) --out build/slides \
		--libraries build/slides/node_modules

build/slides/node_modules/reveal.js:
	mkdir -p build/slides
	npm install --silent --no-audit --no-fund --no-save --prefix build/slides \
		reveal.js@4.6.1 requirejs@2.3.7 jquery@3.7.1 mathjax@2.7.9

test-site: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/site

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache

# A stamp is older than pyproject.toml exactly when the dependencies may have changed.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install --editable ".[$*]"
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
