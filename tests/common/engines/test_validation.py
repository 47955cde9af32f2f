from __future__ import annotations

from unittest.mock import Mock

import pytest
from ignite.engine import Engine
from monai.engines import Evaluator

from common.engines import Validation


def make_validator(volumes=2):
    return Mock(spec=Evaluator, state=Mock(epoch_length=volumes))


@pytest.mark.parametrize(
    ("interval", "epochs", "expected"),
    [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (2, 4, [2, 4]), (9, 4, [4]), (4, 4, [4])],
)
def test_the_last_epoch_is_validated_in_any_case(interval, epochs, expected):
    validator = make_validator()
    engine = Engine(lambda *_: None)
    Validation(validator, interval).attach(engine)
    engine.run([0], max_epochs=epochs)
    assert [call.args[0] for call in validator.run.call_args_list] == expected


@pytest.mark.parametrize("interval", [0, -1, 1.5, "2", True])
def test_the_interval_is_checked(interval):
    with pytest.raises(ValueError, match="val_interval must be a whole number from 1, got"):
        Validation(make_validator(), interval)


def test_without_a_volume_nothing_is_validated():
    validator, engine = make_validator(volumes=0), Engine(lambda *_: None)
    Validation(validator, 1).attach(engine)
    engine.run([0], max_epochs=3)
    validator.run.assert_not_called()
