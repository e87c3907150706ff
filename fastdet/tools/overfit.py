"""`python -m fastdet.tools.overfit CFG`: does the config's detector learn a handful of pictures by heart?

It is trained from scratch on 8 generated pictures (or `--images N` of the config's own training set), without
augmentation, and tested on the same. A detector that cannot do that has a fault: in its config, its data or its code.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from fastdet.utils.cli import add_config, add_device, parse, positive, run


def main(argv: Sequence[str] | None = None) -> int:
    """Trains and tests; the exit code is 1 if the aim was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdet.tools.overfit", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_config(parser)
    pictures = parser.add_mutually_exclusive_group()
    pictures.add_argument("--shapes", type=positive, default=8, metavar="N", help="generated pictures (default: 8)")
    pictures.add_argument("--images", type=positive, metavar="N", help="pictures of the config's training set instead")
    parser.add_argument("--size", type=positive, default=128, help="side of the pictures in pixels (default: 128)")
    parser.add_argument("--batch", type=positive, metavar="N", help="pictures in a batch (default: all)")
    parser.add_argument("--thin", type=positive, default=1, metavar="K", help="divide the widths of all layers by K")
    parser.add_argument("--iterations", type=positive, default=200, metavar="N", help="at most (default: 200)")
    parser.add_argument("--lr", type=float, default=0.001, help="of AdamW, after a warm-up (default: 0.001)")
    parser.add_argument(
        "--target", type=float, default=0.9, metavar="AP",
        help="AP50 of boxes (and masks) to reach, recall for proposals alone; training ends there (default: 0.9)",
    )  # fmt: skip
    parser.add_argument("--every", type=positive, metavar="N", help="iterations between tests (default: a sixth)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and pictures (default: 0)")
    parser.add_argument("--work-dir", help="folder for pictures, log and weights (default: work_dirs/overfit/<config>)")
    add_device(parser)
    # The work needs torch; --help does not.
    return run(lambda options: importlib.import_module("fastdet.tools.overfitting").run(options), parse(parser, argv))


if __name__ == "__main__":
    sys.exit(main())
