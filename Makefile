# One command each. All that is needed is Python 3.11 or newer; everything else goes into .venv.
# Written for GNU make 3.81 too, the one that macOS has.

.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export PIP_ROOT_USER_ACTION := ignore
SERVER := $(VENV)/.server-is-installed
DEV := $(VENV)/.dev-is-installed
# checkov pins what s3reg has newer; and nobody needs it who does not touch the module.
INFRA_VENV := $(VENV)-infra
INFRA := $(INFRA_VENV)/.is-installed
TFLINT := $(HOME)/.cache/s3reg/bin/tflint

.PHONY: help run test check infra campaign soak bench load minio reference fix clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(SERVER) ## push and pull a sample VM here, compare every byte, go on serving on a terminal
	@$(BIN)/python examples/first_run.py

test: $(DEV) ## the whole test suite, on all cores, with samples of the long campaigns
	@$(BIN)/pytest -q -n auto

check: $(DEV) ## lint, format, types (Linux and macOS), architecture, documents
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary --platform linux
	@$(BIN)/mypy --no-error-summary --platform darwin
	@$(BIN)/pytest -q tests/test_architecture.py tests/test_docs.py

infra: $(DEV) $(INFRA) $(TFLINT) ## the Terraform module: form, tests, an apply of nothing, tflint, checkov; and that they bite
	@PATH="$(abspath $(INFRA_VENV))/bin:$(dir $(TFLINT)):$$PATH" infra/check

campaign: $(DEV) ## the long campaigns, whole: hours
	@bench/install_toxiproxy.sh || true
	@S3REG_TEST_CAMPAIGN=1 $(BIN)/pytest -q -n auto -m "campaign or not campaign"

soak: $(DEV) ## 20 pushers, 20 pullers and sweeps of one store at once for ten minutes; SOAK=SECONDS, SEED=N, WORK=DIR
	@test -n "$$S3REG_MINIO" || tests/install_minio.sh
	@$(BIN)/python -m soak --seconds $(or $(SOAK),600) $(if $(SEED),--seed $(SEED)) $(if $(WORK),--work $(WORK))

bench: $(DEV) ## measure beside s5cmd on MinIO; smaller: GB=2 ROUNDS=1 ROWS="push pull"; OUT=FILE; CACHE=DIR
	@test -n "$$S3REG_MINIO" || tests/install_minio.sh
	@bench/install_toxiproxy.sh || true
	@$(BIN)/python -m bench $(ROWS) $(if $(GB),--gb $(GB)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(TEMPLATES),--templates $(TEMPLATES)) \
	  $(if $(CACHE),--cache $(CACHE)) $(if $(OUT),--out $(OUT))

load: $(DEV) ## measure what requests one and two replicas answer a second; takes wrk
	@test -n "$$S3REG_MINIO" || tests/install_minio.sh
	@$(BIN)/python -m bench.load

minio: ## install MinIO, the S3 server that the tests use, with Go; once, outside this folder
	@tests/install_minio.sh

reference: $(DEV) ## print docs/reference.md from the code, compatibility.md from the tests, tables of variables from Terraform
	@$(BIN)/python -m s3reg.cli.reference > docs/reference.md
	@$(BIN)/python tests/compatibility.py > docs/reference/compatibility.md
	@$(BIN)/python tests/module_tables.py

fix: $(DEV) ## let ruff correct and format what it can
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

clean: ## remove what these commands made
	@rm -rf $(VENV) $(INFRA_VENV) .run .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(SERVER): pyproject.toml | $(BIN)/python
	@echo "installing s3reg into $(VENV) ..."
	@$(PIP) -e '.[server]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	@echo "installing s3reg and its tools into $(VENV) ..."
	@$(PIP) -e '.[dev]'
	@touch $(SERVER) $@

$(INFRA): infra/requirements.txt | $(BIN)/python
	@echo "installing checkov into $(INFRA_VENV) ..."
	@$(BIN)/python -m venv $(INFRA_VENV)
	@$(INFRA_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r infra/requirements.txt
	@touch $@

# Without it the rest is looked at all the same, and infra/check says what was not.
$(TFLINT):
	@if command -v go >/dev/null; then \
	  echo "installing tflint ..."; \
	  GOBIN="$(dir $(TFLINT))" go install github.com/terraform-linters/tflint@v0.64.0 || true; \
	fi

$(BIN)/python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3 python; do \
	  if $$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "making $(VENV) with $$($$python --version) ..."; $$python -m venv $(VENV) && exit 0; \
	    rm -rf $(VENV); \
	  fi; \
	done; \
	echo "s3reg needs Python 3.11 or newer with its venv module; none was found." >&2; \
	echo "Install one (macOS: brew install python@3.13; Debian: apt install python3 python3-venv), or say where it" >&2; \
	echo "is: make PYTHON=/path/to/python3" >&2; \
	exit 1
