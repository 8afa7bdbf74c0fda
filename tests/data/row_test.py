"""A row: what its fields may be."""

import numpy as np
import pytest

from jaxvlm.data.rows import Row


@pytest.mark.parametrize(
  "field,value,kind",
  [
    ("responses", "abc", "str"),
    ("responses", "", "str"),
    ("images", "one.png", "str"),
    ("images", b"GIF", "bytes"),
    ("images", np.zeros((56, 56, 3), np.uint8), "ndarray"),
  ],
)
def test_one_thing_is_no_tuple_of_them(field, value, kind):
  with pytest.raises(ValueError, match=f"row 'a': {field} is one {kind}, expe"):
    Row("a", "?", "7", **{field: value})
