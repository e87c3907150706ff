"""`fastdet export CFG [CKPT]`: writes a detector as an ONNX file or engine, and proves that it finds the same."""

import argparse
import sys
from collections.abc import Sequence

from fastdet.utils import cli
from fastdet.utils.errors import EnvironmentProblem, FastdetError

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(prog="fastdet export", description="Write a detector as a file for deployment.")
    cli.add_config(p)
    p.add_argument("checkpoint", metavar="CKPT", nargs="?", help="weights (default: random ones, for timing alone)")
    p.add_argument(
        "--backend", choices=["onnx", "torch", "tensorrt", "tensorrt_rtx"], default="onnx",
        help="what the file is for (default onnx): torch is a program with fastdet's kernels, the others build an "
        "engine from the ONNX file beside it",
    )  # fmt: skip
    p.add_argument(
        "--shape", nargs=2, type=cli.positive, action="append", required=True, metavar=("H", "W"),
        help="pixels of the input, to which smaller pictures are padded; given several times, a file for each, named "
        "FILE-HxW, among which the runtime chooses",
    )  # fmt: skip
    p.add_argument(
        "--dynamic-hw", action="store_true",
        help="one file for all sizes up to --shape, slower than a file for each; two --shape are the least and the "
        "greatest, three the least, the usual and the greatest",
    )  # fmt: skip
    p.add_argument(
        "-o", "--output", metavar="FILE", required=True,
        help="the file to write, .onnx, .pt2 (torch) or .engine; the .json beside it tells about it",
    )  # fmt: skip
    p.add_argument(
        "--precision", choices=["fp32", "fp16", "bf16", "int8"], default="fp32",
        help="in which the network computes (default fp32); scores, boxes and NMS are always fp32",
    )  # fmt: skip
    p.add_argument("--calibration", metavar="DIR", help="pictures for int8 (default: the config's training set)")
    p.add_argument(
        "--calibration-pictures", type=cli.positive, default=128, metavar="N", help="of them at most (default 128)"
    )
    p.add_argument(
        "--batch", nargs=3, type=cli.positive, default=[1, 1, 8], metavar=("MIN", "OPT", "MAX"),
        help="images that an engine takes at once (default 1 1 8); ONNX files take any number",
    )  # fmt: skip
    p.add_argument(
        "--capability", metavar="SM89",
        help="the GPU that a TensorRT-RTX engine is for (default: Ampere and later)",
    )  # fmt: skip
    p.add_argument("--timing-cache", metavar="FILE", help="measurements that TensorRT keeps between builds")
    p.add_argument(
        "--plugins", action=argparse.BooleanOptionalAction, default=False,
        help="put fastdet's CUDA kernels into an engine of --backend tensorrt, in the place of function bodies; no "
        "engine with them has run on a GPU yet (default: no)",
    )  # fmt: skip
    p.add_argument("--triton", metavar="DIR", help="also write a model repository for Triton Inference Server")
    p.add_argument("--layout", choices=["hwc", "chw"], default="hwc", help="of the uint8 input (default hwc)")
    p.add_argument("--whole-images", action="store_true", help="every picture fills the input: no input `sizes`")
    p.add_argument("--candidates", type=cli.positive, default=1000, help="boxes that NMS looks at (default 1000)")
    p.add_argument("--rounds", type=cli.positive, default=16, help="of the fixed-point NMS (default 16)")
    p.add_argument(
        "--max-detections", type=cli.positive, default=300,
        help="an image at most, for detectors without a limit of their own (default 300)",
    )  # fmt: skip
    p.add_argument(
        "--verify", type=int, default=8, metavar="N",
        help="pictures that both must find the same on, beside an empty one and a crowd; 0: no proof (default 8)",
    )  # fmt: skip
    cli.add_trust(p)
    return p


def command(options: argparse.Namespace) -> int:
    """Exports what the options describe; returns the exit code."""
    if options.verify < 0:
        raise FastdetError(f"--verify {options.verify}: give a number of pictures, or 0 for no proof")
    if options.precision == "bf16" and options.verify and options.backend != "torch":
        print("warning: onnxruntime has no bfloat16 layers on the CPU: the file is unverified", file=sys.stderr)
        options.verify = 0
    if options.backend == "torch" and options.precision == "int8":
        raise FastdetError("--precision int8: programs of the torch backend compute in fp32, fp16 or bf16")
    if options.backend == "torch" and options.dynamic_hw:
        raise FastdetError("--dynamic-hw: programs of the torch backend have one size; give --shape for each")
    if options.dynamic_hw and len(options.shape) > 3:
        raise FastdetError(
            f"--dynamic-hw takes the least, the usual and the greatest --shape, not {len(options.shape)}"
        )
    suffix = SUFFIXES.get(options.backend, ".engine")
    if not options.output.endswith(suffix):
        raise FastdetError(f"--output must end in {suffix} for --backend {options.backend}, not {options.output!r}")
    if options.plugins and options.backend in ("onnx", "torch"):
        raise FastdetError(f"--plugins are of engines that --backend tensorrt builds, not of {options.backend} files")
    if options.backend == "torch" and options.triton:
        raise FastdetError("--triton: the server runs ONNX files and engines, not programs of the torch backend")
    try:
        from fastdet import exporting  # torch is imported here, so that --help answers at once
    except ModuleNotFoundError as problem:
        raise EnvironmentProblem(f"export needs {problem.name}: pip install 'fastdet[export]'") from problem

    return exporting.run(options)


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    return cli.run(command, cli.parse(parser(), argv))


if __name__ == "__main__":
    sys.exit(main())
