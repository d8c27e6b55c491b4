# Verbs only: what needs logic stands in scripts/.
# CI, if set, runs the tests that are marked slow as well; test-all the exhaustive ones too.
.PHONY: help demo quick test test-all pictures lint bench bench-quick

# Tests wait more than they work, so there are more processes than cores; those of test-all
# measure times, one after the other.
PROCESSES ?= 5

help:
	@echo "make demo      render the project into build/ and run it on port 8000, or PORT=8010"
	@echo "make quick     lint the template and render it: less than a minute"
	@echo "make test      run the template's tests, but for the slow ones"
	@echo "make test-all  run all of them"
	@echo "make pictures  take the pictures in docs/ anew, when pages look different"
	@echo "make lint      check the template's own Python"
	@echo "make bench     measure the project beside other job queues; bench-quick in 5 minutes"

demo:
	@scripts/demo

quick: lint
	@scripts/uv run pytest -q -n 2 -m "not exhaustive and not slow" tests/test_render.py

test:
	@scripts/uv run pytest -n $(PROCESSES) -m "not exhaustive$(if $(CI),, and not slow)"

test-all:
	@scripts/uv run pytest -n $(PROCESSES) -m "not exhaustive"
	@scripts/uv run pytest -m exhaustive

pictures:
	@PICTURES=1 scripts/uv run pytest -m "pictures and not slow"

lint:
	@scripts/uv run ruff check
	@scripts/uv run ruff format --check
	@scripts/uv run mypy

bench bench-quick:
	@scripts/uv run python -m bench $(if $(filter %-quick,$@),--quick,&& scripts/uv run python -m bench publish)
