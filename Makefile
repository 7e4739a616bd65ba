# make demo: install, then run everything on a simulated cohort.
# make test: install, then every check that CI makes.
# make bench: install, then measure ratios against peers and limits.
# make gpu: install, then measure and check on a GPU, in at most eight minutes.
# make torture: install, then kill 120 runs at random moments, resume them and compare their files.
# make fuzz: install, then feed ten thousand damaged pictures and a thousand damaged tables; and ten
#   thousand damaged requests, if there is a bundle (BUNDLE=...).
# make docs: install, then build the site into build/site.
# make pictures: take the pictures of kedro viz in docs/, of the finished demo; needs the extra
#   `pictures` and Chromium.
# make serve: install, then serve a bundle (BUNDLE=...) on this machine: a page, and HTTP.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# If a container forbids Python to keep compiled modules, every process compiles torch again, which
# takes several seconds. Empty: keep them.
export PYTHONDONTWRITEBYTECODE :=

# A trained system's folder; the demo's if the demo was bundled.
export BUNDLE ?= data/demo/06_models/bundle
PORT ?= 8000
# What requirements.lock holds beside the project's own needs.
EXTRAS := offline-weights ssl onnx docs notebooks bench dev

.PHONY: install demo test docs pictures bench gpu torture fuzz serve format lock

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: install
	$(BIN)/kedro run --env=demo

# A worker a core, so a thread each is enough; a few tests take two, which must not spin while they
# wait. The longest files, which conftest.py puts first, are begun first.
test: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) docs
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile \
		--no-loadscope-reorder

# Strict: a broken link, or a formula or a docstring that can't be read, fails. The variable silences
# the makers' note on their next product.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: install
	$(BIN)/python docs/pictures.py

bench: install
	$(BIN)/python -m benchmarks

gpu: install
	$(BIN)/python -m benchmarks.gpu

torture: install
	$(BIN)/python tests/torture.py --kills=100
	$(BIN)/python tests/torture.py --kills=20 --params=evaluation.pretraining=each_fold \
		--run=--pipelines=simulate,ingest,ssl_pretrain,embed,evaluate

fuzz: install
	$(BIN)/python tests/fuzz.py --pictures=10000 --tables=1000
	if [ -d "$(BUNDLE)" ]; then $(BIN)/python tests/fuzz_http.py --bundle=$(BUNDLE); \
	else echo "no requests were sent: there is no bundle $(BUNDLE)"; fi

serve: install
	@test -d "$(BUNDLE)" || { echo "There is no bundle $(BUNDLE). Make one: make demo, then \
	$(BIN)/kedro run --env=demo --pipelines=bundle; or name one: make serve BUNDLE=..."; exit 1; }
	$(BIN)/python -m lymphocytosis.serve --bundle=$(BUNDLE) --port=$(PORT)

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Renew the pins, after a change to pyproject.toml's dependencies.
lock: install
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header $(EXTRAS:%=--extra=%) --upgrade pyproject.toml -o requirements.lock
