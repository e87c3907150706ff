"""`fastdet config CFG`: shows the resolved config, or the Experiment that it becomes."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from fastdet.config.dump import dump_json, dump_python
from fastdet.config.file import load_config
from fastdet.utils.cli import add_config, parse, run
from fastdet.utils.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Prints, or writes with --save-path; returns the exit code."""
    parser = argparse.ArgumentParser(prog="fastdet config", description=__doc__)
    add_config(parser)
    parser.add_argument("--save-path", type=Path, help="write to this file instead: .py, .json")
    parser.add_argument(
        "--experiment", action="store_true", help="show the Experiment that fastdet makes of the config, as JSON"
    )
    return run(_print_config, parse(parser, argv))


def _print_config(arguments: argparse.Namespace) -> None:
    save: Path | None = arguments.save_path
    if save is not None and save.suffix not in ((".json",) if arguments.experiment else (".py", ".json")):
        wanted = ".json" if arguments.experiment else ".py or .json"
        raise ConfigError(f"--save-path must end in {wanted}, not {save.name!r}")
    if arguments.experiment:
        # Translating needs the compat layer; showing the config alone does not.
        compat = importlib.import_module("fastdet.compat")
        text = dump_json(compat.load_experiment(arguments.config, arguments.cfg_options).to_dict())
    else:
        config = load_config(arguments.config, arguments.cfg_options)
        text = dump_json(config) if save is not None and save.suffix == ".json" else dump_python(config)
    if save is None:
        print(text, end="")
    else:
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
