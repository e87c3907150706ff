"""The Experiment: frozen, compared by value, JSON-able, checked when made."""

import json
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace

import pytest

from fastdet.config import schema
from fastdet.config.schema import (
    Checkpoints,
    Data,
    DataSplit,
    Ema,
    Experiment,
    Loop,
    Optimizer,
    Pretrained,
    Runtime,
)
from fastdet.registry import FrozenDict, Source, Spec


def example(line: int = 1) -> Experiment:
    model = Spec.of("FasterRCNN", backbone=Spec.of("ResNet", depth=50, out_indices=(0, 1)), sizes=[[1, 2]])
    dataset = Spec.of("CocoDataset", ann_file="a.json", transforms=(Spec.of("Resize", scale=(4, 3)),))
    return Experiment(
        model=Spec(model.type, model.args, Source("c.py", line)),
        weights=(Pretrained(module="backbone", checkpoint="torchvision://resnet50"),),
        classes=("cat", "dog"),
        data=Data(train=DataSplit(dataset=dataset, batch_size=2, num_workers=1, shuffle=True)),
        optimizer=Optimizer(algorithm=Spec.of("SGD", lr=0.02), clip=FrozenDict(max_norm=35)),
        schedule=(Spec.of("MultiStepLR", milestones=(8, 11)),),
        loop=Loop(length=12),
        val_metrics=(Spec.of("CocoMetric", metric=("bbox",)),),
        runtime=Runtime(checkpoints=Checkpoints(keep=3), ema=Ema(momentum=0.001), seed=3),
    )


def test_experiments_are_equal_by_value_wherever_they_were_written() -> None:
    assert example(1) == example(99)
    assert replace(example(), classes=("dog", "cat")) != example()
    assert example().data == example().data
    other = replace(example().runtime, ema=None)
    assert replace(example(), runtime=other) != example()


def test_nothing_of_an_experiment_can_be_changed() -> None:
    experiment = example()
    with pytest.raises(FrozenInstanceError):
        experiment.classes = ()  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        experiment.loop.length = 1  # type: ignore[misc]
    with pytest.raises(TypeError, match="frozen"):
        experiment.model.args["backbone"] = None
    assert experiment.optimizer is not None
    assert experiment.optimizer.clip is not None
    with pytest.raises(TypeError, match="frozen"):
        experiment.optimizer.clip["max_norm"] = 1


def test_every_section_is_frozen_and_keyword_only() -> None:
    sections = [v for v in vars(schema).values() if is_dataclass(v) and v.__module__ == schema.__name__]
    assert len(sections) == 9
    for section in sections:
        assert section.__dataclass_params__.frozen, section
        assert all(f.kw_only for f in fields(section)), section


def test_to_dict_goes_to_json_and_back_unchanged() -> None:
    plain = example().to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["model"] == {
        "type": "FasterRCNN",
        "backbone": {"type": "ResNet", "depth": 50, "out_indices": [0, 1]},
        "sizes": [[1, 2]],
    }
    assert plain["data"]["val"] is None
    assert plain["data"]["train"]["dataset"]["transforms"] == [{"type": "Resize", "scale": [4, 3]}]
    assert plain["weights"] == [{"module": "backbone", "checkpoint": "torchvision://resnet50", "prefix": ""}]
    assert plain["optimizer"]["clip"] == {"max_norm": 35}


def test_equal_experiments_have_equal_dicts_and_unequal_ones_do_not() -> None:
    assert example(1).to_dict() == example(2).to_dict()
    assert replace(example(), loop=Loop(length=24)).to_dict() != example().to_dict()


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
def test_counts_must_be_whole_and_positive(value: object) -> None:
    dataset, sgd = Spec.of("D"), Spec.of("SGD")
    for make in (
        lambda: DataSplit(dataset=dataset, batch_size=value),  # type: ignore[arg-type]
        lambda: Optimizer(algorithm=sgd, accumulate=value),  # type: ignore[arg-type]
        lambda: Loop(length=value),  # type: ignore[arg-type]
        lambda: Loop(val_interval=value),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=rf"at least 1, not {value!r}"):
            make()


def test_no_workers_are_allowed_and_less_than_none_are_not() -> None:
    assert DataSplit(dataset=Spec.of("D")).num_workers == 0
    with pytest.raises(ValueError, match="num_workers must be a whole number of at least 0, not -1"):
        DataSplit(dataset=Spec.of("D"), num_workers=-1)
