"""The linear scanner speaks the language of the regular expression."""

import re
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from jaxvlm.rewards import format as format_

_FORMAT = re.compile(r"<think>.*</think>.*\\boxed\{.*\}.*", re.DOTALL)
_PIECES = [
  "<think>", "</think>", "\\boxed{", "}", "{", "<", ">", "/", "think", " ",
  "\n", "\t", "\u2003", "a", "\\boxed", "< think >", "< / think >",
]  # fmt: skip


def _oracle(text):
  squeezed = re.sub(r"\s*(<|>|/)\s*", r"\1", text)
  return squeezed, float(_FORMAT.fullmatch(squeezed) is not None)


@hypothesis.given(st.lists(st.sampled_from(_PIECES), max_size=10).map("".join))
@hypothesis.settings(max_examples=600, deadline=None)
def test_same_language_as_the_expression(text):
  squeezed, expected = _oracle(text)
  assert format_.squeeze(text) == squeezed
  assert format_.format_reward(text) == expected


@hypothesis.given(
  st.lists(
    st.sampled_from(["", " ", "\n", "a", "\\boxed{", "}", "</think>"]),
    min_size=5,
    max_size=5,
  )
)
@hypothesis.settings(max_examples=200, deadline=None)
def test_near_misses(gaps):
  marks = ["<think>", "</think>", "\\boxed{", "}"]
  whole = "".join(a + b for a, b in zip(gaps, [*marks, ""], strict=True))
  assert format_.format_reward(whole) == _oracle(whole)[1]
  for left_out in marks:
    text = whole.replace(left_out, "")
    assert format_.format_reward(text) == _oracle(text)[1]


@hypothesis.given(st.text(max_size=30))
def test_any_text_is_squeezed_as_the_expression_does(text):
  assert format_.squeeze(text) == _oracle(text)[0]


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("<think>so</think> \\boxed{5}", 1.0),
    (" < think > so < / think > \\boxed{5} done", 1.0),
    ("<think></think>\\boxed{}", 1.0),
    ("<think>so \\boxed{5}</think>", 0.0),
    ("so <think>so</think> \\boxed{5}", 0.0),
    ("<think>so</think> \\boxed{5", 0.0),
    ("<think>so \\boxed{5}", 0.0),
    ("\\boxed{5}", 0.0),
    ("", 0.0),
  ],
)
def test_examples(text, expected):
  assert format_.format_reward(text) == expected


@pytest.mark.parametrize(
  "text",
  [
    "<think>" + " " * 32_000 + "x",
    "<think>" * 5000,
    "<think></think>" + "\\boxed{" * 5000,
    "<think>" + "</think>\\boxed{" * 2500,
    " <" * 16_000,
  ],
)
def test_linear_time(text):
  start = time.process_time()
  format_.format_reward(text)
  assert time.process_time() - start < 0.5
