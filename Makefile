# The two commands of a fresh machine are `make demo` and `make test`; each sets up and builds what it needs.
# A libtorch of your own: make setup LIBTORCH=/path/to/libtorch. One with CUDA: make setup CUDA=1.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
PYTHON ?= python3
EMOTION ?= excitement
EMOTIONS := amusement anger awe contentment disgust excitement fear sadness
BIN := target/release
VENV := .venv/peers
BENCH_VENV := .venv/bench
MANIFESTS_VENV := .venv/manifests
API_VENV := .venv/schemathesis
NPROC ?= 2
# libtorch's threads share the cores among the processes; on a busy machine two of one thread beat one of two.
TRAIN = $(BIN)/trainer --nproc-per-node $(NPROC)
EVALUATE = $(BIN)/evaluator --nproc-per-node $(NPROC)

ifdef LIBTORCH
SETUP_FLAGS := --use $(LIBTORCH)
unexport LIBTORCH
else ifdef CUDA
SETUP_FLAGS := --cuda
endif

.PHONY: help setup build data demo compare emotions nightly test test-peers chaos fuzz bench bench-gpu ablation lint package clean-runs

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## libtorch into .libtorch/ (CPU; CUDA=1 or LIBTORCH=DIR for others)
	@$(PYTHON) scripts/setup_libtorch.py $(SETUP_FLAGS)

build: setup ## every binary, optimised
	@$(CARGO) build --release --workspace --locked

data: build ## the embedded images as shards; a second run encodes only what changed
	$(BIN)/dataloader shard --config configs/data/pocket.yaml

demo: data ## train one emotion with two processes, edit people it never saw, report
	$(TRAIN) --config configs/pocket/$(EMOTION).yaml
	$(EVALUATE) --config configs/pocket/evaluate.yaml --set 'emotion=$(EMOTION)'
	@echo "the pictures: reports/pocket/*/index.html    the run: runs/pocket/$(EMOTION)    watch: tensorboard --logdir runs"

# Asyrp learns from CLIP alone.
CLIP_ALONE := --set loss.clip=1 --set loss.reconstruction=0.6 --set loss.delta_denoising=0

# An emotion jointly, by textual inversion alone and by Asyrp alone; what is trained already is left as it is.
TRAIN_WITH_HALVES = for emotion in $(1); do \
	$(TRAIN) --config configs/pocket/$$emotion.yaml; \
	$(TRAIN) --config configs/pocket/$$emotion.yaml --set delta=off --set output_dir=runs/pocket/$$emotion-textual-inversion; \
	$(TRAIN) --config configs/pocket/$$emotion.yaml --set tokens=off $(CLIP_ALONE) --set output_dir=runs/pocket/$$emotion-asyrp; done

compare: data ## the same emotion by textual inversion alone, by Asyrp alone, and jointly
	$(call TRAIN_WITH_HALVES,$(EMOTION))
	$(EVALUATE) --config configs/pocket/compare.yaml --set 'emotion=$(EMOTION)'

emotions: data ## all eight emotions, one run each, in one table
	for emotion in $(EMOTIONS); do $(TRAIN) --config configs/pocket/$$emotion.yaml; done
	$(EVALUATE) --config configs/pocket/emotions.yaml

nightly: data ## every method and control on eight emotions, the 24 runs first
	$(call TRAIN_WITH_HALVES,$(EMOTIONS))
	$(EVALUATE) --config configs/nightly.yaml

test: build ## every test that needs no network
	OMP_NUM_THREADS=1 $(CARGO) test --release --workspace --locked

$(VENV)/ready: tests/peers/requirements.txt
$(BENCH_VENV)/ready: tests/benches/requirements-data.txt
$(MANIFESTS_VENV)/ready: tests/peers/requirements-manifests.txt
$(API_VENV)/ready: tests/peers/requirements-schemathesis.txt
%/ready:
	$(PYTHON) -m venv $*
	$*/bin/pip install -q --disable-pip-version-check -r $<
	touch $@

test-peers: data $(VENV)/ready $(MANIFESTS_VENV)/ready $(API_VENV)/ready ## checks against TensorBoard, Chromium, diffusers, pyarrow, duckdb, datasets, torchrun, S3
	$(MANIFESTS_VENV)/bin/python tests/peers/manifests.py
	$(VENV)/bin/python tests/peers/run.py

chaos: build ## the long drills: 200 kills of a 2-rank training and of `dataloader shard`, a full disk, a large photo, 200 photos
	CHAOS_KILLS=200 OMP_NUM_THREADS=1 $(CARGO) test --release --workspace --locked --test suite -- --nocapture --include-ignored kills tmpfs large_photo two_hundred_photos

fuzz: build ## ten minutes of random input for each parser
	FUZZ_SECONDS=600 $(CARGO) test --release --workspace --locked --lib --test suite -- --nocapture fuzz

bench: build $(VENV)/ready $(BENCH_VENV)/ready ## timings against PyTorch, diffusers, pyarrow …, both sides in one go
	$(VENV)/bin/python tests/benches/networks.py
	$(VENV)/bin/python tests/benches/step.py
	$(PYTHON) tests/benches/scaling.py
	$(PYTHON) tests/benches/threads.py
	$(PYTHON) tests/benches/emoset.py
	$(VENV)/bin/python tests/benches/evaluator.py
	$(BENCH_VENV)/bin/python tests/benches/data.py

bench-gpu: build data $(VENV)/ready ## NCCL, the demo and SD 1.5's shape on one GPU, ten minutes at most (SHORT=1: in short, on the CPU)
	OMP_NUM_THREADS=1 $(CARGO) test --release --workspace --locked --no-run
	$(VENV)/bin/python tests/benches/gpu.py $(if $(SHORT),--short)

ablation: data ## what each choice of the method is worth, three seeds each: hours; writes docs/ablation.md
	OMP_NUM_THREADS=1 $(PYTHON) scripts/ablation.py

lint: setup ## rustfmt, clippy, rustdoc, cargo deny
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps --locked --quiet
	$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install cargo-deny --locked --quiet
	$(CARGO) deny check licenses bans sources

package: build ## the four binaries in one archive
	tar -czf target/emotion-editor-$$(uname -m).tar.gz -C $(BIN) dataloader trainer evaluator editor

clean-runs: ## removes runs/, reports/ and data/pocket
	rm -rf runs reports data/pocket
