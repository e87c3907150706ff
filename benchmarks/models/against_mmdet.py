"""Times detectors side by side with MMDetection: the same config, weights, image and targets, one process each in turn.

MMDetection lives in an environment of its own, whose Python this one is told; `mmdet_cpu_N_threads.json` are written
to the folder `--output`, where `python -m fastdet.bench` finds them:

    python -m benchmarks.models.against_mmdet --mmdet-python ~/mmdet/bin/python --output benchmarks/results

A row is one model, one number of threads and one of two jobs. `predict` goes from the uint8 image [3, H, W] to boxes,
scores, labels (and masks) in its pixels; `train` is normalisation, losses, backward and a step of SGD. One image a
batch, fp32, on the CPU; reading of files is left out on both sides. The figure is the fastest round after a warm-up.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.facts import facts

ROOT = Path(__file__).parents[2]
MODELS = {  # name: (stock config of MMDetection 3.3.0, (height, width))
    "Faster R-CNN R50-FPN": ("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", (800, 1333)),
    "RetinaNet R50-FPN": ("retinanet/retinanet_r50_fpn_1x_coco.py", (800, 1333)),
    "Mask R-CNN R50-FPN": ("mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", (800, 1333)),
    "YOLOX-s": ("yolox/yolox_s_8xb8-300e_coco.py", (640, 640)),
}
JOBS = ("predict", "train")
LEARNING_RATE = 1e-5  # small: the weights hardly change between rounds


def main() -> None:
    """Either the whole comparison, or (started by it) the rounds of one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmdet-python", help="the Python of an environment with mmdet 3.3.0 and mmcv's compiled ops")
    parser.add_argument(
        "--configs", help="folder of MMDetection's configs; the default is that of the other environment"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="a folder for the results")
    parser.add_argument("--side", choices=("fastdet", "mmdet"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        name, threads = arguments.models[0], arguments.threads[0]
        print(json.dumps(run_side(arguments.side, name, Path(arguments.configs), threads, arguments.rounds)))
    elif not arguments.mmdet_python:
        parser.error("--mmdet-python is missing: the Python of an environment in which `import mmdet` works")
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """Runs both sides in turn, prints a table and writes the rows."""
    asking = [arguments.mmdet_python, "-c", "import mmdet; print(mmdet.__path__[0] + '/.mim/configs')"]
    configs = arguments.configs or subprocess.check_output(asking, text=True).strip().splitlines()[-1]
    for threads in arguments.threads:
        rows = []
        for name in arguments.models:
            seconds = {
                side: start_side(side, python, name, configs, threads, arguments.rounds)
                for side, python in (("mmdet", arguments.mmdet_python), ("fastdet", sys.executable))
            }
            size = "x".join(map(str, MODELS[name][1]))
            for job in JOBS:
                mmdet, fastdet = (min(seconds[side][job]) for side in ("mmdet", "fastdet"))
                times = f"{mmdet:8.3f} s {fastdet:8.3f} s  {mmdet / fastdet:5.2f}x"
                print(f"{name:22} {job:8} {threads} thread(s)  {times}", flush=True)
                for row, value in (("MMDetection 3.3.0", mmdet), ("fastdet", fastdet)):
                    group = f"{job}, {name}, 1 image of {size}, fp32"
                    rows.append({"group": group, "extra_info": {"row": row}, "stats": {"min": value}})
        if arguments.output:
            write(arguments.output / f"mmdet_cpu_{threads}_threads.json", threads, rows)


def write(path: Path, threads: int, rows: list[dict[str, Any]]) -> None:
    """Writes the rows with what they mean nothing without, in the form of the other benchmarks."""
    command = "python -m benchmarks.models.against_mmdet --mmdet-python PYTHON --output benchmarks/results"
    content = {"fastdet": facts(command, "cpu", threads), "benchmarks": rows}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)


def start_side(side: str, python: str, name: str, configs: str, threads: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of the jobs, measured by a process of its own."""
    command = [python, __file__, "--side", side, "--models", name, "--configs", configs]
    command += ["--threads", str(threads), "--rounds", str(rounds)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    times: dict[str, list[float]] = json.loads(output.strip().splitlines()[-1])
    return times


def run_side(side: str, name: str, configs: Path, threads: int, rounds: int) -> dict[str, list[float]]:
    """Builds the model and times its jobs."""
    import torch

    torch.set_num_threads(threads)
    config, size = MODELS[name]
    jobs = (fastdet_jobs if side == "fastdet" else mmdet_jobs)(configs / config, size)
    return {job: timed(function, rounds) for job, function in zip(JOBS, jobs, strict=True)}


def timed(function: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of each round after one that is not counted."""
    function()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def fastdet_jobs(config: Path, size: tuple[int, int]) -> tuple[Callable[[], object], Callable[[], object]]:
    """Prediction and a training step of fastdet on one image of `size` (height, width)."""
    import torch

    from fastdet.build import build_detector
    from fastdet.compat import load_experiment
    from fastdet.models.results import to_instances
    from tests.golden import recipe

    detector = build_detector(load_experiment(str(config)))
    recipe.fill(detector)
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], LEARNING_RATE, momentum=0.9)
    batch = recipe.Scene(num_classes=80, sizes=(size,)).batch()

    def predict() -> object:
        detector.eval()
        with torch.inference_mode():
            return to_instances(detector.predict(batch), batch.metas)

    def train() -> None:
        detector.train()
        losses = detector.loss(batch)
        optimizer.zero_grad()
        torch.stack([value for key, value in losses.items() if "loss" in key]).sum().backward()
        optimizer.step()

    return predict, train


def mmdet_jobs(config: Path, size: tuple[int, int]) -> tuple[Callable[[], object], Callable[[], object]]:
    """Prediction and a training step of MMDetection on one image of `size` (height, width)."""
    import torch
    from mmdet.registry import MODELS as PARTS
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.structures import InstanceData

    from tests.golden import recipe

    settings = Config.fromfile(config)
    init_default_scope("mmdet")
    settings.model.pop("init_cfg", None)
    settings.model.backbone.pop("init_cfg", None)
    settings.model.data_preprocessor.pop("batch_augments", None)
    detector = PARTS.build(settings.model)
    recipe.fill(detector)
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], LEARNING_RATE, momentum=0.9)
    height, width = size
    image = recipe.image(0, size)
    boxes, labels = recipe.objects(0, 80, size)

    def samples() -> list[Any]:
        names = {"img_id": 0, "img_path": "0.png", "ori_shape": size, "img_shape": size, "scale_factor": (1.0, 1.0)}
        sample = DetDataSample(metainfo=names)
        bitmaps = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
        for bitmap, (x1, y1, x2, y2) in zip(bitmaps, boxes.astype(int), strict=True):
            bitmap[y1:y2, x1:x2] = 1
        masks = BitmapMasks(bitmaps.numpy(), height, width)
        sample.gt_instances = InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels), masks=masks)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
        return [sample]

    made = samples()

    def predict() -> object:
        detector.eval()
        with torch.inference_mode():
            return detector.test_step({"inputs": [image], "data_samples": made})

    def train() -> None:
        detector.train()
        data = detector.data_preprocessor({"inputs": [image], "data_samples": samples()}, True)
        total, _ = detector.parse_losses(detector.loss(data["inputs"], data["data_samples"]))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return predict, train


if __name__ == "__main__":
    main()
