# Commands only; logic belongs in scripts/.
# With CI set, `make test` also runs the slow tests. `make test-all` runs the exhaustive ones too.
.PHONY: help demo quick test test-all faults pictures lint bench bench-quick render-diff

# Tests mostly wait, so use more processes than cores. The exhaustive tests measure times, so they
# run one at a time.
PROCESSES ?= 5

help:
	@echo "make demo      render the project into build/ and run it on port 8000, or PORT=8010"
	@echo "make quick     lint the template and render it: less than a minute"
	@echo "make test      run the template's tests, except the slow ones"
	@echo "make test-all  run all tests"
	@echo "make faults    kill, cut, fill and freeze what a site runs on, and count what became of the jobs"
	@echo "make pictures  retake the screenshots in docs/ after the pages changed"
	@echo "make render-diff BASE=main   show what a change does to a rendered project"
	@echo "make lint      check the template's own Python"
	@echo "make bench     compare the project with other job queues; bench-quick takes 5 minutes"

demo:
	@scripts/demo

quick: lint
	@scripts/uv run pytest -q -n 2 -m "not exhaustive and not slow" tests/test_render.py

test:
	@scripts/uv run pytest -n $(PROCESSES) -m "not exhaustive$(if $(CI),, and not slow)"

test-all:
	@scripts/uv run pytest -n $(PROCESSES) -m "not exhaustive"
	@scripts/uv run pytest -m exhaustive

# Each fault happens TIMES times. The repetitions and the scenarios with fixed times are left out.
TIMES ?= 10
faults:
	@TIMES=$(TIMES) scripts/uv run pytest -n 4 -m "" -k "not now_and_then and not scenario" tests/faults

pictures:
	@PICTURES=1 scripts/uv run pytest -m "pictures and not slow"

BASE ?= HEAD
render-diff:
	@scripts/render-diff $(BASE)

lint:
	@scripts/uv run ruff check
	@scripts/uv run ruff format --check
	@scripts/uv run mypy

bench bench-quick:
	@scripts/uv run python -m bench $(if $(filter %-quick,$@),--quick,&& scripts/uv run python -m bench publish)
