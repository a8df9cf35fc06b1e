# make homework [DATA=DIR]   set up and run every script, then put all results on one page, results/report.html
# make test                  set up, check style, run the tests (make test-all: the slow ones too)
# make data                  download the real data sets
# make grade SUBMISSION=DIR  check the layers in a student's folder, function by function
# make clean                 remove .venv and results
PYTHON ?= python3
PY := .venv/bin/python
DATA_FLAG = $(if $(DATA),--data "$(DATA)")

.PHONY: homework test test-all data grade setup clean

homework: setup
	$(PY) transfer_learning.py $(DATA_FLAG)
	$(PY) style_transfer.py $(DATA_FLAG)
	$(PY) rnn_layers.py --save results/gradients.json
	$(PY) image_captioning.py $(DATA_FLAG)
	$(PY) sentiment.py $(DATA_FLAG)
	@echo; $(PY) -m common.report

test: setup
	$(PY) -m ruff check .
	$(PY) -m pytest --numprocesses auto --dist loadfile

test-all: setup
	$(PY) -m ruff check .
	$(PY) -m pytest --numprocesses auto --dist loadfile -m ""

data: setup
	$(PY) -m data.download all

grade: $(if $(SUBMISSION),setup)
	@$(if $(SUBMISSION),,$(error no folder given; use make grade SUBMISSION=DIR))$(PY) -m tests.grade "$(SUBMISSION)"

setup: .venv/installed

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: $(PYTHON) is too old; Python 3.10 or newer is needed (make PYTHON=python3.12 ...)" >&2; exit 2; }
	@echo "installing requirements.txt into .venv (PyTorch is large; this takes some minutes)"
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

clean:
	rm -rf .venv results
