"""Bars: what they count, and the one switch that hides them."""

import logging

import pytest

from jaxvlm import bars


@pytest.fixture
def switch():
  """Leaves the switch as it was."""
  logger = logging.getLogger("jaxvlm.bars")
  level = logger.level
  yield logger
  logger.setLevel(level)


def test_they_count_items_and_totals(capsys):
  assert list(bars.bar([3, 4], "items")) == [3, 4]
  with bars.bar(None, "bytes", total=5) as bar:
    bar.update(5)
  err = capsys.readouterr().err
  assert "items: 100%" in err and "2/2" in err
  assert "bytes: 100%" in err and "5/5" in err


def test_a_hidden_bar_yields_the_same_items(capsys):
  assert list(bars.bar([3, 4], "items", show=False)) == [3, 4]
  assert capsys.readouterr().err == ""


def test_what_is_over_before_anybody_asks_shows_none(capsys):
  assert list(bars.bar([3], "items", delay=bars.PATIENCE)) == [3]
  assert capsys.readouterr().err == ""


def test_one_switch_hides_them_all(switch, capsys):
  bars.hide()
  assert not bars.shown()
  assert list(bars.bar([3, 4], "items")) == [3, 4]
  assert capsys.readouterr().err == ""
  switch.setLevel(logging.NOTSET)
  assert bars.shown()
