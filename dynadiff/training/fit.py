"""A stage of training by Hugging Face accelerate: one process or many, whole batches or parts, any precision.

Knows a module that gives a loss per item, and how items are dealt out; knows no brains and no pictures. All that is
random is drawn item by item, so one process and many do the same on the same batch, up to the order of sums in
float32, and a stage that is interrupted and resumed is the one that was not, exactly.
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from diffusers.optimization import get_cosine_schedule_with_warmup
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from dynadiff.base.errors import UserError
from dynadiff.base.random import item_rng
from dynadiff.training.averaging import Average
from dynadiff.training.checkpoint import load_checkpoint, save_checkpoint
from dynadiff.training.logs import Log, open_log
from dynadiff.training.presets import Training
from dynadiff.trials.batches import ItemSource

CHECKPOINT_EVERY = 250  # steps
LOG_EVERY = 50
ANYHOW = ("micro_batch", "gradient_checkpointing")  # choices of layout: a run may go on with others


@dataclass(frozen=True)
class Stage:
    """One stage of training: its name, its share of the choices, and where it leaves checkpoint and log.

    ``origin`` is what else its weights follow from, by name, for a reader: the trials, the generator.
    """

    name: str
    choices: Training
    work: Path
    tensorboard: bool = False
    watch_every: int = 100  # steps
    origin: Mapping[str, str] = field(default_factory=dict)

    def begun_with(self) -> dict[str, Any]:
        """What a checkpoint must have been begun with, to be gone on from; `ANYHOW` excepted."""
        choices: dict[str, Any] = json.loads(json.dumps(asdict(self.choices)))  # as a checkpoint gives them back
        return choices | dict(self.origin)

    @property
    def checkpoint(self) -> Path:
        return self.work / f"{self.name.replace(' ', '-')}.safetensors"

    @property
    def shards(self) -> Path:
        """Where DeepSpeed leaves its part."""
        return self.checkpoint.with_suffix(".deepspeed")


def fit(
    stage: Stage, objective: nn.Module, parts: dict[str, nn.Module], source: ItemSource, accelerator: Accelerator,
    watch: Callable[[int, Log], None],
) -> None:  # fmt: skip
    """Train what is trainable in ``objective``, or go on from the stage's checkpoint; ``parts`` are what it holds.

    ``watch(steps done, log)`` is called every ``watch_every`` steps and after the last, on the main process; the first
    step and the last are always in the log. Raises UserError, naming step and runs, when a loss is no number; the last
    checkpoint stays.
    """
    config = stage.choices
    trained = [p for p in objective.parameters() if p.requires_grad]
    average = Average(trained, config.ema).to(accelerator.device)
    optimiser = torch.optim.AdamW(
        trained, config.lr, (config.beta1, config.beta2), weight_decay=config.weight_decay, fused=True
    )
    ready, wrapped = accelerator.prepare(objective, optimiser)
    kept = parts | {"average": average}
    done = _resume(stage, kept, optimiser, accelerator)
    passes = _passes(config, accelerator.num_processes)
    accelerator.gradient_accumulation_steps, accelerator.step = len(passes), 0
    main = accelerator.is_main_process
    log = open_log(stage.work, stage.name, done, stage.tensorboard) if main else None
    for group in optimiser.param_groups:
        group["initial_lr"] = config.lr
    # one step ahead, for the first rate of this schedule is 0 and so is the last
    schedule = get_cosine_schedule_with_warmup(wrapped, config.warmup, config.steps + 1, last_epoch=done)
    steps: Any = range(done, config.steps)
    for step in track(steps, stage.name, total=config.steps, completed=done) if main else steps:
        loss, norm = _step(stage, ready, wrapped, source, accelerator, passes, step)
        schedule.step()
        average.update()
        last = step + 1 == config.steps
        if (step + 1) % CHECKPOINT_EVERY == 0 or last:
            _save(stage, step + 1, kept, optimiser, accelerator)
        if log is not None and ((step + 1) % LOG_EVERY == 0 or step == 0 or last):
            log.scalars(step + 1, loss=loss, gradient=norm)
        if log is not None and ((step + 1) % stage.watch_every == 0 or last):
            with average.in_place():
                watch(step + 1, log)
    average.settle()
    accelerator.free_memory()


def _step(
    stage: Stage, objective: nn.Module, optimiser: torch.optim.Optimizer, source: ItemSource, accelerator: Accelerator,
    passes: Sequence[NDArray[np.int64]], step: int,
) -> tuple[float, float]:  # fmt: skip
    """One step of the optimiser, in as many passes as memory asks for: mean loss and norm of the gradient."""
    config, losses, norm = stage.choices, [], math.nan
    share = sum(len(items) for items in passes)
    for items in passes:
        mine = items * accelerator.num_processes + accelerator.process_index
        rngs = [item_rng(config.seed, stage.name, step, int(item)) for item in mine]
        trials, inputs = source.draw(rngs)
        with accelerator.accumulate(objective):
            per_item = objective(**moved(inputs, accelerator.device))
            losses.append(_checked(per_item, trials, source, accelerator, step))
            # accelerate divides by the number of passes, and processes are averaged
            accelerator.backward(per_item.sum() / share * len(passes))
            if accelerator.sync_gradients:
                measured = accelerator.clip_grad_norm_(objective.parameters(), config.clip or math.inf)
                norm = math.nan if measured is None else float(measured)
            optimiser.step()
            optimiser.zero_grad()
    return float(torch.cat(losses).mean()), norm


def _checked(
    per_item: Tensor, trials: NDArray[np.int64], source: ItemSource, accelerator: Accelerator, step: int
) -> Tensor:
    """The losses (items,) of all processes; UserError on every one of them where one is no number."""
    which = torch.from_numpy(trials).to(per_item.device)
    losses: Tensor
    losses, numbers = accelerator.gather((per_item.detach().float(), which))
    if not (wrong := ~losses.isfinite()).any():
        return losses
    named = source.runs_of(numbers[wrong].cpu().numpy())
    some = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
    raise UserError(
        f"the loss is {losses[wrong][0].item()} at step {step}, with windows of {some}: "
        "look at these runs, or lower the learning rate; the last checkpoint is kept"
    )


def _passes(config: Training, processes: int) -> list[NDArray[np.int64]]:
    """How a process goes through its share of a batch: numbers from 0, in passes of at most ``micro_batch``."""
    if config.batch % processes:
        raise UserError(
            f"a batch of {config.batch} cannot be shared by {processes} processes: start as many as divide it, "
            "or change it with --set batch=N"
        )
    share = config.batch // processes
    return list(np.array_split(np.arange(share), math.ceil(share / (config.micro_batch or share))))


def _resume(
    stage: Stage, kept: dict[str, nn.Module], optimiser: torch.optim.Optimizer, accelerator: Accelerator
) -> int:
    sharded = _sharded(accelerator)
    done, notes = load_checkpoint(stage.checkpoint, kept, None if sharded else optimiser)
    if done and sharded:
        accelerator.load_state(str(stage.shards / f"{done:06d}"))
    begun, now = notes.get("choices", {}), stage.begun_with()
    if changed := [key for key in begun if key not in ANYHOW and begun[key] != now.get(key)]:
        key = changed[0]
        raise UserError(
            f"{stage.checkpoint} was begun with {key} {begun[key]} and not {now.get(key)}: "
            "go on with the choices it was begun with, or give --out another name"
        )
    if notes.get("scaler") and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(notes["scaler"])
    return done


def _save(
    stage: Stage, done: int, kept: dict[str, nn.Module], optimiser: torch.optim.Optimizer, accelerator: Accelerator
) -> None:
    """Write the checkpoint. DeepSpeed deals the moments out to processes, and writes them in its own format."""
    sharded = _sharded(accelerator)
    if sharded:
        accelerator.save_state(str(stage.shards / f"{done:06d}"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        notes = _notes(stage, accelerator)
        save_checkpoint(stage.checkpoint, done, kept, None if sharded else optimiser, notes)
        for old in stage.shards.glob("*") if sharded else ():
            if old.name != f"{done:06d}":
                shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _sharded(accelerator: Accelerator) -> bool:
    return bool(accelerator.distributed_type == DistributedType.DEEPSPEED)


def _notes(stage: Stage, accelerator: Accelerator) -> dict[str, Any]:
    scaler = {} if accelerator.scaler is None else accelerator.scaler.state_dict()
    return {"choices": stage.begun_with(), "scaler": scaler}


def moved(value: Any, device: torch.device) -> Any:
    """Tensors, and those in mappings, on a device; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: moved(inner, device) for key, inner in value.items()}
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
