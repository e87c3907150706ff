"""`load_into`: putting a checkpoint's weights into a model, with a report of what did not fit."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from fastdet.compat.checkpoints.load import Checkpoint
from fastdet.compat.checkpoints.origins import fit
from fastdet.compat.checkpoints.renames import renamed
from fastdet.utils.errors import CheckpointError, near_names

_SHOWN = 8  # Names listed in a message.
_NEAR = 3  # Names for which close ones are looked up.
# Counters of batch norms: older files lack them, and nothing is computed from them. Scales of standardised weights:
# the convolution takes them from the weights where a file lacks them.
_OPTIONAL = ("num_batches_tracked", "weight_gamma", "weight_beta")


class Mismatch(NamedTuple):
    """A weight whose shape differs."""

    name: str
    file_shape: tuple[int, ...]
    model_shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {list(self.file_shape)} in the file, {list(self.model_shape)} in the model"

    @property
    def is_of_head(self) -> bool:
        """Whether a head holds the weight, whose shape may depend on the classes."""
        return any(part.endswith("head") for part in self.name.split("."))

    @property
    def is_by_class(self) -> bool:
        """Whether the number of outputs alone differs."""
        return self.is_of_head and self.file_shape[1:] == self.model_shape[1:]


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What happened to the names of model and file.

    `origin` is the program whose names were translated, "" for MMDetection's own. `unexpected` and `mismatched` have
    the names after that.
    """

    path: str
    origin: str = ""
    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every weight of the model came from the file, and every one of the file was used."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} weights from {self.path}" + (f", of {self.origin}" if self.origin else "")]
        if self.renamed:
            lines.append(f"  {len(self.renamed)} renamed, such as {self.renamed[0][0]} -> {self.renamed[0][1]}")
        if self.mismatched:
            lines.append(f"  {len(self.mismatched)} of another shape, left as they were: {_list(self.mismatched)}")
        if self.missing:
            names = _with_close(self.missing, self.unexpected)
            lines.append(f"  {len(self.missing)} not in the file: {_list(names)}")
        if self.unexpected:
            names = _with_close(self.unexpected, self.missing)
            lines.append(f"  {len(self.unexpected)} of the file not used: {_list(names)}")
        return "\n".join(lines)


def load_into(
    model: nn.Module,
    checkpoint: Checkpoint,
    *,
    strict: bool,
    prefix: str = "",
    reinit_head: bool = False,
) -> LoadReport:
    """Copies a checkpoint's weights into the model; other programs' names and orders are translated.

    Args:
        model: a detector, or one of its modules.
        strict: missing and unexpected names are an error. Otherwise they are reported.
        prefix: takes only the file's names that begin with it, without it (`backbone`).
        reinit_head: weights of a head whose shape differs, as it was for another number of classes, keep the values
            that the model has. Otherwise they are an error, as other weights of another shape are always.

    Raises:
        CheckpointError: names or shapes do not fit as asked, or no name fits at all. The model is unchanged then.
    """
    weights, report = matched(model.state_dict(), checkpoint, strict=strict, prefix=prefix, reinit_head=reinit_head)
    versions = getattr(checkpoint.state_dict, "_metadata", None)
    if versions is not None and not prefix:
        weights._metadata = versions  # type: ignore[attr-defined]
    model.load_state_dict(weights, strict=False)
    return report


def matched(
    own: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    *,
    strict: bool,
    prefix: str = "",
    reinit_head: bool = False,
) -> "tuple[OrderedDict[str, Tensor], LoadReport]":
    """The weights of a checkpoint under the names of a model, whose own are `own`; see `load_into`."""
    source = _selected(checkpoint, prefix)
    found = fit(source, own)
    moved = renamed(found.weights, own)
    source = OrderedDict((moved.get(name, name), value) for name, value in found.weights.items())
    shared = [name for name in source if name in own]
    mismatched = tuple(
        Mismatch(name, tuple(source[name].shape), tuple(own[name].shape))
        for name in shared
        if source[name].shape != own[name].shape
    )
    skipped = {m.name for m in mismatched}
    report = LoadReport(
        path=str(checkpoint.path),
        origin=found.origin.title if found.origin else "",
        loaded=tuple(name for name in shared if name not in skipped),
        missing=tuple(name for name in own if name not in source and not name.endswith(_OPTIONAL)),
        unexpected=tuple(name for name in source if name not in own),
        mismatched=mismatched,
        renamed=(*found.renamed, *moved.items()),
    )
    _check(report, checkpoint, own, source, strict=strict, reinit_head=reinit_head)
    return OrderedDict((name, source[name]) for name in report.loaded), report


def _selected(checkpoint: Checkpoint, prefix: str) -> "OrderedDict[str, Tensor]":
    """The weights whose names begin with the prefix, without it."""
    if not prefix:
        return OrderedDict(checkpoint.state_dict)
    start = prefix if prefix.endswith(".") else f"{prefix}."
    result = OrderedDict(
        (name.removeprefix(start), value) for name, value in checkpoint.state_dict.items() if name.startswith(start)
    )
    if not result:
        raise CheckpointError(
            f"no weight in {checkpoint.path} begins with the prefix {prefix!r}\n"
            f"  the names begin with: {', '.join(_heads(checkpoint.state_dict))}"
        )
    return result


def _check(
    report: LoadReport,
    checkpoint: Checkpoint,
    own: Collection[str],
    source: Collection[str],
    *,
    strict: bool,
    reinit_head: bool,
) -> None:
    refused = [m for m in report.mismatched if not (reinit_head and m.is_of_head)]
    if not report.loaded and not report.mismatched:
        raise CheckpointError(
            f"{report.path} does not fit the model: no weight has the name and shape of one of the model's\n"
            f"  names in the file begin with: {', '.join(_heads(source))}\n"
            f"  names in the model begin with: {', '.join(_heads(own))}"
        )
    if refused:
        raise CheckpointError(
            f"{report.path} does not fit the model: {_reason(refused)}\n"
            + "".join(f"  {m}\n" for m in refused[:_SHOWN])
            + (f"  and {len(refused) - _SHOWN} more\n" if len(refused) > _SHOWN else "")
            + _fix(refused)
            + (f"\n  the file's classes: {_list(checkpoint.classes)}" if checkpoint.classes else "")
        )
    if strict and (report.missing or report.unexpected):
        raise CheckpointError(
            f"{report.path} does not fit the model"
            + _section(f"{len(report.missing)} weights are not in the file", report.missing, report.unexpected)
            + _section(f"{len(report.unexpected)} of the file are not in the model", report.unexpected, own)
        )


def _reason(refused: Sequence[Mismatch]) -> str:
    if all(m.is_by_class for m in refused):
        return "its head is for another number of classes"
    return f"{len(refused)} weights have another shape"


def _fix(refused: Sequence[Mismatch]) -> str:
    if all(m.is_of_head for m in refused):
        return (
            "  to use the head, set num_classes to the file's\n"
            "  to train on other classes, start it anew: --reinit-head, or reinit_head=True beside load_from"
        )
    return "  usual reasons: another backbone, depth or width; set the config's to the file's"


def _section(title: str, names: Sequence[str], candidates: Collection[str]) -> str:
    """A list of names, the first with those that they may stand for."""
    if not names:
        return ""
    text = f"\n  {title}:"
    for position, name in enumerate(names[:_SHOWN]):
        close = near_names(name, candidates, count=1) if position < _NEAR else []
        text += f"\n    {name}" + (f"  (close: {close[0]})" if close else "")
    return text + (f"\n    and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _with_close(names: Sequence[str], candidates: Collection[str]) -> list[str]:
    """The names to show, the first with those of the other side that they may stand for."""
    close = [near_names(name, candidates, count=1) for name in names[:_NEAR]]
    shown = [f"{name} (close: {near[0]})" if near else name for name, near in zip(names, close, strict=False)]
    return [*shown, *names[_NEAR:]]


def _list(items: Sequence[object]) -> str:
    return ", ".join(map(str, items[:_SHOWN])) + (", ..." if len(items) > _SHOWN else "")


def _heads(names: Iterable[str]) -> list[str]:
    """The first parts of dotted names, each once."""
    return list(dict.fromkeys(name.partition(".")[0] for name in names))
