"""Stopping and going on is the same as never having stopped, and several processes do what one does."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from accelerate import DeepSpeedPlugin  # noqa: E402

from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.networks.generator import posterior, to_unit  # noqa: E402
from dynadiff.training.dynadiff import latents_of, train  # noqa: E402
from dynadiff.training.fit import _passes  # noqa: E402
from dynadiff.training.objective import Objective  # noqa: E402
from dynadiff.training.presets import PRESETS  # noqa: E402
from dynadiff.training.processes import open_accelerator, zero2  # noqa: E402
from dynadiff.trials.source import Trials  # noqa: E402
from support.small_models import SHORT, a_model, a_shared_model, of_kind, some_trials, trials_of_all, weights  # noqa: E402

KINDS = ("one", "several")  # subjects


@pytest.fixture(scope="module")
def trials() -> Trials:
    return some_trials()


def losses(work: Path) -> list[float]:
    lines = map(json.loads, (work / "dynadiff.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


class Stop:
    """Stands before the objective and interrupts the run at its pass number ``after``."""

    def __init__(self, patch: pytest.MonkeyPatch, after: int) -> None:
        real, left = Objective.forward, iter(range(after))

        def forward(self, *arguments, **named):
            if self.training and next(left, None) is None:
                raise KeyboardInterrupt
            return real(self, *arguments, **named)

        patch.setattr(Objective, "forward", forward)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynadiff.training.fit.CHECKPOINT_EVERY", 2)
    monkeypatch.setattr("dynadiff.training.fit.LOG_EVERY", 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "unconditional": "learned"}])
def test_interrupted_and_resumed_is_uninterrupted(tmp_path: Path, kind: str, changes: dict[str, object]) -> None:
    config = replace(SHORT, **changes)
    (straight, trials), (stopped, _), (resumed, _), (start, _) = (of_kind(kind, config) for _ in range(4))
    frozen = {k: v.clone() for k, v in straight.generator.unet.state_dict().items() if "lora_" not in k}
    train(straight, trials, trials, config, tmp_path / "one" / "work")
    with pytest.MonkeyPatch.context() as patch:
        Stop(patch, 3)  # in the fourth step, so that one logged step after the checkpoint is lost
        with pytest.raises(KeyboardInterrupt):
            train(stopped, trials, trials, config, tmp_path / "two" / "work")
    assert len(losses(tmp_path / "two" / "work")) == 3
    train(resumed, trials, trials, config, tmp_path / "two" / "work")
    assert torch.equal(weights(straight), weights(resumed))
    assert losses(tmp_path / "one" / "work") == losses(tmp_path / "two" / "work")
    assert len(losses(tmp_path / "one" / "work")) == 4
    for p, before in zip(straight.trainable(), start.trainable(), strict=True):
        assert not torch.equal(p, before)
    for name, value in straight.generator.unet.state_dict().items():
        if name in frozen:
            assert torch.equal(value, frozen[name])


def test_a_subject_learns_from_its_own_windows_alone(tmp_path: Path) -> None:
    config = replace(SHORT, steps=1, batch=12, weight_decay=0.0)
    trained, trials = [], trials_of_all()
    for factor in (1, -3):
        model = a_shared_model()
        other = replace(trials["05"], offline=factor * trials["05"].offline, online=factor * trials["05"].online)
        train(model, trials | {"05": other}, trials, config, tmp_path / str(factor) / "work")
        trained.append({name: subject.subject.detach().clone() for name, subject in model.brain.subjects.items()})
    start = a_shared_model().brain.subjects
    assert all(not torch.equal(trained[0][name], start[name].subject) for name in trials)
    assert [torch.equal(trained[0][name], trained[1][name]) for name in trials] == [True, True, False]


def test_the_running_mean_is_not_the_last_weights(tmp_path: Path, trials: Trials) -> None:
    last, mean = a_model(), a_model()
    train(last, trials, trials, SHORT, tmp_path / "a" / "work")
    train(mean, trials, trials, replace(SHORT, ema=0.5), tmp_path / "b" / "work")
    start, end, between = weights(a_model()), weights(last), weights(mean)
    assert 0 < (between - start).norm() < (end - start).norm()


@pytest.mark.parametrize("layout", [{"micro_batch": 1}, {"micro_batch": 2}, {"gradient_checkpointing": True}])
def test_passes_and_recomputed_activations_change_nothing(
    tmp_path: Path, trials: Trials, layout: dict[str, object]
) -> None:
    whole, parts = a_model(), a_model()
    train(whole, trials, trials, SHORT, tmp_path / "a" / "work")
    with pytest.MonkeyPatch.context() as patch:
        recomputed = []
        if "gradient_checkpointing" in layout:
            real = torch.utils.checkpoint.checkpoint
            patch.setattr("torch.utils.checkpoint.checkpoint", lambda *a, **k: recomputed.append(1) or real(*a, **k))
        train(parts, trials, trials, replace(SHORT, **layout), tmp_path / "b" / "work")
    assert bool(recomputed) == ("gradient_checkpointing" in layout)
    torch.testing.assert_close(losses(tmp_path / "a" / "work"), losses(tmp_path / "b" / "work"), atol=1e-5, rtol=1e-5)
    # Adam divides by the size of the gradient, so that rounding of a gradient near 0 may turn its sign
    torch.testing.assert_close(weights(whole), weights(parts), atol=1e-4, rtol=0)


TWO = replace(SHORT, steps=3, batch=4, lr=1e-3)
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_dynadiff as t
import dynadiff.training.fit
dynadiff.training.fit.LOG_EVERY = 1
for kind in t.KINDS:
    (model, trials), work = t.of_kind(kind), Path(sys.argv[2]) / kind / "work"
    accelerator = t.open_accelerator(t.TWO)
    assert accelerator.num_processes == 2
    t.train(model, trials, trials, t.TWO, work, accelerator=accelerator)
    t.torch.save(t.weights(model), work / f"weights-{accelerator.process_index}.pt")
t.torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes, started once, trained of each kind."""
    home = tmp_path_factory.mktemp("two")
    program = home / "program.py"
    program.write_text(PROGRAM)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [*launch, str(program), str(Path(__file__).parent), str(home)],
        capture_output=True, text=True, timeout=240, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return home


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_do_what_one_does(tmp_path: Path, by_two: Path, kind: str) -> None:
    alone, trials = of_kind(kind)
    train(alone, trials, trials, TWO, tmp_path / "work")
    work = by_two / kind / "work"
    first, second = (torch.load(work / f"weights-{k}.pt", weights_only=True) for k in (0, 1))
    assert torch.equal(first, second)
    torch.testing.assert_close(losses(tmp_path / "work"), losses(work), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first, weights(alone), atol=1e-4, rtol=0)  # lr 1e-3: a step may turn where it is 0


def test_a_loss_that_is_no_number_stops_with_step_and_runs(tmp_path: Path, trials: Trials) -> None:
    offline = trials.offline.copy()
    offline[trials.runs == 1] = np.nan
    broken, model = replace(trials, offline=offline), a_model()
    with pytest.raises(UserError, match=r"nan at step \d, with windows of run two: look"):
        train(model, broken, trials, replace(SHORT, online=0.0, batch=8), tmp_path / "work")
    assert weights(model).isfinite().all()


def test_a_run_goes_on_with_the_choices_it_was_begun_with(tmp_path: Path, trials: Trials) -> None:
    train(a_model(), trials, trials, SHORT, tmp_path / "work")
    with pytest.raises(UserError, match=r"begun with lr 0\.001 and not 0\.01"):
        train(a_model(), trials, trials, replace(SHORT, lr=0.01), tmp_path / "work")
    with pytest.raises(UserError, match="checkpoint of another model"):
        train(a_model(width=9), trials, trials, SHORT, tmp_path / "work")
    path = tmp_path / "work" / "dynadiff.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="is damaged"):
        train(a_model(), trials, trials, SHORT, tmp_path / "work")


def test_a_batch_that_cannot_be_shared_and_half_precision_without_a_gpu_are_refused() -> None:
    with pytest.raises(UserError, match="3 cannot be shared by 2 processes"):
        _passes(SHORT, 2)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="needs a GPU"):
            open_accelerator(replace(SHORT, precision="fp16"))


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", "no"), ("AVX512", "bf16"), ("DEFAULT", "no")])
def test_a_cpu_trains_in_half_precision_only_where_that_is_quicker(
    capability: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    assert open_accelerator(replace(SHORT, precision="auto")).mixed_precision == expected
    assert open_accelerator(replace(SHORT, precision="bf16")).mixed_precision == "bf16"


def test_a_process_may_train_with_one_precision_after_another(tmp_path: Path, trials: Trials) -> None:
    found = []
    for precision in ("no", "bf16"):
        model = a_model()
        train(model, trials, trials, replace(SHORT, precision=precision, steps=1), tmp_path / precision / "work")
        found.append(losses(tmp_path / precision / "work")[0])
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.05)


def test_latents_are_computed_once_and_of_these_pictures(tmp_path: Path, trials: Trials) -> None:
    generator = a_model().generator
    made = latents_of(generator, trials.pictures, tmp_path)
    mean, deviation = posterior(generator, to_unit(torch.from_numpy(trials.pictures)))
    np.testing.assert_array_equal(made[0], mean.detach().half().numpy())
    np.testing.assert_array_equal(made[1], deviation.detach().half().numpy())
    when = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    latents_of(generator, trials.pictures, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == when
    latents_of(generator, trials.pictures[::-1], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_short_run_leaves_its_first_and_last_step_and_a_sheet(
    tmp_path: Path, trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynadiff.training.fit.LOG_EVERY", 50)
    train(a_model(), trials, trials, SHORT, tmp_path / "work")
    lines = [json.loads(line) for line in (tmp_path / "work" / "dynadiff.jsonl").read_text().splitlines()]
    assert [(line["step"], list(line)[1]) for line in lines] == [(1, "loss"), (4, "loss"), (4, "watched")]
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["dynadiff-00004.png"]


def test_tensorboard_gets_numbers_and_pictures(tmp_path: Path, trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr("dynadiff.training.dynadiff.WATCH_EVERY", 2)
    train(a_model(), trials, trials, SHORT, tmp_path / "work", tensorboard=True)
    events = loading.EventAccumulator(str(tmp_path / "work" / "tensorboard" / "dynadiff"))
    events.Reload()
    assert [s.step for s in events.Scalars("dynadiff/loss")] == [1, 2, 3, 4]
    assert [s.step for s in events.Images("dynadiff")] == [2, 4]
    assert (tmp_path / "samples" / "dynadiff-00004.png").exists()


def test_zero2_is_the_papers_batch_with_the_optimiser_on_the_cpu() -> None:
    settings = zero2(PRESETS["paper"], 8)
    assert (settings["train_batch_size"], settings["train_micro_batch_size_per_gpu"]) == (320, 40)
    assert settings["gradient_accumulation_steps"] == 1
    assert settings["zero_optimization"]["stage"] == 2
    assert settings["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert (settings["fp16"]["enabled"], settings["bf16"]["enabled"]) == (True, False)
    assert zero2(replace(PRESETS["paper"], micro_batch=10), 8)["gradient_accumulation_steps"] == 4
    plugin = DeepSpeedPlugin(hf_ds_config=settings)  # accelerate's reading of it; DeepSpeed itself is not needed
    assert (plugin.zero_stage, plugin.offload_optimizer_device, plugin.gradient_accumulation_steps) == (2, "cpu", 1)
    with pytest.raises(UserError, match="whole passes"):
        zero2(PRESETS["paper"], 7)
