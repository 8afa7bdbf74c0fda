"""Figures and pages: escaping, self-containment, and what readers see."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from jaxvlm.eval import figures, report
from jaxvlm.eval.figures import Curve, Level, Picture, Style

_STYLE = Style("arm", "#ff0000")


def _pixels(picture: Picture) -> np.ndarray:
  return np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB"), int)


def _red(picture: Picture) -> int:
  red, green, blue = np.moveaxis(_pixels(picture), -1, 0)
  return int(((red > 200) & (green < 60) & (blue < 60)).sum())


def test_panel_draws_each_curve_in_its_color():
  curve = Curve(_STYLE, np.arange(5.0), np.arange(5.0))
  drawn = figures.panel([curve], title="t", xlabel="x", ylabel="y")
  assert _red(drawn) > 500


def test_panel_draws_band_and_level():
  x = np.arange(5.0)
  bare = figures.panel([Curve(_STYLE, x, x)], title="", xlabel="", ylabel="")
  band = figures.panel(
    [Curve(_STYLE, x, x, x - 1, x + 1)], title="", xlabel="", ylabel=""
  )
  level = figures.panel(
    [Curve(_STYLE, x, x)],
    title="",
    xlabel="",
    ylabel="",
    levels=[Level("teacher", 2.0)],
  )

  def pink(picture):
    red, green, _ = np.moveaxis(_pixels(picture), -1, 0)
    return ((red > 240) & (green > 180) & (green < 235)).sum()

  assert pink(band) > 10 * max(pink(bare), 1)
  assert not np.array_equal(_pixels(level), _pixels(bare))


def test_panels_are_reproducible():
  curve = Curve(_STYLE, np.arange(3.0), np.array([1.0, np.nan, 2.0]))
  first, second = (
    figures.panel([curve], title="t", xlabel="x", ylabel="y") for _ in range(2)
  )
  assert first == second


def test_running_mean_shrinks_at_the_ends_and_skips_nan():
  values = np.array([1.0, 2.0, 6.0, np.nan, 10.0])
  np.testing.assert_allclose(
    figures.running_mean(values, 3), [1.5, 3.0, 4.0, 8.0, 10.0]
  )
  np.testing.assert_array_equal(figures.running_mean(values, 1), values)
  assert np.isnan(figures.running_mean(np.full(4, np.nan), 3)).all()


def test_running_mean_longer_than_the_series():
  values = np.array([1.0, 3.0])
  np.testing.assert_allclose(figures.running_mean(values, 7), [2.0, 2.0])


def test_running_mean_names_an_even_window():
  with pytest.raises(ValueError, match="window: got 4, expected an odd"):
    figures.running_mean(np.arange(9.0), 4)


def test_page_is_self_contained_and_escapes_what_it_is_given():
  html = report.page(
    "<title>",
    "a & b",
    [report.paragraph("<script>alert(1)</script>")],
    [
      report.Section(
        "1 < 2",
        [
          report.table(("a", "b"), [("<i>", "x")], caption="<b>"),
          report.notice("<u>", ["<s>"]),
          report.image(b"\x89PNG", alt='"<'),
          report.gallery([report.image(b"1", alt="")], caption="<em>"),
          report.colored_tokens(["<eos>"], [0.1], 1.0),
        ],
      )
    ],
  )
  for forbidden in (
    "<script",
    "<i>",
    "<u>",
    "<s>",
    "<em>",
    "<eos>",
    "<title><",
  ):
    assert forbidden not in html
  assert "&lt;eos&gt;" in html and "1 &lt; 2" in html
  addresses = re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)", html)
  assert addresses and all(a.startswith("data:") for a, _ in addresses)


def test_table_repeats_no_group_label():
  html = report.table(
    ("arm", "when", "n"),
    [("A", "entry", 1), ("A", "end", 2), ("B", "entry", 3)],
    caption="",
    text_columns=2,
  )
  cells = re.findall(r"<td[^>]*>([^<]*)</td>", html)
  assert cells == ["A", "entry", "1", "", "end", "2", "B", "entry", "3"]
  assert html.count('class="group"') == 2


def test_shade_grows_with_the_value_and_saturates():
  html = report.colored_tokens(list("abcde"), [0.0, 0.5, 1.0, 2.0, 9.0], 2.0)
  opacities = [float(o) for o in re.findall(r", ([\d.]+)\)\"", html)]
  assert opacities[0] == 0 and opacities[3] == opacities[4]
  assert opacities[:4] == sorted(set(opacities[:4]))
  assert 'title="0.500">b<' in html


def test_tokens_keep_line_ends_visible():
  assert "a↵<br>" in report.colored_tokens(["a\n"], [0.0], 1.0)


def test_tokens_and_values_must_match():
  with pytest.raises(ValueError, match="values: got 1, expected 2"):
    report.colored_tokens(["a", "b"], [0.0], 1.0)
  with pytest.raises(ValueError, match="high: got 0"):
    report.colored_tokens(["a"], [0.0], 0.0)


def test_numbers_read_well():
  assert report.signless(-0.04, 1) == "0.0"
  assert report.signless(-1.26, 1) == "−1.3"
  assert report.signed(1.26, 1) == "+1.3"
  assert report.signed(-1.26, 1) == "−1.3"
  assert report.signed(0.01, 1) == "0.0"
  assert "+1.0" in report.difference(1, -2, 3, 1)
  assert "[−2.0, 3.0]" in report.number(1, -2, 3, 1)
