# `make serve` and `make test` set up everything they need in virtual environments of their own; the second time they are quick.

SHELL := /bin/sh
MODEL ?= quantized_models/emoji-siglip
SERVE := .venv
TEST := .venv-test
CLIENTS := .venv-clients
BENCH := .venv-bench
SOURCES := pyproject.toml constraints.txt deploy/install.sh

.PHONY: serve test lint types pytest test-clients format export evaluate demo-data demo-model demo-export demo-evaluate bench clean

serve: $(SERVE)/.installed  ## serve the demo model (or MODEL=directory) on http://127.0.0.1:8000
	MODEL=$(MODEL) $(SERVE)/bin/siglip-edge serve

test: lint types pytest  ## everything that has to hold before a commit

lint: $(TEST)/.installed
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .

types: $(TEST)/.installed
	$(TEST)/bin/mypy

pytest: $(TEST)/.installed
	$(TEST)/bin/python -m pytest --ignore tests/clients

format: $(TEST)/.installed
	$(TEST)/bin/ruff check --fix .
	$(TEST)/bin/ruff format .

demo-export: $(TEST)/.installed  ## demo/checkpoint -> quantized_models/emoji-siglip
	$(TEST)/bin/siglip-edge export demo/checkpoint -o quantized_models --name emoji-siglip \
		--zero-shot-template "This is a photo of {}." --overwrite

bench: $(BENCH)/.installed  ## a base-size model of random weights against PyTorch behind FastAPI, side by side
	test -d bench/.checkpoints/base || $(BENCH)/bin/python -m bench.checkpoint bench/.checkpoints/base
	test -d bench/.checkpoints/models/base || $(BENCH)/bin/siglip-edge export bench/.checkpoints/base \
		-o bench/.checkpoints/models --precision int8 --calibration-images ../shared/photos
	$(BENCH)/bin/python -m bench.throughput bench/.checkpoints/models/base --against bench/.checkpoints/base

clean:
	rm -rf $(SERVE) $(TEST) $(CLIENTS) $(BENCH) build *.egg-info

$(SERVE)/.installed: $(SOURCES)
	deploy/install.sh $(SERVE) cpu --editable
	touch $@

$(TEST)/.installed: $(SOURCES)
	deploy/install.sh $(TEST) export,test,dev --editable
	touch $@

$(BENCH)/.installed: $(SOURCES)
	deploy/install.sh $(BENCH) export,bench --editable
	touch $@
