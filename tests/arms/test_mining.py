import numpy as np
import pytest

from posegen.arms.mining import mine
from posegen.errors import DataError


def test_keeps_the_hardest_without_the_very_hardest():
    errors = np.arange(100.0)[::-1]  # row 0 is the hardest
    assert mine(errors, keep=20, drop_top=0.1).tolist() == list(range(10, 30))


def test_too_small_a_pool_is_an_error():
    with pytest.raises(DataError, match="no 95 rows"):
        mine(np.zeros(100), keep=95, drop_top=0.1)
