"""A hundred thousand malformed inputs: one kind of exception, no allocation above the limit, and no hang.

``FUZZ_SEED`` chooses others; a failure names the input, and ``fuzz.read_…(random.Random(input))`` reads it again.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from support import fuzz

SEED = int(os.environ.get("FUZZ_SEED", "0"))
INPUTS = {"message": 90_000, "recording": 9_000, "folder": 1_000}


@pytest.mark.parametrize("kind", INPUTS)
def test_only_the_documented_exception_comes_out(kind, tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        found = process.submit(fuzz.run, kind, SEED, INPUTS[kind], str(tmp_path)).result()
    assert sum(found.values()) == INPUTS[kind]
    assert found["refused"] > 0.4 * INPUTS[kind]
    assert found["refused"] < 0.999 * INPUTS[kind]  # else one check refuses all, and nothing behind it is tried


def test_the_limits_are_limits(tmp_path):
    """What would hang or take more memory than is allowed is noticed."""
    for kind, content in {"message": "bytes(2 * fuzz.ALLOWED)", "recording": "while True: pass"}.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process, pytest.raises(AssertionError) as said:
            process.submit(_broken, kind, content, str(tmp_path)).result()
        assert ("MemoryError" if kind == "message" else "TimeoutError") in str(said.value)


def _broken(kind, content, folder):
    fuzz.LIMIT_S = 0.2
    code = compile(content, "broken", "exec")
    fuzz.read_message = fuzz.read_recording = lambda *_: exec(code, {"fuzz": fuzz})
    fuzz.run(kind, SEED, 1, folder)
