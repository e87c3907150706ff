"""The lines before and after a training: what runs, at which learning rate and why; what came out."""

import datetime
import os
from collections.abc import Iterator, Sequence

from fastdet.config.schema import Experiment
from fastdet.engine import distributed
from fastdet.engine.loop import Parts
from fastdet.engine.optim import LearningRate
from fastdet.engine.state import TIMES, TrainState


def start_block(
    experiment: Experiment, state: TrainState, rate: LearningRate, *, facts: Sequence[tuple[str, str]], resumed: str
) -> Iterator[str]:
    """One screen before the first step."""
    assert experiment.optimizer is not None
    assert experiment.data.train is not None
    parameters = [p.numel() for p in state.model.parameters()]
    trained = sum(p.numel() for p in state.model.parameters() if p.requires_grad)
    images, processes, accumulate = (
        experiment.data.train.batch_size,
        distributed.get_world_size(),
        experiment.optimizer.accumulate,
    )
    unit = "epochs" if experiment.loop.unit == "epoch" else "iterations"
    options = [experiment.optimizer.algorithm.type]
    options += [f"{experiment.optimizer.amp} autocast"] if experiment.optimizer.amp else []
    options += ["gradient clipping"] if experiment.optimizer.clip else []
    options += ["EMA"] if state.ema is not None else []
    lines = [
        *facts,
        ("parameters", f"{sum(parameters) / 1e6:.2f} M, of which {trained / 1e6:.2f} M are trained"),
        ("batch", f"{images * processes * accumulate} = {processes} x {images} x {accumulate} "
                  "(processes x images x accumulated)"),
        ("length", f"{experiment.loop.length} {unit}, {state.max_steps} steps of which {state.epoch_length} an epoch"),
        ("learning rate", rate.sentence),
        ("optimizer", ", ".join(options)),
        ("device", f"{state.device}, seed {state.seed}"),
        ("work_dir", str(state.work_dir)),
    ]  # fmt: skip
    if resumed:
        lines.append(("resume", resumed))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        yield f"{name:<{width}}  {text}"


def end_block(experiment: Experiment, state: TrainState, parts: Parts, *, seconds: float) -> Iterator[str]:
    """What came out, and the one thing that would have made it faster."""
    yield f"trained {state.step} steps in {datetime.timedelta(seconds=int(seconds))}"
    best, path = parts.saver.best_score, parts.saver.best_path
    if best is not None and path is not None:
        yield f"best {best:.4f} at {experiment.loop.unit} {parts.saver.best_position}: {path}"
    if state.metrics:
        figures = "  ".join(f"{name} {value:.4f}" for name, value in state.metrics.items() if name not in TIMES)
        yield f"last validation: {figures}"
    share = parts.log.data_seconds / parts.log.seconds if parts.log.seconds else 0.0
    if share > 0.3 and experiment.data.train is not None:
        workers, cores = experiment.data.train.num_workers, os.cpu_count() or 1
        advice = f"raise num_workers ({workers}); this machine has {cores} cores" if workers < cores else "decode less"
        yield f"{share:.0%} of the time went into waiting for data: {advice}"
