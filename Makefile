# Each target works as the first command on a fresh clone: it makes .venv and installs what it needs.
#
#   make demo     twenty simulated nodes learn handwritten digits together
#   make test     the tests
#   make check    lint, format, types, layering
#   make bench    the benchmarks
#   make soak     floods, faults and fuzzed frames, ten minutes each
#   make reproduce  published results, beside gossip: hours
#
# FLAGS adds options to what a target runs: make test FLAGS="-k checkpoint", make demo FLAGS="--out runs/mine".
# PYTHON names another interpreter for a new .venv. pip's own settings (PIP_EXTRA_INDEX_URL, ...) stay in force.

DEMO_FLAGS ?= --nodes 20 --rounds 20 --batch-size 16 --lr 0.05 --momentum 0.9 --seed 1
FLAGS ?=
BIN := .venv/bin

# On all cores, with the tests of one xdist_group on one of them; more workers than eight only take memory.
# FLAGS come last: FLAGS="-n 0" runs the tests one after the other in one process.
PARALLEL := -n auto --maxprocesses 8 --dist loadgroup

# The first Python that is new enough and can make a virtual environment; a version manager's shim that only
# complains counts as missing.
CANDIDATES := python3.13 python3.12 python3.11 python3
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(CANDIDATES); do $$p -c '$(USABLE)' >/dev/null 2>&1 && { echo $$p; break; }; done)

.PHONY: demo test check bench soak reproduce clean
.DELETE_ON_ERROR:

demo: .venv/sim.stamp
	$(BIN)/p2pfl sim run $(DEMO_FLAGS) $(FLAGS)

test: .venv/dev.stamp
	$(BIN)/pytest $(PARALLEL) $(FLAGS)

check: .venv/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev.stamp
	$(BIN)/python -m benchmarks $(FLAGS)

reproduce: .venv/dev.stamp
	$(BIN)/p2pfl sim reproduce all $(FLAGS)

soak: .venv/dev.stamp
	$(BIN)/python -m soak $(FLAGS)

clean:
	rm -rf .venv build dist

# One stamp for each set of extras, newer than what it was installed from. dev contains sim, so its stamp makes
# sim's too; a stamp that is there is only renewed.
.venv/sim.stamp: pyproject.toml constraints.txt | .venv/bin/pip
	$(BIN)/pip install -c constraints.txt -e '.[sim]'
	@touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/bin/pip
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	@touch $@ .venv/sim.stamp

# pip comes last when an environment is made: if it is there, the environment is whole.
.venv/bin/pip:
	@test -n '$(PYTHON)' || { echo "p2pfl needs Python 3.11 or newer with venv (Debian, Ubuntu: apt install python3-venv); or give one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
