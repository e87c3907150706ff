"""Charts as SVG, and the training log they are drawn from."""

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from fastdet.utils.errors import DataError
from fastdet.visualization.curves import Marker, Series, heat_map, line_chart
from fastdet.visualization.training_log import read_training_log


def parse(markup: str) -> ET.Element:
    return ET.fromstring(f"<div>{markup}</div>")


def paths(markup: str) -> list[str]:
    return [g.find("path").get("d") for g in parse(markup).iter("g") if g.get("class", "").startswith("line")]


def test_a_line_goes_through_its_points() -> None:
    chart = line_chart([Series("a", [0, 1], [0, 1])], x_label="x", y_label="y", x_range=(0, 1), y_range=(0, 1))
    assert paths(chart) == ["M52 222L428 12"]  # from the lower left corner of the axes to the upper right


def test_missing_values_break_the_line_and_lone_points_become_dots() -> None:
    chart = line_chart([Series("a", [0, 1, 2, 3], [1, math.nan, 1, 2])], x_label="x", y_label="y")
    assert paths(chart)[0].count("M") == 2
    assert len(list(parse(line_chart([Series("a", [5], [1])], x_label="x", y_label="y")).iter("circle"))) == 1


def test_names_are_escaped_and_listed_in_the_legend() -> None:
    chart = line_chart([Series("<b>&", [0, 1], [0, 1]), Series("c", [0, 1], [1, 0])], x_label="x", y_label="y")
    assert [span.find("i").tail for span in parse(chart).iter("span")] == ["<b>&", "c"]


def test_no_data_gives_empty_axes() -> None:
    for is_log in (False, True):
        assert paths(line_chart([Series("a", [], [])], x_label="x", y_label="y", is_log=is_log)) == [""]
        assert "<svg" in line_chart([], x_label="x", y_label="y", is_log=is_log)


def test_a_logarithmic_axis_spaces_powers_evenly() -> None:
    chart = line_chart([Series("a", [0, 1, 2, 3], [1, 10, 100, 0])], x_label="x", y_label="y", is_log=True)
    ys = [float(point.split()[1]) for point in paths(chart)[0].replace("M", "L").split("L")[1:]]
    assert len(ys) == 3
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.02)
    ticks = [text.text for text in parse(chart).iter("text")]
    assert {"1", "10", "100"} <= set(ticks)


def test_long_lines_are_averaged_to_a_few_hundred_points() -> None:
    chart = line_chart([Series("a", list(range(5000)), [1.0] * 5000)], x_label="x", y_label="y")
    assert paths(chart)[0].count("L") == 399


def test_a_marker_names_its_point() -> None:
    chart = line_chart(
        [Series("a", [0, 1], [0, 1])], x_label="x", y_label="y", marker=Marker(0.5, 0.5, "F1 0.5 at 0.5")
    )
    assert "F1 0.5 at 0.5" in [text.text for text in parse(chart).iter("text")]


def test_a_heat_map_has_a_cell_for_each_count() -> None:
    counts = np.array([[3, 1], [0, 2]])
    chart = parse(heat_map(counts / 4, counts, ["cat", "dog"], row_label="object", column_label="detected"))
    titles = [title.text for title in chart.iter("title")]
    assert titles == ["cat → cat: 3 (75%)", "cat → dog: 1 (25%)", "dog → dog: 2 (50%)"]


def test_validation_is_placed_at_the_iteration_before_it(tmp_path: Path) -> None:
    rows = [
        {"lr": 0.1, "loss": 2.0, "time": 0.1, "epoch": 1, "iter": 10, "step": 10},
        {"coco/bbox_mAP": 0.25, "val_loss": 1.5, "data_time": 0.1, "time": 0.2, "step": 1},
        {"lr": 0.1, "loss": 1.0, "time": 0.1, "epoch": 2, "iter": 20, "step": 20},
        {"lr": 0.1, "loss": 1.25, "time": 0.1, "epoch": 2, "iter": 20, "step": 20},
        {"coco/bbox_mAP": 0.5, "val_loss": math.nan, "step": 2},
    ]
    path = tmp_path / "scalars.json"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    curves = read_training_log(path)
    assert curves.train["loss"] == ([10.0, 20.0], [2.0, 1.25])  # a resumed run logged iteration 20 again
    assert curves.val["coco/bbox_mAP"] == ([10.0, 20.0], [0.25, 0.5])
    assert curves.val["val_loss"] == ([10.0], [1.5])
    assert set(curves.train) == {"lr", "loss"}


def test_a_broken_log_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text('{"loss": 1}\n{"loss": \n')
    with pytest.raises(DataError, match="line 2 is not JSON"):
        read_training_log(path)
    path.write_text("[1]\n")
    with pytest.raises(DataError, match="line 1 is not a JSON object"):
        read_training_log(path)
    with pytest.raises(DataError, match="does not exist"):
        read_training_log(tmp_path / "no.json")
