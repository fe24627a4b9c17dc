# Each target does all its own set-up from a fresh clone: a virtual environment beside the code, then the thing itself.
PYTHON ?= python3
SPEED ?= 4
OUT ?= decodes/demo-$(shell date +%Y%m%d-%H%M%S)
WORKERS ?= 2

.PHONY: demo test studies-quick model judge

demo: .venv-demo/ready  ## a phantom run, streamed and decoded; no display and no PyTorch needed
	.venv-demo/bin/realtime demo --headless --speed $(SPEED) --out $(OUT)

test: .venv-test/ready  ## everything a change must pass: style, types, imports and every test
	.venv-test/bin/ruff format --check .
	.venv-test/bin/ruff check .
	.venv-test/bin/mypy
	.venv-test/bin/lint-imports
	.venv-test/bin/pytest -n $(WORKERS) --dist worksteal

studies-quick: .venv-test/ready  ## the paper's comparisons from tree to table, a few steps of each: minutes
	rm -rf build/studies-quick
	for study in brain trainable subjects; do \
	    .venv-test/bin/dynadiff study $$study --quick --out build/studies-quick || exit 1; done

model: .venv-test/ready  ## train the decoder that ships, from nothing; goes on where it was interrupted
	.venv-test/bin/dynadiff train --preset phantom --out build/phantom --resume
	.venv-test/bin/dynadiff export onnx --model build/phantom --out build/phantom/onnx
	.venv-test/bin/dynadiff evaluate --model build/phantom

judge: .venv-test/ready  ## train the judge of drawn scenes that ships, from nothing; goes on where it was interrupted
	.venv-test/bin/python -m exporters.scene_judge build/judge

.venv-demo/ready: pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/pip install --quiet --editable .
	touch $@

.venv-test/ready: pyproject.toml
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/pip install --quiet torch==2.13.0 --editable '.[train,dev,metrics,trt-rtx,tensorboard]'
	touch $@
