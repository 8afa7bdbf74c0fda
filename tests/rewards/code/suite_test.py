"""Unit tests as text: what they need of a program, and what is none."""

import json

import pytest

from jaxvlm.rewards.code import Tests


@pytest.mark.parametrize(
  "source,entry_point,names,in_process",
  [
    ("assert f(1) == 2", "", ("f",), False),
    ("assert f(1) == len([2])", "", ("f",), False),
    ("import math\nassert f(1) == math.pi", "", ("f",), False),
    ("import math as m\nassert f(m.pi)", "", ("f",), False),
    ("def help(): return 1\nassert f(help())", "", ("f",), False),
    ("for i in range(3):\n  assert f(i) == i", "", ("f",), False),
    ("assert [f(x) for x in (1, 2)] == [2, 3]", "", ("f",), False),
    ("def test_a():\n  x = 3\n  assert f(x)", "", ("f",), False),
    ("class TestF:\n  def test_a(self):\n    assert f(1)", "", ("f",), False),
    ("from solution import f\nassert f(1)", "", ("f",), False),
    ("from solution import *\nassert f(1)", "", ("f",), False),
    ("assert sum(1, 2) == 3", "sum", ("sum",), False),
    ("assert f(sys.maxsize) == 3", "", ("f",), False),
    ("assert f(Pair(1)) == 3", "", ("Pair", "f"), True),
    ("assert f(1) == g(1)", "", ("f", "g"), True),
    ("def check(c):\n  assert c(1) == 2", "f", ("f",), False),
    ("def check(c):\n  assert c(1) == f(1)", "f", ("f",), True),
    ("def check(c):\n  assert help(c(1)) == 2", "f", ("f",), False),
    ("def check(c):\n  assert poly(c(1)) == 2", "f", ("f", "poly"), True),
  ],
)
def test_what_tests_need(source, entry_point, names, in_process):
  tests = Tests(source, entry_point)
  assert tests.names == names
  assert tests.in_process == in_process
  packed = json.loads(tests.pack())
  assert packed["modules"] == (["sys"] if "sys." in source else [])


@pytest.mark.parametrize(
  "source,entry_point,said",
  [
    ("", "", "holds no test"),
    ("x = f(1)", "", "holds no test"),
    ("def help():\n  return f(1)", "f", "holds no test"),
    ("def check(c):\n  assert c(1)", "", "without an entry_point"),
    ("assert 1 == 1", "", "uses nothing of the program"),
    ("assert (", "", "SyntaxError"),
    ("assert f(1)\0", "", "null"),
    ("import pandas\nassert f(1)", "", "import pandas"),
    ("from os.path import join\nimport a.b\nassert f(1)", "", "import a.b"),
  ],
)
def test_what_is_no_test(source, entry_point, said):
  with pytest.raises(ValueError, match=said):
    Tests(source, entry_point)


def test_tests_that_are_too_long():
  with pytest.raises(ValueError, match="2400000 characters, expected at most"):
    Tests("assert f(1)\n" * 200_000)
