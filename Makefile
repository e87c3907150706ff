# The commands of the README, and the ones that developers use.
VENV ?= .venv
PYTHON = $(VENV)/bin/python
export OMP_NUM_THREADS ?= 1

.PHONY: install test sanitize lint format quickstart

install:
	VENV=$(VENV) ./quickstart.sh --install-only

# MMDetection's released configs serve as test data; tests that read them skip where they cannot be had.
.wheels:
	mkdir -p .wheels.part
	$(PYTHON) -m pip download --quiet --no-deps --dest .wheels.part mmdet==3.3.0 || true
	$(PYTHON) -m pip download --quiet --no-deps --dest .wheels.part mmdet==2.28.2 || true
	mv .wheels.part .wheels

test: install
	$(MAKE) .wheels
	$(PYTHON) -m pip install --quiet cmake
	$(PYTHON) -m pip install --quiet tensorrt-rtx || true
	$(PYTHON) -m pytest -n 2 --dist worksteal
	$(VENV)/bin/cmake -S . -B build/ctest -G Ninja -DCMAKE_BUILD_TYPE=Release -DFASTDET_CUDA=OFF \
		-DCMAKE_MAKE_PROGRAM=$(abspath $(VENV))/bin/ninja
	$(VENV)/bin/cmake --build build/ctest
	$(VENV)/bin/ctest --test-dir build/ctest --output-on-failure

# The kernels' own tests under the address, leak and undefined-behaviour sanitizers.
sanitize:
	cmake -S . -B build/sanitize -DFASTDET_SANITIZE=ON -DFASTDET_CUDA=OFF
	cmake --build build/sanitize
	ctest --test-dir build/sanitize --output-on-failure

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

quickstart:
	VENV=$(VENV) ./quickstart.sh
