# make demo          the whole experiment on the built-in tiny model
# make test          everything that CI runs
# make test-newest   the same tests with the newest versions that pyproject.toml allows
# make lock          these newest versions from now on for demo and test: writes .ci/constraints.txt and .ci/lowest.txt
# make docs          the pages that are made from the program
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := .ci/constraints.txt

# Lowest transformers that pyproject.toml allows: an environment of its own for what it needs in other versions.
LOWEST := transformers==5.17.0
LOWEST_VENV := $(VENV)/lowest
LOWEST_LIST := .ci/lowest.txt
LOWEST_SHARED := tests/train/test_sharded.py::test_shares_of_other_families_write_the_bytes_of_one_process_or_are_refused
LOWEST_TESTS := tests/experts tests/model $(LOWEST_SHARED)

NEWEST_VENV := .venv-newest
LOCK_VENV := build/lock

INSTALL := -m pip install --quiet --disable-pip-version-check
VERSIONS := -m pip list --disable-pip-version-check --format=freeze --exclude-editable --exclude pip
# $(1) becomes an environment that has what is installed in $(2) too, behind its own.
define layer
	$(2)/bin/python -m venv --without-pip $(1)
	below=$$($(2)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	  echo "import site; site.addsitedir('$$below')" > "$$(echo $(1)/lib/python*/site-packages)/below.pth"
endef

.PHONY: demo test test-lowest test-newest lint types contracts docs lock clean

demo: $(VENV)/.installed
	$(BIN)/moe demo

test: $(VENV)/.testable lint types contracts
	$(BIN)/python -m pytest -n 2 --dist loadgroup
	$(MAKE) test-lowest

test-lowest: $(LOWEST_VENV)/.testable
	$(LOWEST_VENV)/bin/python -m pytest -n 2 --dist loadgroup $(LOWEST_TESTS)

test-newest: | $(NEWEST_VENV)/bin/python
	$(NEWEST_VENV)/bin/python $(INSTALL) --upgrade --upgrade-strategy eager -e '.[test]'
	$(NEWEST_VENV)/bin/python -m pytest -n 2 --dist loadgroup

lint: $(VENV)/.testable
	$(BIN)/ruff check moe_cli tests
	$(BIN)/ruff format --check moe_cli tests

types: $(VENV)/.testable
	$(BIN)/mypy

contracts: $(VENV)/.testable
	$(BIN)/lint-imports

docs: $(VENV)/.testable
	$(BIN)/python -m tests.studies.reference docs
	$(BIN)/python -m tests.experts.families_page

lock:
	rm -rf $(LOCK_VENV)
	$(PYTHON) -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python $(INSTALL) 'setuptools>=77' -e '.[bench,capability,ray,test]'
	$(LOCK_VENV)/bin/python $(VERSIONS) > $(LOCK_VENV)/versions
	(echo '# Made by `make lock`: what `make demo` and `make test` install.'; sed 's/+.*//' $(LOCK_VENV)/versions) > $(CONSTRAINTS)
	$(call layer,$(LOCK_VENV)/lowest,$(LOCK_VENV))
	$(LOCK_VENV)/lowest/bin/python $(INSTALL) $(LOWEST)
	$(LOCK_VENV)/lowest/bin/python $(VERSIONS) --exclude setuptools --path $(LOCK_VENV)/lowest/lib/python*/site-packages > $(LOCK_VENV)/versions
	(echo '# Made by `make lock`: what $(LOWEST) needs in other versions.'; sed 's/+.*//' $(LOCK_VENV)/versions) > $(LOWEST_LIST)
	rm -r $(LOCK_VENV)

clean:
	rm -rf $(VENV) $(NEWEST_VENV) build *.egg-info

%/bin/python:
	$(PYTHON) -m venv $*

# With --no-build-isolation the build backend is of the constraints too.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(BIN)/python $(INSTALL) -c $(CONSTRAINTS) setuptools
	$(BIN)/python $(INSTALL) -c $(CONSTRAINTS) --no-build-isolation -e .
	touch $@

$(VENV)/.testable: $(VENV)/.installed
	$(BIN)/python $(INSTALL) -c $(CONSTRAINTS) --no-build-isolation -e '.[test]'
	touch $@

$(LOWEST_VENV)/.testable: $(VENV)/.testable $(LOWEST_LIST)
	rm -rf $(LOWEST_VENV)
	$(call layer,$(LOWEST_VENV),$(VENV))
	$(LOWEST_VENV)/bin/python $(INSTALL) --no-deps -r $(LOWEST_LIST)
	$(LOWEST_VENV)/bin/python -m pip check --disable-pip-version-check
	touch $@
