# make demo    set everything up and image a brain slice (figures in results/brain_inside; again: replaces them)
# make test    set everything up and pass the tests: ruff, mypy, pytest on 1, 2, 3, 4 and 8 ranks
# make bench   run tasks beside what users would write instead (PEERS: a python that has scikit-sparse, numba, torch)
# make setup   only set up .venv (PETSc, petsc4py, mpi4py, npde_opt)
# make doctor  say what is installed and what is wrong with it

PYTHON ?= python3
RANKS ?= $(shell cores=$$(nproc); [ $$cores -lt 2 ] && echo $$cores || echo 2)
RUN = scripts/npde-env

.PHONY: all setup demo bench test lint types serial parallel doctor clean

all: setup

setup:
	@$(PYTHON) scripts/bootstrap.py

demo: setup
	$(RUN) mpirun -n $(RANKS) python drivers/identify.py --case meshes/brain_inside.toml \
		--out results/brain_inside --plot --overwrite

bench: setup
	@$(RUN) python benchmarks/bench.py $(if $(PEERS),--peers $(PEERS)) $(if $(TASKS),--tasks $(TASKS))

test: parallel

lint: setup
	@echo "== ruff"
	@$(RUN) ruff check .

types: lint
	@echo "== mypy"
	@$(RUN) mypy

serial: types
	@echo "== pytest, 1 rank"
	@$(RUN) scripts/pytest-ranks 1

parallel: serial
	@for n in 2 3 4; do echo "== pytest, $$n ranks"; $(RUN) scripts/pytest-ranks $$n || exit 1; done
	@echo "== pytest, 8 ranks"; $(RUN) scripts/pytest-ranks 8 tests/pseudoinverse/test_ranks.py tests/runs/test_local.py

doctor: setup
	@$(RUN) python -m npde_opt doctor

clean:
	rm -rf .venv .setup build *.egg-info .pytest_cache .mypy_cache .ruff_cache
