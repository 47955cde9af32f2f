from __future__ import annotations

import pytest

from experiments.demo import demo


def test_a_folder_that_no_demo_has_made_is_left_alone(tmp_path):
    (tmp_path / "phantom").mkdir()
    with pytest.raises(ValueError, match="output_dir must be empty or the folder of an earlier demo"):
        demo(str(tmp_path))
    assert (tmp_path / "phantom").is_dir()
