"""Wires a training: from an Experiment and built objects to a TrainState, its parts, and the files of a run."""

import contextlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import nn

import fastdet
from fastdet.config.schema import Experiment
from fastdet.engine import distributed
from fastdet.engine.checkpoint import checkpoint_to_resume, read_file, restore
from fastdet.engine.ema import Ema
from fastdet.engine.guard import Guard, can_skip_on_device
from fastdet.engine.hooks import Hook, build_hooks
from fastdet.engine.interrupt import Interrupt
from fastdet.engine.log import RowFile, TrainingLog
from fastdet.engine.loop import Parts, train, train_step
from fastdet.engine.optim import Accumulation, Clip, Scaler, build_optimizer, choose_learning_rate
from fastdet.engine.progress import Progress, wants_bar
from fastdet.engine.report import end_block, start_block
from fastdet.engine.saver import Saver
from fastdet.engine.schedule import build_schedule
from fastdet.engine.state import Loader, Losses, TrainState
from fastdet.engine.validation import Evaluate
from fastdet.utils.errors import ConfigError
from fastdet.utils.logging import close_logger, open_logger
from fastdet.utils.seed import choose_seed, seed_everything, use_deterministic_algorithms

AMP = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Runner:
    """One training. Nothing is written before `train`.

    Args:
        experiment: its sections optimizer, schedule, loop and runtime are read here; data.train for its batch size.
        detector: gives `loss(batch, generator)`; its starting weights are loaded already. Moved to the device.
        train_loader: see `Loader`.
        work_dir: the folder of checkpoints and logs.
        device: where to train. In a distributed run the process group has been started.
        evaluate: tests the detector (in eval mode, with averaged weights) and returns the figures; runs on each rank.
        val_loader: for its length, and for the validation loss if the runtime section asks for one.
        config_text: the resolved config, for checkpoints and the run's copy.
        classes, palette: what checkpoints say of the dataset; a palette is a sequence of RGB triples.
        facts: lines for the start block: (name, text) such as ("config", "configs/x.py").
        environment: what `env.json` holds beside the basics.
        hooks: further hooks, beside those of the runtime section.
        minutes: write a position to resume from at least this often; 0 for never.
        read_checkpoint: reads a file to resume from; replace it for other dialects.
        stream: where people read; default stdout.
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        detector: nn.Module,
        train_loader: Loader,
        work_dir: str | Path,
        device: torch.device | str = "cpu",
        evaluate: Evaluate | None = None,
        val_loader: Loader | None = None,
        config_text: str = "",
        classes: Sequence[str] = (),
        palette: Sequence[Sequence[int]] = (),
        facts: Sequence[tuple[str, str]] = (),
        environment: Mapping[str, Any] | None = None,
        hooks: Sequence[Hook] = (),
        minutes: float = 0.0,
        read_checkpoint: Callable[[Path], dict[str, Any]] = read_file,
        stream: TextIO | None = None,
    ) -> None:
        if experiment.optimizer is None:
            raise ConfigError("the config has no optimizer, so it can be tested but not trained (optim_wrapper=...)")
        if experiment.data.train is None:
            raise ConfigError("the config has no training data (train_dataloader=...)")
        if len(train_loader) == 0:
            raise ConfigError("the training set gives no batch: it is smaller than one batch and drop_last=True")
        self.experiment = experiment
        self._optimizer_section = experiment.optimizer
        self._evaluate = evaluate
        self._val_loader = val_loader
        self._config_text = config_text
        self._facts = tuple(facts)
        self._environment = dict(environment or {})
        self._minutes = minutes
        self._read_checkpoint = read_checkpoint
        self._stream = sys.stdout if stream is None else stream
        self._meta = {
            "cfg": config_text,
            "experiment_name": Path(work_dir).name,
            "fastdet_version": fastdet.__version__,
            "dataset_meta": {"classes": list(classes), "palette": [list(color) for color in palette]},
        }
        runtime = experiment.runtime
        if runtime.deterministic:
            use_deterministic_algorithms()
        seed = choose_seed() if runtime.seed is None else runtime.seed
        self.seed = distributed.broadcast_object(seed)
        self.hooks = tuple(sorted((*build_hooks(runtime.hooks), *hooks), key=lambda hook: hook.priority))
        self.rate = choose_learning_rate(experiment, distributed.get_world_size())
        self.state = self._build_state(detector, train_loader, Path(work_dir), torch.device(device))
        advice = "" if self.rate.factor != 1 or "not scaled" not in self.rate.sentence else f"{self.rate.sentence}\n  "
        if self._optimizer_section.clip is None:
            advice += "try a smaller lr, or optim_wrapper.clip_grad=dict(max_norm=35)"
        else:
            advice += "try a smaller lr or a longer warm-up"
        deferred = self.state.device.type == "cuda" and can_skip_on_device(self.state.optimizer)
        self.guard = Guard(deferred=deferred, advice=advice)

    def _build_state(self, detector: nn.Module, loader: Loader, work_dir: Path, device: torch.device) -> TrainState:
        section, runtime, loop = self._optimizer_section, self.experiment.runtime, self.experiment.loop
        seed_everything(self.seed)
        detector = detector.to(device)
        if runtime.sync_batch_norm and distributed.get_world_size() > 1:
            if device.type != "cuda":
                raise ConfigError("SyncBN over several processes runs on CUDA only: leave sync_bn out on the CPU")
            detector = nn.SyncBatchNorm.convert_sync_batchnorm(detector)
        epoch_length = len(loader)
        if loop.unit == "epoch":
            max_epochs, max_steps = loop.length, loop.length * epoch_length
        else:
            max_epochs, max_steps = math.ceil(loop.length / epoch_length), loop.length
        return TrainState(
            model=detector,
            losses=distributed.wrap(Losses(detector), find_unused_parameters=runtime.find_unused_parameters),
            optimizer=build_optimizer(section, detector, factor=self.rate.factor, device=device),
            schedule=build_schedule(
                self.experiment.schedule, unit=loop.unit, length=loop.length, epoch_length=epoch_length
            ),
            scaler=Scaler(section, device),
            clip=Clip(section.clip),
            accumulation=Accumulation(section.accumulate, max_steps),
            generator=torch.Generator(device),
            device=device,
            seed=self.seed,
            loader=loader,
            max_epochs=max_epochs,
            max_steps=max_steps,
            work_dir=work_dir,
            logger=open_logger(None),
            amp=AMP[section.amp] if section.amp is not None else None,
            ema=Ema(detector, runtime.ema) if runtime.ema is not None else None,
        )

    def train(self) -> TrainState:
        """Trains to the end and returns the final state.

        With `runtime.resume` it continues from `runtime.load_from`, or from the newest checkpoint in the work
        directory if there is one.

        Raises:
            SystemExit: after a signal and a saved position, with code 130 (Ctrl-C) or 143 (SIGTERM).
            Diverged: the loss or the gradients became NaN or infinite.
            CheckpointError: the checkpoint to resume from does not fit.
        """
        state, runtime, loop = self.state, self.experiment.runtime, self.experiment.loop
        run_id = distributed.broadcast_object(time.strftime("%Y%m%d_%H%M%S"))
        main = distributed.is_main()
        progress = Progress(self._stream, enabled=main and wants_bar(self._stream))
        folder = state.work_dir / run_id
        state.logger = open_logger(
            folder / f"{run_id}.log" if main else None,
            write=progress.writer if main else None,
            bare=progress.enabled,
        )
        rows = RowFile(folder / "vis_data", run_id) if main else None
        interrupt = Interrupt()
        parts = Parts(
            loop=loop,
            guard=self.guard,
            log=TrainingLog(rows, progress, interval=runtime.log_interval, unit=loop.unit),
            progress=progress,
            saver=Saver(runtime.checkpoints, self._meta, self.guard, minutes=self._minutes),
            interrupt=interrupt,
            evaluate=self._evaluate,
            loss_loader=self._val_loader if runtime.val_loss else None,
            val_batches=len(self._val_loader) if self._val_loader is not None else 0,
            hooks=self.hooks,
        )
        with contextlib.ExitStack() as stack:
            stack.callback(close_logger, state.logger)
            stack.callback(progress.stop)
            stack.enter_context(interrupt.listening())
            if main:
                self._write_run_files(run_id)
            resumed = self._resume(parts.saver)
            for line in start_block(self.experiment, state, self.rate, facts=self._facts, resumed=resumed):
                state.logger.info(line)
            began = time.perf_counter()
            train(state, parts)
            progress.stop()
            for line in end_block(self.experiment, state, parts, seconds=time.perf_counter() - began):
                state.logger.info(line)
        return state

    def dry_run(self) -> dict[str, float]:
        """Runs the forward, backward and update of the first batch and returns its losses. Writes nothing to disk.

        The detector has changed afterwards: build a new one to train.
        """
        state = self.state
        parts = Parts(
            loop=self.experiment.loop,
            guard=self.guard,
            log=TrainingLog(None, Progress(self._stream, enabled=False), interval=0, unit="iter"),
            progress=Progress(self._stream, enabled=False),
            saver=Saver(self.experiment.runtime.checkpoints, self._meta, self.guard),
            interrupt=Interrupt(),
            evaluate=None,
            loss_loader=None,
            val_batches=0,
        )
        state.model.train()
        train_step(state, next(iter(state.loader.iterate(0))), parts)
        self.guard.settle(state)
        return {name: float(value) for name, value in state.log_values.items()}

    def _resume(self, saver: Saver) -> str:
        """Restores the state if the runtime section asks for it; returns what was done, in words."""
        runtime, state = self.experiment.runtime, self.state
        if not runtime.resume:
            return ""
        path = distributed.broadcast_object(checkpoint_to_resume(runtime, state.work_dir))
        if path is None:
            return f"nothing to resume in {state.work_dir}: starting anew"
        content = self._read_checkpoint(path)
        saver.load_runtime_info(restore(state, content, path), state, path)
        seed = content.get("rng", content["meta"]).get("seed")
        note = self._fit_position(content)
        if seed is not None and seed != state.seed:
            note += f"; its seed was {seed}, now {state.seed}: not bit for bit the same run"
        return f"{path}: continuing after epoch {state.epoch}, batch {state.batch} of the next, step {state.step}{note}"

    def _fit_position(self, content: Mapping[str, Any]) -> str:
        """Moves a position measured in batches of another size to the same share of the epoch."""
        state = self.state
        saved = int(content.get("sampler", {}).get("epoch_length", state.epoch_length))
        if saved == state.epoch_length:
            return ""
        state.batch = state.batch * state.epoch_length // saved
        if self.experiment.loop.unit == "epoch":
            state.step = state.evaluated_step = state.epoch * state.epoch_length + state.batch
        return f"; it had {saved} batches an epoch, now {state.epoch_length}: not bit for bit the same run"

    def _write_run_files(self, run_id: str) -> None:
        """The resolved config, as a copy of the run and beside its rows, and env.json."""
        work_dir = self.state.work_dir
        (work_dir / f"{run_id}.py").write_text(self._config_text, encoding="utf-8")
        (work_dir / run_id / "vis_data" / "config.py").write_text(self._config_text, encoding="utf-8")
        basics = {
            "fastdet": fastdet.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "platform": platform.platform(),
            "device": str(self.state.device),
            "world_size": distributed.get_world_size(),
            "threads": torch.get_num_threads(),
            "seed": self.seed,
            "command": sys.argv,
        }
        text = json.dumps({**basics, **self._environment}, indent=2, default=str)
        (work_dir / "env.json").write_text(text + "\n", encoding="utf-8")
