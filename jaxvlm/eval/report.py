"""Self-contained HTML pages: what a study shows, in one file.

Style sheet and pictures are inside the file, there is no script, and nothing
is fetched: a page can be mailed, printed and read in ten years. Whatever comes
from data is escaped; only what this module builds is markup.
"""

import base64
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jinja2
import markupsafe
from markupsafe import Markup

from jaxvlm.eval import templates

# Red of the color-blind-safe palette, laid under the text.
_HEAT = "213, 94, 0"
_MOST_OPAQUE = 0.72
_NUMBER = Markup('<b>{}</b> <span class="ci">[{}, {}]</span>')


@dataclasses.dataclass(frozen=True)
class Section:
  """A heading and what stands below it."""

  title: str
  body: Sequence[Markup]


def page(
  title: str, subtitle: str, lead: Sequence[Markup], sections: Sequence[Section]
) -> str:
  """Returns a whole HTML document.

  Args:
    title: heading and window title.
    subtitle: one line below it.
    lead: what stands before the first section.
    sections: the rest, in order.
  """
  return _template(templates.PAGE).render(
    title=title,
    subtitle=subtitle,
    lead=lead,
    sections=sections,
    css=templates.CSS,
  )


def paragraph(text: str, *, kind: str = "") -> Markup:
  """Returns a paragraph; kind is a class of the style sheet."""
  return Markup('<p class="{}">{}</p>').format(kind, text)


def notice(title: str, lines: Sequence[str]) -> Markup:
  """Returns a box that lists what the reader must know first."""
  return Markup(
    _template(
      '<aside class="notice"><strong>{{ title }}</strong><ul>'
      "{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul></aside>"
    ).render(title=title, lines=lines)
  )


def table(
  header: Sequence[str],
  rows: Sequence[Sequence[Any]],
  *,
  caption: str,
  text_columns: int = 1,
) -> Markup:
  """Returns a table that scrolls sideways where the screen is narrow.

  Args:
    header: column names.
    rows: cells, text or markup; a row that begins like the one above it
      leaves its first cell empty.
    caption: what the table shows.
    text_columns: how many of the first columns are text, set to the left.
  """
  return Markup(
    _template(templates.TABLE).render(
      header=header, rows=rows, caption=caption, text_columns=text_columns
    )
  )


def number(mean: float, low: float, high: float, digits: int) -> Markup:
  """Returns a number with its interval behind it, smaller."""
  return _NUMBER.format(*(signless(v, digits) for v in (mean, low, high)))


def difference(mean: float, low: float, high: float, digits: int) -> Markup:
  """Returns a difference, signed, with its interval behind it."""
  return _NUMBER.format(*(signed(v, digits) for v in (mean, low, high)))


def signless(value: float, digits: int) -> str:
  """Returns a rounded number with a real minus, and never a negative 0."""
  text = f"{value:.{digits}f}"
  if float(text) == 0:
    text = text.lstrip("-")
  return text.replace("-", "−")


def signed(value: float, digits: int) -> str:
  """Returns a rounded difference with its sign."""
  text = signless(value, digits)
  return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def image(png: bytes, *, alt: str) -> Markup:
  """Returns a picture, inside the page."""
  return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(
    base64.b64encode(png).decode("ascii"), alt
  )


def gallery(pictures: Sequence[Markup], *, caption: str) -> Markup:
  """Returns pictures side by side, or below each other on a narrow screen."""
  return Markup(
    _template(
      '<figure class="gallery"><div>{% for p in pictures %}{{ p }}{% endfor %}'
      "</div><figcaption>{{ caption }}</figcaption></figure>"
    ).render(pictures=pictures, caption=caption)
  )


def colored_tokens(
  tokens: Sequence[str], values: Sequence[float], high: float
) -> Markup:
  """Returns a text whose tokens are shaded by a value, such as entropy.

  Args:
    tokens: pieces of text; a line end is shown and kept.
    values: f[n], one a token, from 0.
    high: the value of the deepest shade.

  Raises:
    ValueError: numbers of tokens and values differ, or high is not positive.
  """
  if len(tokens) != len(values):
    raise ValueError(
      f"values: got {len(values)}, expected {len(tokens)}, one a token"
    )
  spans = [
    Markup('<span style="background:{}" title="{}">{}</span>').format(
      _shade(value, high), f"{value:.3f}", _visible(token)
    )
    for token, value in zip(tokens, values, strict=True)
  ]
  return Markup('<div class="tokens">{}</div>').format(Markup("").join(spans))


def shade_legend(high: float, label: str) -> Markup:
  """Returns the scale of `colored_tokens`."""
  steps = [high * i / 4 for i in range(5)]
  spans = [
    Markup('<span style="background:{}">{}{}</span>').format(
      _shade(value, high), f"{value:.2f}", "+" if value == high else ""
    )
    for value in steps
  ]
  return Markup('<p class="legend">{} {}</p>').format(
    label, Markup("").join(spans)
  )


def _shade(value: float, high: float) -> str:
  if not high > 0:
    raise ValueError(f"high: got {high}, expected a positive value")
  share = min(max(value / high, 0.0), 1.0)
  return f"rgba({_HEAT}, {_MOST_OPAQUE * share:.3f})"


def _visible(token: str) -> Markup:
  return markupsafe.escape(token).replace("\n", Markup("↵<br>"))


@functools.cache
def _template(source: str) -> jinja2.Template:
  environment = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.from_string(source)
