"""`fastdet predict SOURCE [CFG] CKPT`: detects objects in pictures, folders, globs and videos."""

import argparse
import sys
from collections.abc import Sequence

from fastdet.utils import cli
from fastdet.utils.errors import FastdetError


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(prog="fastdet predict", description="Detect objects in pictures and videos.")
    p.add_argument("source", metavar="SOURCE", help="a picture, a folder, a glob in quotes, or a video")
    cli.add_config(p, optional=True)
    p.add_argument("checkpoint", metavar="CKPT", nargs="?", help="weights: a file, or a name such as torchvision://...")
    p.add_argument("--engine", metavar="FILE", help="an exported detector, instead of CFG and CKPT")
    p.add_argument("--weights", metavar="CKPT", help="the weights, as MMDetection's image_demo.py takes them")
    p.add_argument("--out-dir", default="outputs", help="folder for vis/ (pictures) and preds/ (JSON); default outputs")
    p.add_argument("--score-thr", "--pred-score-thr", type=float, default=0.3, help="least score (default 0.3)")
    p.add_argument("--batch-size", type=cli.positive, default=8, help="images at once (default 8)")
    p.add_argument("--no-save-vis", action="store_true", help="draw no pictures")
    p.add_argument("--no-save-pred", action="store_true", help="write no JSON")
    cli.add_device(p)
    cli.add_trust(p)
    return p


def command(options: argparse.Namespace) -> None:
    """Runs the detector over the source and writes pictures and JSON."""
    if options.checkpoint is None and not cli.is_config(options.config):
        options.config, options.checkpoint = None, options.config
    given = [name for name in (options.checkpoint, options.weights, options.engine) if name is not None]
    if len(given) != 1:
        raise FastdetError("give the weights once: SOURCE CFG CKPT, SOURCE CKPT, --weights CKPT, or --engine FILE")
    options.checkpoint = given[0]
    from fastdet import api  # torch is imported here, so that --help answers at once

    api.predict_source(options)


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    return cli.run(command, cli.parse(parser(), argv, intermixed=True))


if __name__ == "__main__":
    sys.exit(main())
