"""`fastdet VERB ...`: every verb is also `python -m fastdet.VERB`."""

import importlib
import sys
from collections.abc import Sequence

from fastdet import __version__

VERBS = {
    "train": ("fastdet.train", "train a detector from a config"),
    "test": ("fastdet.test", "evaluate a checkpoint"),
    "predict": ("fastdet.predict", "detect objects in pictures, folders and videos"),
    "export": ("fastdet.export", "write a detector as ONNX file or engine, and prove it equal"),
    "data": ("fastdet.data.__main__", "check, convert or generate datasets"),
    "config": ("fastdet.tools.print_config", "show the resolved config"),
    "ckpt": ("fastdet.tools.ckpt", "look into, convert, publish and upgrade checkpoints"),
    "bench": ("fastdet.bench", "print benchmark results; `bench export` times deployment"),
    "doctor": ("fastdet.doctor", "print versions, devices, what was built, and clashes"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Hands the rest of the command line to the verb's module; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in VERBS:
        module = importlib.import_module(VERBS[arguments[0]][0])
        return int(module.main(arguments[1:]))
    if arguments[:1] in (["--version"], ["-V"]):
        print(f"fastdet {__version__}")
        return 0
    usage = "usage: fastdet VERB ...\n\n" + "".join(f"  {verb:10}{text}\n" for verb, (_, text) in VERBS.items())
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage + "\nfastdet VERB --help tells a verb's options", end="\n")
        return 0 if arguments else 2
    print(f"error: unknown verb {arguments[0]!r}\n{usage}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
