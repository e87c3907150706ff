"""`fastdet train CFG`: trains a detector from a config."""

import argparse
import sys
from collections.abc import Sequence

from fastdet.utils import cli
from fastdet.utils.errors import FastdetError


def parser() -> argparse.ArgumentParser:
    """The options; those that MMDetection's train.py of 2.x and 3.x takes are understood too."""
    p = argparse.ArgumentParser(prog="fastdet train", description="Train a detector from a config.")
    cli.add_config(p)
    p.add_argument("--work-dir", help="folder for logs and checkpoints (default: work_dirs/<config name>)")
    p.add_argument(
        "--resume", nargs="?", const="auto", metavar="CKPT",
        help="continue the last run in the work dir, or a given checkpoint, exactly where it stopped",
    )  # fmt: skip
    p.add_argument("--resume-from", metavar="CKPT", help="the 2.x spelling of --resume CKPT")
    p.add_argument("--auto-resume", action="store_true", help="the 2.x spelling of --resume")
    p.add_argument("--load-from", metavar="CKPT", help="start from these weights, at epoch 0")
    p.add_argument(
        "--reinit-head", action="store_true",
        help="with --load-from: a head that was for another number of classes starts anew",
    )  # fmt: skip
    p.add_argument("--amp", action="store_true", help="mixed precision (bf16 on the CPU, fp16 on CUDA)")
    p.add_argument("--bf16", action="store_true", help="mixed precision in bfloat16")
    p.add_argument("--auto-scale-lr", action="store_true", help="scale the learning rate with the batch size")
    p.add_argument("--no-validate", action="store_true", help="train without evaluation")
    p.add_argument("--val-loss", action="store_true", help="also compute the loss on the validation set")
    p.add_argument("--seed", type=int, help="seed of weights, order and augmentation")
    p.add_argument("--diff-seed", action="store_true", help="accepted; every rank draws its own randomness anyway")
    p.add_argument("--deterministic", action="store_true", help="refuse operations without a deterministic result")
    p.add_argument("--dry-run", action="store_true", help="build everything, run one batch, train nothing")
    p.add_argument("--no-check", action="store_true", help="skip the check of the annotations before training")
    p.add_argument("--gpus", type=int, help=argparse.SUPPRESS)
    p.add_argument("--gpu-ids", type=int, nargs="+", help=argparse.SUPPRESS)
    p.add_argument("--gpu-id", type=int, help=argparse.SUPPRESS)
    cli.add_device(p)
    cli.add_trust(p)
    cli.add_launcher(p)
    return p


def command(options: argparse.Namespace) -> None:
    """Builds the training that the options describe and runs it."""
    if (options.gpus or 1) > 1 or len(options.gpu_ids or []) > 1:
        count = options.gpus or len(options.gpu_ids)
        raise FastdetError(
            f"one process drives one GPU here: start {count} with\n"
            f"  torchrun --nproc-per-node {count} -m fastdet.train {options.config} ..."
        )
    chosen = options.gpu_ids[0] if options.gpu_ids else options.gpu_id
    if options.device is None and chosen is not None:
        options.device = f"cuda:{chosen}"
    from fastdet import training  # torch is imported here, so that --help answers at once

    training.run(options)


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    return cli.run(command, cli.parse(parser(), argv))


if __name__ == "__main__":
    sys.exit(main())
