"""`fastdet doctor`: versions, devices, what was built, and what is wrong, each problem with its fix."""

import argparse
import json
import sys
from collections.abc import Sequence

from fastdet.utils.cli import EXIT_ENVIRONMENT, EXIT_OK
from fastdet.utils.environment import collect_environment, describe_environment


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="fastdet doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the facts; returns 3 when there are problems."""
    arguments = parse_arguments(argv)
    environment = collect_environment()
    print(json.dumps(environment.to_dict(), indent=2) if arguments.json else describe_environment(environment))
    return EXIT_ENVIRONMENT if environment.problems else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
