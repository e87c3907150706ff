"""The bar is for terminals; what it writes there is short."""

import io
import re

from fastdet.engine.progress import Progress, wants_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_terminals_that_can_redraw_get_a_bar() -> None:
    assert wants_bar(Terminal(), {"TERM": "xterm"})
    assert not wants_bar(Terminal(), {"TERM": "dumb"})
    assert not wants_bar(Terminal(), {})
    assert not wants_bar(io.StringIO(), {"TERM": "xterm"})


def test_a_finished_bar_leaves_one_line_with_its_figures() -> None:
    stream = Terminal()
    progress = Progress(stream, enabled=True)
    progress.start("epoch 3/12", total=4, done=1)
    for _ in range(3):
        progress.advance()
    progress.show(
        {"loss": 0.842, "loss_cls": 0.31, "acc": 9.0}, seconds=0.21, data_seconds=0.01, lr=0.02, eta="0:11:02"
    )
    progress.stop()
    progress.show_validation({"coco/bbox_mAP": 0.214, "coco/bbox_mAP_50": 0.398}, "saved best.pth")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).replace("\r", "\n").splitlines()
    assert "epoch 3/12  4/4  0.21 s/it (data 0.01)  loss 0.842 cls 0.310  lr 0.02  eta 0:11:02" in plain
    assert "  val  bbox_mAP 0.214  bbox_mAP_50 0.398  saved best.pth" in plain


def test_without_a_bar_nothing_is_drawn_and_lines_pass_through() -> None:
    stream = io.StringIO()
    progress = Progress(stream, enabled=False)
    progress.start("epoch 1/1", total=2, done=0)
    progress.advance()
    progress.show({"loss": 1.0}, seconds=0.1, data_seconds=0.1, lr=0.1, eta="0")
    progress.show_validation({"mAP": 0.1}, "")
    progress.stop()
    progress.writer("a line [with] brackets")
    assert stream.getvalue() == "a line [with] brackets\n"
