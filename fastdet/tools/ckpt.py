"""`fastdet ckpt VERB ...`: looks into checkpoints, and writes them in other forms."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastdet.utils.cli import add_trust, parse, run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one of the verbs; returns the exit code."""
    parser = argparse.ArgumentParser(prog="fastdet ckpt", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    info = _verb(verbs, "info", "who wrote a checkpoint, when, for which classes, and what it holds")
    info.add_argument("--keys", action="store_true", help="list every weight with its shape and type")
    info.add_argument("--config", action="store_true", help="print the config that the file holds, and nothing else")
    convert = _verb(verbs, "convert", "weights and what describes them as .pth or .safetensors")
    convert.add_argument("output", metavar="OUT", type=Path, help="file to write; its suffix says in which form")
    convert.add_argument("--cfg", metavar="CFG", help="give the weights the names of this config's detector")
    convert.add_argument("--raw", action="store_true", help="the trained weights, not their moving average")
    publish = _verb(verbs, "publish", "weights alone on the CPU, named by their hash: OUT-xxxxxxxx.pth")
    publish.add_argument("output", metavar="OUT", type=Path, nargs="?", help="name without the hash (default: FILE's)")
    upgrade = _verb(verbs, "upgrade", "weights of MMDetection 1.x (and RPNs before 2.5) as newer releases have them")
    upgrade.add_argument("output", metavar="OUT", type=Path, help="file to write")
    back = _verb(verbs, "to-mmdet", "a checkpoint that MMDetection 3.x loads, for test.py and init_detector")
    back.add_argument("output", metavar="OUT", type=Path, help="file to write, a .pth")
    back.add_argument("--cfg", metavar="CFG", help="the detector's config, to store in it (default: the file's own)")
    # The work needs torch; --help does not.
    return run(lambda arguments: _files().run_verb(arguments), parse(parser, argv))


def _verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument("file", metavar="FILE", help="a .pth, .safetensors or .pkl file, a URL, or a known name")
    add_trust(parser)
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return parser


def _files() -> Any:
    return importlib.import_module("fastdet.tools.ckpt_files")


if __name__ == "__main__":
    sys.exit(main())
