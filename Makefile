# Every target says in one line what it runs. Plain `make` lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help up down status clean test e2e molecule images lint bench build docs lock
SHELL := /bin/sh
BIN := .venv/bin
PLAY := $(BIN)/ansible-playbook
# A file's tests share what is slow to make.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

# Ansible refuses to start where the locale is not UTF-8, as on a machine that never chose one.
ifneq ($(shell locale charmap 2>/dev/null),UTF-8)
export LC_ALL := C.UTF-8
endif
# Tests start Python thousands of times: modules that are compiled anew each time are a fifth of it.
unexport PYTHONDONTWRITEBYTECODE
# Ansible ignores an ansible.cfg in a directory that others may write to, unless told that it is meant.
export ANSIBLE_CONFIG := ansible.cfg

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

up: .venv/.control | inventory/current ## provision the nodes of inventory/local and show them: ansible-playbook site.yml
	@$(PLAY) site.yml $(ARGS)

down: .venv/.control | inventory/current ## stop the nodes and prove that nothing is left running: ansible-playbook playbooks/down.yml
	@$(PLAY) playbooks/down.yml $(ARGS)

status: .venv/.control | inventory/current ## show the nodes as seen from outside: ansible-playbook playbooks/status.yml
	@$(PLAY) playbooks/status.yml $(ARGS)

clean: ## stop the nodes, then move .outlast to .trash after asking (YES=1 does not ask): tools/clean
	@YES=$(YES) tools/clean

test: .venv/.dev lint ## lint, then every test: pytest -n 2 tests
	@$(PYTEST) $(or $(TESTS),tests) $(ARGS)

e2e: .venv/.dev ## the commands of the README, in clones, with the real OpenClaw among them: pytest -n 2 tests/e2e
	@$(PYTEST) tests/e2e $(ARGS)

molecule: .venv/.dev ## real hosts, as root: molecule test for each scenario (SCENARIO=... for some), then pytest tests/hosts: tools/molecule
	@tools/molecule $(SCENARIO)

images: .venv/.dev ## make the base images of the real hosts, as root, once a machine: python -m tests.support.images
	@$(BIN)/python -m tests.support.images $(ARGS)

lint: .venv/.dev ## ansible-lint, yamllint, ruff, mypy, generated tables: tools/lint
	@tools/lint

bench: .venv/.dev ## measure the goals beside their peers: python -m bench
	@$(BIN)/python -m bench $(ARGS)

build: .venv/.control ## make the collection's tarball in build/: ansible-galaxy collection build
	@$(BIN)/ansible-galaxy collection build --force --output-path build

docs: .venv/.control ## write the roles' README tables and docs/openapi.yaml from their sources: tools/role_docs.py, tools/openapi.py
	@$(BIN)/python tools/role_docs.py
	@$(BIN)/python tools/openapi.py

lock: ## write the locked requirements anew, with hashes: uv pip compile
	@tools/lock

# Which inventory is in use, where nobody has chosen one yet.
inventory/current:
	@test ! -L $@ || { echo "$@ leads to $$(readlink $@), which is not there; mend: ln -sfn local $@ (or your own)" >&2; exit 1; }
	@ln -s local $@

# Stamps: what is installed is not looked at again until its lock changes.
.venv/.made: tools/venv
	@tools/venv make
	@touch $@

.venv/.control: .venv/.made requirements/control.txt runtime/pyproject.toml | inventory/current
	@tools/venv install requirements/control.txt runtime
	@touch $@

.venv/.dev: .venv/.control requirements/dev.txt
	@tools/venv install requirements/dev.txt
	@touch $@
