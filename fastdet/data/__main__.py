"""`fastdet data`: check, convert and generate datasets."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastdet.utils import cli
from fastdet.utils.errors import DataError

if TYPE_CHECKING:
    from fastdet.data.report import Report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `fastdet data ...`; returns the exit code."""
    arguments = cli.parse(_parser(), argv)
    return cli.run(arguments.command, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastdet data", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="{check,convert,shapes}")

    check = verbs.add_parser(
        "check", help="look for faults before a training",
        description="Checks annotation files, images, boxes, class names and ids. Errors give exit code 1.",
    )  # fmt: skip
    check.add_argument("source", metavar="PATH|CFG", help="COCO JSON file, VOC year folder, or config")
    check.add_argument(
        "--images", metavar="DIR", help="images of a COCO file (default: images/ beside it or its folder)"
    )
    check.add_argument("--ids", metavar="FILE", help="list of image ids of a VOC folder (default: all XML files)")
    check.add_argument("--classes", nargs="+", metavar="NAME", help="expected class names (default: the file's own)")
    check.add_argument("--full", action="store_true", help="decode every image")
    check.add_argument("--json", action="store_true", help="print JSON")
    cli.add_overrides(check)
    check.set_defaults(command=_check)

    convert = verbs.add_parser(
        "convert", help="convert a dataset to COCO's format",
        description="Converts a VOC year folder, or folders <id>/images + <id>/masks with one PNG an instance.",
    )  # fmt: skip
    convert.add_argument("source", metavar="SRC")
    convert.add_argument("--to", choices=["coco"], default="coco", help="format to write")
    convert.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="DIR",
        help="gets a JSON file a split, and a link to the images",
    )
    convert.add_argument("--class-name", default="object", metavar="NAME", help="the one class of instance masks")
    convert.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    convert.set_defaults(command=_convert)

    shapes = verbs.add_parser(
        "shapes", help="write the generated set of shapes",
        description="Rectangles, circles and triangles on noise, with boxes and masks: the set of the quick start.",
    )  # fmt: skip
    shapes.add_argument("out", metavar="OUT")
    shapes.add_argument("--train", type=int, default=200, metavar="N", help="training images (default: 200)")
    shapes.add_argument("--val", type=int, default=50, metavar="N", help="validation images (default: 50)")
    shapes.add_argument("--size", type=int, default=128, metavar="PX", help="side of the images (default: 128)")
    shapes.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same files (default: 0)")
    shapes.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    shapes.set_defaults(command=_shapes)
    return parser


# The commands import what they need: `--help` must answer without torch.


def _check(arguments: argparse.Namespace) -> int:
    from fastdet.data.check import check_coco_file, check_voc_folder

    source = Path(arguments.source)
    if (source / "Annotations").is_dir():
        reports = [check_voc_folder(str(source), arguments.ids, arguments.classes, full=arguments.full)]
    elif source.is_dir():
        raise DataError(f"{source}: no VOC year folder (it has no Annotations/); give a COCO JSON file or a config")
    elif not source.is_file():
        raise DataError(f"{source}: no such file")
    elif _is_coco(source):
        beside = source.parent / "images"
        images = arguments.images or str(beside if beside.is_dir() else source.parent)
        reports = [check_coco_file(str(source), images, arguments.classes, full=arguments.full)]
    else:
        reports = _check_config(arguments)
    if arguments.json:
        print(json.dumps([report.to_dict() for report in reports], indent=1))
    else:
        print("\n".join(report.text() for report in reports))
    return cli.EXIT_OK if all(report.ok for report in reports) else cli.EXIT_USER


def _is_coco(path: Path) -> bool:
    """Whether a JSON file holds annotations; configs may be JSON too."""
    if path.suffix != ".json":
        return False
    with path.open("rb") as file:
        head = file.read(1 << 16)
    return any(key in head for key in (b'"images"', b'"annotations"', b'"categories"'))


def _check_config(arguments: argparse.Namespace) -> "list[Report]":
    """Reports on the datasets of a config's splits, each dataset once."""
    import fastdet.data.datasets
    import fastdet.data.transforms  # noqa: F401  (registers the parts)
    from fastdet.compat import load_experiment
    from fastdet.data.check import check_dataset
    from fastdet.data.report import Report
    from fastdet.registry import DATASETS, TRANSFORMS, build

    data = load_experiment(arguments.source, arguments.cfg_options).data
    reports: list[Report] = []
    seen = []
    for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        if split is None or split.dataset in seen:
            continue
        seen.append(split.dataset)
        try:
            found = check_dataset(build(split.dataset, (DATASETS, TRANSFORMS), role="dataset"), full=arguments.full)
        except DataError as problem:
            found = [Report(str(split.dataset.args.get("ann_file", split.dataset.type)))]
            found[0].error(str(problem).removeprefix(f"{found[0].title}: "))
        for report in found:
            report.title = f"{name}: {report.title}"
        reports += found
    if not reports:
        raise DataError(f"{arguments.source}: the config has no datasets")
    return reports


def _convert(arguments: argparse.Namespace) -> None:
    from fastdet.data.convert import convert_masks, convert_voc

    source = Path(arguments.source)
    if not source.is_dir():
        raise DataError(f"{source}: no such folder")
    if (source / "Annotations").is_dir():
        written = convert_voc(source, arguments.out)
    else:
        written = convert_masks(source, arguments.out, class_name=arguments.class_name)
    for path in written:
        print(f"written: {path}")


def _shapes(arguments: argparse.Namespace) -> None:
    from fastdet.data.shapes import SHAPE_CLASSES, ShapesConfig, write_shapes

    try:
        config = ShapesConfig(
            num_train=arguments.train, num_val=arguments.val, image_size=arguments.size, seed=arguments.seed,
            max_side=min(70, arguments.size * 55 // 100), min_side=min(20, arguments.size // 6),
        )  # fmt: skip
    except ValueError as problem:
        raise DataError(str(problem)) from problem
    files = write_shapes(arguments.out, config)
    counts = {split: len(json.loads(path.read_text())["annotations"]) for split, path in files.items()}
    print(
        f"shapes: {config.num_train} train / {config.num_val} val images, "
        f"{counts['train']}/{counts['val']} boxes, {len(SHAPE_CLASSES)} classes -> {arguments.out}"
    )


if __name__ == "__main__":
    sys.exit(main())
