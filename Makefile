# `make serve` and `make test` set up everything they need in virtual environments of their own; the second time they are quick.

SHELL := /bin/sh
PYTHON ?= python3.11
MODEL ?= quantized_models/emoji-siglip
SERVE := .venv
TEST := .venv-test
CLIENTS := .venv-clients
BENCH := .venv-bench
INFINITY := .venv-infinity
DEMO := .venv-demo
OPENVINO := .venv-openvino
OPENVINO_WHEEL := .venv-openvino-wheel
BASE := bench/.checkpoints
PHOTOS ?= ../shared/photos
# One process per core. A file's tests stay in one process, so that each of its servers starts once.
PYTEST := $(TEST)/bin/python -m pytest --numprocesses logical --dist loadfile --ignore tests/clients --ignore tests/images/downloads
# Some clients leave a connection open when they are done: theirs to close, and no failure of ours.
PYTEST_CLIENTS := SIGLIP_EDGE=$(SERVE)/bin/siglip-edge $(CLIENTS)/bin/python -m pytest -p no:cacheprovider \
	-p no:unraisableexception
SOURCES := pyproject.toml constraints.txt deploy/install.sh
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# FORCE for an environment whose Python is gone or has another version: deploy/install.sh makes it again.
stale = $(shell test ! -e $(1) || { test -x $(1)/bin/python && grep -q '^version\(_info\)\? = $(VERSION)' $(1)/pyvenv.cfg; } || echo FORCE)

.PHONY: FORCE serve test test-fast lint types pytest test-clients test-browser test-openvino test-openvino-wheel test-images test-arm64 openvino-figures format evaluate demo-model demo-export demo-evaluate bench conformance clean

serve: $(SERVE)/.installed  ## serve the demo model (or MODEL=directory) on http://127.0.0.1:8000
	$(SERVE)/bin/siglip-edge serve

test: lint types pytest  ## everything that has to hold before a commit

lint: $(TEST)/.installed
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/hadolint Dockerfile*

types: $(TEST)/.installed
	$(TEST)/bin/mypy

evaluate: $(SERVE)/.installed  ## accuracy, speed and memory of MODEL on the shipped held-out pictures
	$(SERVE)/bin/siglip-edge evaluate $(MODEL) --data demo/heldout --template "{}"

pytest: $(TEST)/.installed
	$(PYTEST)

test-fast: $(TEST)/.installed  ## the tests without those marked slow: about a minute on two cores
	$(PYTEST) -m "not slow"

format: $(TEST)/.installed
	$(TEST)/bin/ruff check --fix .
	$(TEST)/bin/ruff format .

demo-model: $(DEMO)/.installed  ## data, training (about two hours on two cores), held-out sample, calibration set
	$(DEMO)/bin/python -m demo.prepare
	$(DEMO)/bin/python -m demo.train
	$(DEMO)/bin/python -m demo.fixtures

demo-export: $(TEST)/.installed  ## demo/checkpoint -> quantized_models/emoji-siglip
	$(TEST)/bin/siglip-edge export demo/checkpoint -o quantized_models --name emoji-siglip --precision int8,fp16,int4 \
		--zero-shot-template "{}" --overwrite

demo-evaluate: $(DEMO)/.installed  ## the model card's table: the checkpoint, then what is served, in each precision
	test -f demo/.data/pictures.npy || $(DEMO)/bin/python -m demo.prepare
	$(DEMO)/bin/python -m demo.evaluate
	$(DEMO)/bin/python -m demo.evaluate --model quantized_models/emoji-siglip --precision fp16
	$(DEMO)/bin/python -m demo.evaluate --model quantized_models/emoji-siglip --precision int8
	$(DEMO)/bin/python -m demo.evaluate --model quantized_models/emoji-siglip --precision int4

test-clients: $(SERVE)/.installed $(CLIENTS)/.installed  ## other people's clients against a real server
	$(PYTEST_CLIENTS) tests/clients

test-browser: $(SERVE)/.installed $(CLIENTS)/.installed  ## every "try it out" of /docs pressed in Chromium
	$(PYTEST_CLIENTS) tests/clients/test_docs_page.py

OPENVINO_TESTS := tests/providers tests/runtime tests/server tests/cli --ignore tests/runtime/images

test-openvino: $(OPENVINO)/.installed  ## the same artifacts on OpenVINO's plugin; needs an Intel CPU or GPU
	$(OPENVINO)/bin/python -m pytest $(OPENVINO_TESTS)

test-openvino-wheel: $(OPENVINO_WHEEL)/.installed  ## the same on the older wheel onnxruntime-openvino, on any CPU
	$(OPENVINO_WHEEL)/bin/python -m pytest $(OPENVINO_TESTS)

test-images: $(TEST)/.installed  ## every image's wheels, downloaded (3 GB): CUDA's libraries, arm64; the CPU image built and run
	$(TEST)/bin/python -m pytest tests/images/downloads

test-arm64: $(SERVE)/.installed  ## the installed package on emulated arm64 processors; as root, a quarter of an hour the first time
	PYTHON=$(SERVE)/bin/python tests/arm64/run.sh

openvino-figures: $(OPENVINO)/.installed  ## fidelity, time and memory of MODEL on OpenVINO and on the CPU, in turns
	$(OPENVINO)/bin/python -m siglip_edge.bench.providers $(MODEL)

bench: $(BENCH)/.installed $(INFINITY)/.installed  ## every target at real size, beside PyTorch and infinity (PHOTOS=folder)
	test -f $(BASE)/checkpoint/model.safetensors || $(BENCH)/bin/python -m siglip_edge.bench.checkpoint $(BASE)/checkpoint
	test -f $(BASE)/models/base/manifest.json || $(BENCH)/bin/siglip-edge export $(BASE)/checkpoint -o $(BASE)/models --name base \
		--precision int8 --calibration-images $(PHOTOS)
	mkdir -p bench/out
	$(BENCH)/bin/siglip-edge bench $(BASE)/models/base --photos $(PHOTOS) --against $(BASE)/checkpoint \
		--infinity $(INFINITY)/bin/python --json bench/out/bench.json --plot bench/out/bench.svg --markdown

conformance: $(TEST)/.installed  ## the documents of the servers that this one succeeds, replayed on servers of this checkout
	$(TEST)/bin/python -m tests.conformance

clean:
	rm -rf $(SERVE) $(TEST) $(CLIENTS) $(BENCH) $(INFINITY) $(DEMO) $(OPENVINO) $(OPENVINO_WHEEL) .arm64 build *.egg-info

$(SERVE)/.installed: $(SOURCES) $(call stale,$(SERVE))
	deploy/install.sh $(SERVE) cpu --editable
	touch $@

$(TEST)/.installed: $(SOURCES) $(call stale,$(TEST))
	deploy/install.sh $(TEST) export,test,dev --editable
	touch $@

$(BENCH)/.installed: $(SOURCES) $(call stale,$(BENCH))
	deploy/install.sh $(BENCH) export,bench --editable
	touch $@

$(INFINITY)/.installed: bench/infinity-requirements.txt
	$(PYTHON) -m venv $(INFINITY)
	$(INFINITY)/bin/python -m pip install --quiet --disable-pip-version-check -r bench/infinity-requirements.txt
	touch $@

$(DEMO)/.installed: $(SOURCES) $(call stale,$(DEMO))
	deploy/install.sh $(DEMO) export,demo --editable
	touch $@

$(OPENVINO)/.installed: $(SOURCES) $(call stale,$(OPENVINO))
	deploy/install.sh $(OPENVINO) openvino,test --editable
	touch $@

$(OPENVINO_WHEEL)/.installed: $(SOURCES)
	deploy/install.sh $(OPENVINO_WHEEL) test onnxruntime-openvino --editable
	touch $@

$(CLIENTS)/.installed: tests/clients/requirements.txt tests/clients/package-lock.json tests/clients/chromium.sh
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	npm ci --silent --prefix tests/clients
	tests/clients/chromium.sh
	touch $@
