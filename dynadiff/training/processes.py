"""Where training runs: this process, or those that `accelerate launch` started, with or without DeepSpeed.

    accelerate launch --num_processes 8 -m dynadiff train --preset paper …                 eight GPUs of one machine
    accelerate launch --num_machines 2 --machine_rank 0 --main_process_ip HOST \\
        --num_processes 16 -m dynadiff train --preset paper --deepspeed …                  on each of two machines

Knows processes and precision; knows nothing of what is trained.
"""

import json
import os
from dataclasses import replace
from datetime import timedelta
from importlib.resources import files
from typing import Any

import torch
from accelerate import Accelerator, DeepSpeedPlugin, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from dynadiff.base.errors import UserError
from dynadiff.training.presets import Training
from dynadiff.training.request import check_deepspeed

PATIENCE = timedelta(hours=6)  # that processes wait for the one that prepares runs or encodes pictures
ZERO2 = "assets/training/zero2.json"


def open_accelerator(config: Training, deepspeed: bool = False) -> Accelerator:
    """The accelerator of this process; UserError where the precision or DeepSpeed is not to be had here."""
    if deepspeed:
        check_deepspeed(config)
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"  # it is DeepSpeed that joins the processes then
    cpu = not torch.accelerator.is_available()  # accelerate joins processes without a GPU only when it is told so
    check_precision(config)
    config = replace(config, precision=precision_here(config.precision))
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    AcceleratorState._reset_state()  # accelerate keeps the first precision of a process, and a study may have several
    plugin = DeepSpeedPlugin(hf_ds_config=zero2(config, state.num_processes)) if deepspeed else None
    quiet = DistributedDataParallelKwargs(broadcast_buffers=False)  # they are constants, and may be large
    return Accelerator(cpu=cpu, mixed_precision=config.precision, deepspeed_plugin=plugin, kwargs_handlers=[quiet])


def check_precision(config: Training) -> None:
    """UserError where this machine cannot train in it."""
    if config.precision == "fp16" and not torch.accelerator.is_available():
        raise UserError("float16 training needs a GPU: add --set precision=bf16, or --set precision=no")


def precision_here(precision: str) -> str:
    """What ``auto`` is on this machine: bf16 where it is quicker than float32; it is ten times slower on AVX2 alone."""
    if precision != "auto":
        return precision
    quick = torch.accelerator.is_available() or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return "bf16" if quick else "no"


def open_processes() -> Accelerator:
    """The accelerator of this process for work in float32 that trains nothing."""
    cpu = not torch.accelerator.is_available()
    PartialState(cpu=cpu, timeout=PATIENCE)
    AcceleratorState._reset_state()
    return Accelerator(cpu=cpu, mixed_precision="no")


def zero2(config: Training, processes: int) -> dict[str, Any]:
    """DeepSpeed's configuration as it is shipped, ZeRO-2 with the optimiser on the CPU, filled in for this run."""
    settings: dict[str, Any] = json.loads(files("dynadiff").joinpath(ZERO2).read_text())
    share = config.batch // processes
    micro = config.micro_batch or share
    if config.batch % processes or share % micro:
        raise UserError(
            f"DeepSpeed wants a batch of whole passes, and {config.batch} is no multiple of {processes} processes × "
            f"{micro}: change --set batch=N or micro_batch=N"
        )
    settings["train_batch_size"] = config.batch
    settings["train_micro_batch_size_per_gpu"] = micro
    settings["gradient_accumulation_steps"] = share // micro
    settings["gradient_clipping"] = config.clip or 0.0  # 0 is none
    for name in ("fp16", "bf16"):
        settings[name]["enabled"] = config.precision == name
    return settings
