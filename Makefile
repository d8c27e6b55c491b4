# Verbs only: what needs logic stands in scripts/.
# CI, if set, runs every test; without it those that are marked slow are left out.
.PHONY: help demo test test-all lint

help:
	@echo "make demo      render the project into build/ and run it on http://127.0.0.1:8000"
	@echo "make test      run the template's tests, but for the slow ones"
	@echo "make test-all  run all of them"
	@echo "make lint      check the template's own Python"

demo:
	@scripts/demo

test:
	@scripts/uv run pytest $(if $(CI),,-m "not slow")

test-all:
	@scripts/uv run pytest

lint:
	@scripts/uv run ruff check
	@scripts/uv run ruff format --check
	@scripts/uv run mypy
