# Each target does all its own set-up from a fresh clone: a virtual environment beside the code, then the thing itself.
PYTHON ?= python3
SPEED ?= 4
OUT ?= decodes/demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: demo test model

demo: .venv-demo/ready  ## a phantom run, streamed and decoded; no display and no PyTorch needed
	.venv-demo/bin/realtime demo --headless --speed $(SPEED) --out $(OUT)

test: .venv-test/ready  ## style, types and every test
	.venv-test/bin/ruff format --check .
	.venv-test/bin/ruff check .
	.venv-test/bin/mypy
	.venv-test/bin/lint-imports
	.venv-test/bin/pytest

model: .venv-test/ready  ## train the decoder that ships, from nothing; goes on where it was interrupted
	.venv-test/bin/dynadiff train --preset phantom --out build/phantom --resume
	.venv-test/bin/dynadiff export onnx --model build/phantom --out build/phantom/onnx
	.venv-test/bin/dynadiff evaluate --model build/phantom

.venv-demo/ready: pyproject.toml
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/pip install --quiet --editable .
	touch $@

.venv-test/ready: pyproject.toml
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/pip install --quiet torch==2.13.0 --editable '.[train,dev,trt-rtx,tensorboard]'
	touch $@
