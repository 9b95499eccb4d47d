"""A run that was begun goes on with what it was begun with, and refuses the rest in words."""

import pytest

from cicy_utils.identity import require_same_run


def test_another_run_is_refused_by_naming_every_difference(tmp_path):
    saved = {"settings": {"seed": 42, "batch_size": 128}, "data": {"layout": "stored"}}
    current = {"settings": {"seed": 43, "batch_size": 128}, "data": {"layout": "descending"}}
    require_same_run(tmp_path, saved, saved)
    with pytest.raises(ValueError) as error:
        require_same_run(tmp_path, saved, current)
    assert "data.layout 'stored' (now 'descending')" in str(error.value)
    assert "settings.seed 42 (now 43)" in str(error.value)
    assert "batch_size" not in str(error.value)
