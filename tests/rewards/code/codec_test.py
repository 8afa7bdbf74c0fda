"""The codec: exact built-ins cross unchanged, everything else does not."""

import collections
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvlm.rewards.code import codec

ATOMS = (
  st.none()
  | st.booleans()
  | st.integers()
  | st.floats(allow_nan=False)
  | st.text()
  | st.binary()
)
VALUES = st.recursive(
  ATOMS,
  lambda inner: (
    st.lists(inner)
    | st.tuples(inner, inner)
    | st.dictionaries(st.text(), inner)
    | st.frozensets(ATOMS)
    | st.sets(ATOMS)
  ),
  max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(VALUES)
def test_values_come_back_as_they_were(value):
  back = codec.decode(codec.encode(value))
  assert back == value and _kinds(back) == _kinds(value)


def _kinds(value):
  """Returns the types in a value: True is 1, and 0.0 is 0."""
  if isinstance(value, dict):
    return [(key, _kinds(part)) for key, part in value.items()]
  if isinstance(value, set | frozenset):
    return type(value), sorted(map(repr, value))
  if isinstance(value, list | tuple):
    return type(value), [_kinds(part) for part in value]
  return type(value)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_malformed(data):
  try:
    value = codec.decode(data)
  except codec.Malformed:
    return
  codec.encode(value)  # it is one of the closed set


def test_kinds_beside_the_plain_ones():
  for value in (
    range(1, 9, 3), 1j, bytearray(b"x"), int, dict,
    collections.deque([1, 2]), collections.Counter("aab"),
    collections.OrderedDict([("b", 1), ("a", 2)]),
  ):  # fmt: skip
    back = codec.decode(codec.encode(value))
    assert back == value and type(back) is type(value)
  made = codec.decode(codec.encode(collections.defaultdict(int, a=1)))
  assert type(made) is dict and made == {"a": 1}
  assert math.isnan(codec.decode(codec.encode(math.nan)))
  for lazy in (map(str, [1, 2]), (str(i) for i in (1, 2)), iter(["1", "2"])):
    assert list(codec.decode(codec.encode(lazy))) == ["1", "2"]


class Number(int):
  def __eq__(self, other):
    return True

  __hash__ = int.__hash__


@pytest.mark.parametrize(
  "value",
  [
    Number(3), [Number(3)], {"a": Number(3)}, {Number(3)}, object(), len,
    Number, type("Text", (str,), {})("x"), type("List", (list,), {})(),
    ValueError("x"), lambda: 1, iter(int, 1),
  ],
  ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_subclass_is_not_its_base(value):
  with pytest.raises(codec.Unsendable):
    codec.encode(value)


def test_too_deep_and_too_large():
  deep = []
  for _ in range(10_000):
    deep = [deep]
  with pytest.raises(codec.Unsendable, match="nested more than"):
    codec.encode(deep)
  with pytest.raises(codec.Unsendable, match="of more than 1048576 bytes"):
    codec.encode("x" * (1 << 21))
  with pytest.raises(codec.Unsendable, match="more than 1048576 bytes"):
    codec.encode(i for i in iter(int, 1))
  nested = b"l\1\0\0\0" * 5000 + b"N\0\0\0\0"
  with pytest.raises(codec.Malformed, match="too deep"):
    codec.decode(nested)


@pytest.mark.parametrize(
  "data",
  [
    b"", b"i", b"i\5\0\0\0x", b"?\0\0\0\0", b"l\xff\xff\xff\xff",
    b"N\0\0\0\0N\0\0\0\0", b"B\1\0\0\0\7", b"k\5\0\0\0posix",
    b"S\1\0\0\0l\0\0\0\0", b"d\1\0\0\0l\0\0\0\0N\0\0\0\0",
    b"cposix\nsystem\n(S'true'\ntR.",
  ],
)  # fmt: skip
def test_malformed(data):
  with pytest.raises(codec.Malformed):
    codec.decode(data)
