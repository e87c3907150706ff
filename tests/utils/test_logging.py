"""Loggers belong to a run and write MMEngine's line form."""

import logging
import re
from pathlib import Path

from fastdet.utils.logging import FILE_ONLY, close_logger, open_logger


def test_lines_have_the_form_that_log_readers_know(tmp_path: Path) -> None:
    shown: list[str] = []
    logger = open_logger(tmp_path / "run" / "a.log", write=shown.append)
    logger.info("Epoch(train)  [1][ 50/117]")
    close_logger(logger)
    form = r"\d\d/\d\d \d\d:\d\d:\d\d - fastdet - INFO - Epoch\(train\)  \[1\]\[ 50/117\]"
    assert re.fullmatch(form, shown[0])
    assert re.fullmatch(r"\d{4}/" + form + "\n", (tmp_path / "run" / "a.log").read_text())


def test_a_terminal_with_a_bar_gets_bare_messages_and_no_file_only_lines(tmp_path: Path) -> None:
    shown: list[str] = []
    logger = open_logger(tmp_path / "a.log", write=shown.append, bare=True)
    logger.info("start")
    logger.info("Epoch(train) ...", extra=FILE_ONLY)
    close_logger(logger)
    assert shown == ["start"]
    assert len((tmp_path / "a.log").read_text().splitlines()) == 2


def test_two_loggers_know_nothing_of_each_other(tmp_path: Path) -> None:
    first, second = open_logger(tmp_path / "1.log"), open_logger(tmp_path / "2.log")
    first.info("one")
    second.info("two")
    close_logger(first)
    close_logger(second)
    assert "two" not in (tmp_path / "1.log").read_text()
    assert not getattr(logging.Logger.manager.loggerDict.get("fastdet"), "handlers", [])
