# make demo    the whole story on the sample scan
# make test    lint, types and tests
# make setup   what both need: Debian packages (as root, where apt-get exists), a virtual environment, the package
# make samples writes sample_data/ anew; make bench prints the benchmarks

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo_output

BIN := $(VENV)/bin
STAMP := $(VENV)/set-up
XVFB := xvfb-run -a -s "-screen 0 1600x1000x24"
DEBIAN_PACKAGES := xvfb xauth libgl1 libegl1 libopengl0 libglx-mesa0 libgl1-mesa-dri libxkbcommon-x11-0 libxcb-cursor0 \
  libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 \
  libxcb-xfixes0 libdbus-1-3 libfontconfig1 fonts-dejavu-core

# Threads that wait sleep instead of spinning: on a busy machine that is several times faster.
export OMP_WAIT_POLICY ?= PASSIVE

# A screen of the user's own is used where there is one; tests always run in a virtual one, so that no window pops up.
HAS_SCREEN := $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname -s)))
ON_A_SCREEN := $(if $(shell sh -c "command -v Xvfb"),$(XVFB))

.PHONY: setup test lint demo samples bench clean system-packages

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory system-packages
	@echo "Setting up $(VENV): some minutes, about 3 GB"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[pyqt6]" --group dev
	@touch $@

# Installs what is missing as root; says what is missing otherwise. Other systems bring their own Qt and OpenGL libraries.
system-packages:
	@if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then \
	  missing=""; \
	  for package in $(DEBIAN_PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q "ok installed" || missing="$$missing $$package"; \
	  done; \
	  $(PYTHON) -c "import ensurepip, venv" 2>/dev/null || missing="$$missing python3-venv"; \
	  if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ]; then \
	    echo "Installing$$missing"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	  elif [ -n "$$missing" ]; then \
	    echo "Missing packages, please install: sudo apt-get install$$missing"; \
	  fi; \
	fi

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: lint
	$(MAKE) --no-print-directory run-tests

# Two runs at a time, which two cores do in little more than half the time: windows have one screen, and a focus, to
# themselves. In a make of its own: set-up may just have installed Xvfb.
WITH_WINDOWS := tests/demo tests/session tests/widgets tests/workflows $(wildcard tests/test_*.py)

.PHONY: run-tests
run-tests:
ifdef PYTEST_ARGUMENTS
	$(ON_A_SCREEN) $(BIN)/python -m pytest $(PYTEST_ARGUMENTS)
else
	@report=$$(mktemp); \
	nice -n 10 $(BIN)/python -m pytest tests $(WITH_WINDOWS:%=--ignore=%) -o cache_dir=.pytest_cache/others \
	  >"$$report" 2>&1 & others=$$!; \
	trap 'kill $$others 2>/dev/null; cat "$$report"; rm -f "$$report"; exit 130' INT TERM; \
	$(ON_A_SCREEN) $(BIN)/python -m pytest $(WITH_WINDOWS); failed=$$?; \
	wait $$others || failed=$$?; \
	cat "$$report"; rm -f "$$report"; exit $$failed
endif

demo: setup
	@$(MAKE) --no-print-directory run-demo

.PHONY: run-demo
run-demo:
ifneq ($(HAS_SCREEN),)
	$(BIN)/napari-medseg demo
else
	$(ON_A_SCREEN) $(BIN)/napari-medseg demo --headless --out $(OUT)
	@echo "The mask and the pictures are in $(abspath $(OUT))"
endif

samples: setup
	$(BIN)/python -m napari_medseg.imaging.phantom sample_data

bench: setup
	@for script in tests/benchmarks/*.py; do \
	  echo "== $$script"; $(ON_A_SCREEN) $(BIN)/python $$script || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
