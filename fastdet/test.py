"""`fastdet test [CFG] CKPT`: evaluates a checkpoint on the test set."""

import argparse
import sys
from collections.abc import Sequence

from fastdet.utils import cli
from fastdet.utils.errors import FastdetError, UnsupportedConfig


def parser() -> argparse.ArgumentParser:
    """The options; those that MMDetection's test.py of 2.x and 3.x takes are understood too."""
    p = argparse.ArgumentParser(prog="fastdet test", description="Evaluate a checkpoint on the test set.")
    cli.add_config(p, optional=True)
    p.add_argument("checkpoint", metavar="CKPT", help="weights: a file, or a name such as torchvision://...")
    p.add_argument("--work-dir", help="folder for the log and the metrics (default: work_dirs/<config name>)")
    p.add_argument("--out", metavar="X.pkl", help="write the detections in MMDetection's results.pkl layout")
    p.add_argument(
        "--eval", nargs="+", metavar="METRIC", help="what to compute instead of the config's choice: bbox segm mAP"
    )
    p.add_argument("--format-only", action="store_true", help="write result files without computing metrics")
    p.add_argument(
        "--eval-options", nargs="+", default=[], metavar="KEY=VALUE",
        help="options of the metric: classwise=True jsonfile_prefix=./results",
    )  # fmt: skip
    p.add_argument("--split", choices=["val", "test"], default="test", help="which of the config's sets to use")
    p.add_argument("--show-dir", metavar="DIR", help="draw the detections into this folder")
    p.add_argument("--show-score-thr", type=float, default=0.3, help="least score that is drawn (default 0.3)")
    p.add_argument("--report", metavar="X.html", help="write a self-contained report with tables, curves and pictures")
    p.add_argument("--batch-size", type=cli.positive, help="images at once (default: the config's)")
    p.add_argument("--json", action="store_true", help="print the metrics as JSON on stdout")
    p.add_argument("--show", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("--tta", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("--fuse-conv-bn", action="store_true", help=argparse.SUPPRESS)
    # They said how long windows stay and how results travel between processes.
    p.add_argument("--wait-time", type=float, help=argparse.SUPPRESS)
    p.add_argument("--gpu-collect", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("--tmpdir", help=argparse.SUPPRESS)
    cli.add_device(p)
    cli.add_trust(p)
    cli.add_launcher(p)
    return p


def command(options: argparse.Namespace) -> None:
    """Builds the evaluation that the options describe and runs it."""
    if options.config is None and cli.is_config(options.checkpoint):
        raise FastdetError(f"give the checkpoint too: fastdet test {options.checkpoint} CKPT")
    if options.out and not options.out.endswith((".pkl", ".pickle")):
        raise FastdetError(f"--out must end in .pkl or .pickle, not {options.out!r}")
    if options.show:
        raise FastdetError("--show: fastdet opens no windows; draw into a folder with --show-dir DIR")
    if options.tta:
        raise UnsupportedConfig("--tta: test-time augmentation is not supported; test without it")
    if options.fuse_conv_bn:
        print("--fuse-conv-bn is not needed and does nothing: it changes speed, not results", file=sys.stderr)
    from fastdet import evaluating  # torch is imported here, so that --help answers at once

    evaluating.run(options)


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    return cli.run(command, cli.parse(parser(), argv, intermixed=True))


if __name__ == "__main__":
    sys.exit(main())
