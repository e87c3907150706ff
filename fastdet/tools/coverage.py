"""What came of building each config of a folder, as counts and as a table."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["built", "wrong", "unsupported", "failed", "refused by both", "unreadable", "no detector"]
_PLACE = re.compile(r" \(asked in [^)]*\)")

BAD: tuple[Status, ...] = ("wrong", "failed")
"""What must not be: a network with other weights than MMDetection's, or an error that is no clear refusal."""

_MEANINGS: dict[Status, str] = {
    "built": "the network was built",
    "wrong": "built, but with other keys or shapes than listed",
    "unsupported": "refused with a reason",
    "failed": "an error that is no clear refusal",
    "refused by both": "an error here, and one in the list",
    "unreadable": "a base file is missing",
    "no detector": "no model or no data: bases, scripts, tracking and other settings",
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One config.

    `detail` says why it was not built, or how keys differ: its first line names the component. `keys` tells how names
    and shapes of the weights compare with the list, None without one. `lacking` names datasets, transforms and metrics
    of the config that are not there.
    """

    config: str
    status: Status
    detail: str = ""
    keys: Literal["equal", "differ", None] = None
    lacking: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why it was not built, without the place, so that equal reasons are counted together."""
        return _PLACE.sub("", self.detail.partition("\n")[0])

    @property
    def family(self) -> str:
        return self.config.partition("/")[0] if "/" in self.config else ""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """All outcomes of a folder."""

    outcomes: Sequence[Outcome] = field(default_factory=tuple)

    def count(self, *statuses: Status) -> int:
        return sum(outcome.status in statuses for outcome in self.outcomes)

    @property
    def detectors(self) -> int:
        """Configs of a detector with data: those that could be built."""
        return len(self.outcomes) - self.count("no detector", "unreadable")

    @property
    def equal(self) -> int:
        """Those whose keys and shapes are as listed."""
        return sum(outcome.keys == "equal" for outcome in self.outcomes)

    @property
    def good(self) -> bool:
        return self.count(*BAD) == 0

    def reasons(self) -> list[tuple[str, int]]:
        """Why configs are unsupported, the most frequent first."""
        return _counted(o.reason for o in self.outcomes if o.status == "unsupported")

    def lacking(self) -> list[tuple[str, int]]:
        """What built configs need beside the network and is not there, the most frequent first."""
        return _counted(name for o in self.outcomes for name in o.lacking)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "detectors": self.detectors,
            "keys_equal": self.equal,
            **{status.replace(" ", "_"): self.count(status) for status in _MEANINGS},
            "unsupported_by_component": dict(self.reasons()),
            "lacking": dict(self.lacking()),
            "configs": [
                {"config": o.config, "status": o.status, "keys": o.keys, "detail": o.detail, "lacking": list(o.lacking)}
                for o in self.outcomes
            ],
        }

    def table(self, *, families: bool = False) -> str:
        """The summary as text: counts, components that are unsupported, and every config that went wrong."""
        listed = any(o.keys for o in self.outcomes)
        rows = [("configs of a detector", self.detectors, "")]
        rows += [(status, self.count(status), meaning) for status, meaning in _MEANINGS.items()]
        if listed:
            rows.insert(2, ("  keys equal", self.equal, _share(self.equal, self.detectors)))
        text = "".join(f"{name:24}{count:5}  {meaning}".rstrip() + "\n" for name, count, meaning in rows)
        if families:
            text += _section("by family: equal or built / all", self._by_family(listed))
        text += _section("unsupported, by component", [f"{n:5}  {reason}" for reason, n in self.reasons()])
        text += _section("not there, for training or testing", [f"{n:5}  {name}" for name, n in self.lacking()])
        for status in (*BAD, "refused by both", "unreadable"):
            found = [o for o in self.outcomes if o.status == status]
            text += _section(status, [f"  {o.config}\n      " + o.detail.replace("\n", "\n      ") for o in found])
        return text

    def _by_family(self, listed: bool) -> list[str]:
        whole = Counter(o.family for o in self.outcomes if o.status not in ("no detector", "unreadable"))
        done = Counter(o.family for o in self.outcomes if (o.keys == "equal" if listed else o.status == "built"))
        return [f"  {name:28}{done[name]:4} /{count:4}" for name, count in sorted(whole.items())]


def _counted(names: Iterable[str]) -> list[tuple[str, int]]:
    return sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _section(title: str, lines: Sequence[str]) -> str:
    return f"\n{title}\n" + "".join(f"{line}\n" for line in lines) if lines else ""
