"""What a check of a dataset found: errors, warnings and counts, with a text and a JSON form."""

from dataclasses import dataclass, field
from typing import Any

from fastdet.utils.errors import DataError

NUM_EXAMPLES = 5
"""Examples kept of each finding: enough to find the pattern, few enough for one screen."""


@dataclass(slots=True)
class Finding:
    """One kind of problem: how often, and the first examples."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """Findings by text, in order of appearance. Errors stop a training; warnings are counted."""

    title: str
    errors: dict[str, Finding] = field(default_factory=dict)
    warnings: dict[str, Finding] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def error(self, text: str, example: str = "", count: int = 1) -> None:
        """Counts an error of the kind `text`."""
        _add(self.errors, text, example, count)

    def warn(self, text: str, example: str = "", count: int = 1) -> None:
        """Counts a warning of the kind `text`."""
        _add(self.warnings, text, example, count)

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def text(self) -> str:
        """Several lines: counts, errors, warnings."""
        counts = ", ".join(f"{value} {name}" for name, value in self.counts.items())
        lines = [f"{self.title}", f"  {counts}"] if counts else [self.title]
        lines += [_line("error", text, finding) for text, finding in self.errors.items()]
        lines += [_line("warning", text, finding) for text, finding in self.warnings.items()]
        errors, warnings = (sum(f.count for f in found.values()) for found in (self.errors, self.warnings))
        lines.append(f"  check: {_counted(errors, 'error')}, {_counted(warnings, 'warning')}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "title": self.title,
            "counts": dict(self.counts),
            "errors": {text: {"count": f.count, "examples": f.examples} for text, f in self.errors.items()},
            "warnings": {text: {"count": f.count, "examples": f.examples} for text, f in self.warnings.items()},
        }

    def raise_errors(self) -> None:
        """Raises DataError with every error if there is one."""
        if self.errors:
            lines = [_line("", text, finding).strip() for text, finding in self.errors.items()]
            raise DataError(f"{self.title}: " + "\n  ".join(lines))


def _add(findings: dict[str, Finding], text: str, example: str, count: int) -> None:
    finding = findings.setdefault(text, Finding())
    finding.count += count
    if example and len(finding.examples) < NUM_EXAMPLES:
        finding.examples.append(example)


def _line(level: str, text: str, finding: Finding) -> str:
    times = f" ({finding.count} times)" if finding.count > 1 else ""
    examples = ""
    if finding.examples:
        more = ", ..." if finding.count > len(finding.examples) else ""
        examples = ": " + ", ".join(finding.examples) + more
    prefix = f"{level}: " if level else ""
    return f"  {prefix}{text}{times}{examples}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
