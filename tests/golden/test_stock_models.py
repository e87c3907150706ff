"""MMDetection's own config files, as its wheel ships them, give the models that its records are compared with."""

from pathlib import Path
from typing import Any

import pytest

from fastdet.compat import load_experiment
from tests.config.wheels import unpack_configs
from tests.golden.configs import two_stage
from tests.golden.harness import spec_of
from tests.golden.test_dense import MODELS as DENSE

MODELS: dict[str, dict[str, Any]] = two_stage.MODELS | {name: model() for name, model in DENSE}


@pytest.mark.parametrize("name", MODELS)
def test_a_stock_config_is_the_model_of_its_record(name: str, tmp_path: Path) -> None:
    config = unpack_configs("3.3.0", tmp_path) / (name.replace("__", "/") + ".py")
    stock, own = load_experiment(config).model, spec_of(MODELS[name])
    # Changes of the batch's size while training were off when the records were made.
    changes = {key: None for key in ("train_size", "resize") if key in stock.args["preprocess"].args}
    assert stock.replace(preprocess=stock.args["preprocess"].replace(**changes)) == own.replace(
        preprocess=own.args["preprocess"].replace(**changes)
    )
