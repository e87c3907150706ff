"""Names of weights that differ between MMDetection's releases, or between detectors that share parts.

The table's rules are tried on a state dict as a whole; a rule changes names only where the model has the new ones.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple


class Rule(NamedTuple):
    """Names that begin with `old` begin with `new` in the model; for files that have no such names yet."""

    old: str
    new: str
    reason: str


RULES = (
    Rule("rpn_head.", "bbox_head.", "RPN is a single-stage detector since 3.0, its head named as theirs"),
    Rule("bbox_head.", "rpn_head.", "a two-stage detector starts from the proposals of an RPN of 3.x"),
)


class Pattern(NamedTuple):
    """Single names; for names that the model does not have as they are, where it has the new one."""

    old: re.Pattern[str]
    new: str
    reason: str


PATTERNS = (
    Pattern(
        re.compile(r"_offset\.(weight|bias)$"),
        r".conv_offset.\1",
        "deformable convolutions hold their offsets' convolution since version 2 of theirs",
    ),
    Pattern(
        re.compile(r"^((?:.*\.)?bbox_head)\.[a-z]+_(cls|reg|centerness)\."),
        r"\1.conv_\2.",
        "anchor-free heads name their predictors alike since 2.0",
    ),
)


def renamed(names: Iterable[str], model_names: Collection[str]) -> dict[str, str]:
    """Old to new names, for those names of a file that a rule changes to suit the model.

    Args:
        names: the file's names.
        model_names: the names that the model has.
    """
    file_names = list(names)
    changes: dict[str, str] = {}
    for rule in RULES:
        if any(name.startswith(rule.new) for name in file_names) or any(n.startswith(rule.old) for n in model_names):
            continue
        moved = {n: rule.new + n.removeprefix(rule.old) for n in file_names if n.startswith(rule.old)}
        if any(new in model_names for new in moved.values()):
            changes |= moved
    known = set(file_names)
    for pattern in PATTERNS:
        for name in file_names:
            new = pattern.old.sub(pattern.new, name)
            if new != name and name not in model_names and new in model_names and new not in known:
                changes[name] = new
    return changes
