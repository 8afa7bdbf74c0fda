"""What a terminal shows of answers."""

import re

from hypothesis import given
from hypothesis import strategies as st

from jaxvlm.rollout.answer import Word
from jaxvlm.tools import show


def words_of(number, texts, entropy=0.0):
  last = len(texts) - 1
  return [
    Word(number, 7, text, entropy, i == last) for i, text in enumerate(texts)
  ]


ANSWERS = st.lists(
  st.lists(st.text("ab½ ", max_size=3), min_size=1, max_size=5),
  min_size=1,
  max_size=5,
)


@given(answers=ANSWERS, data=st.data())
def test_mixed_answers_are_printed_in_order_and_as_early_as_can_be(
  answers, data
):
  queues = [words_of(i, texts) for i, texts in enumerate(answers)]
  arrived, printed = [], []

  def arrive():
    while any(queues):
      # Nothing of the answer whose turn it is waits when the next word comes.
      shown = "".join(printed)
      turn = shown.count("\n")
      heard = "".join(w.text for w in arrived if w.completion == turn)
      assert shown.rpartition("\n")[2] == heard
      number = data.draw(
        st.sampled_from([i for i, queue in enumerate(queues) if queue])
      )
      arrived.append(queues[number].pop(0))
      yield arrived[-1]

  for piece in show.in_order(arrive(), len(answers), show.plain):
    printed.append(piece)
  expected = "".join("".join(texts) + "\n" for texts in answers)
  assert "".join(printed) == expected


def test_colors_go_from_blue_to_red():
  shades = []
  for entropy in (0.0, -1e-7, 0.5, 1.0, 1.9, 2.0, 50.0):
    painted = show.paint(Word(0, 7, "x", entropy, False))
    (shade,) = re.fullmatch(r"\033\[38;5;(\d+)mx\033\[0m", painted).groups()
    shades.append(int(shade))
  assert shades == [33, 33, 44, 154, 196, 196, 196]
  # A token without text paints nothing.
  assert show.paint(Word(0, 7, "", 1.0, True)) == ""
  assert "2 nats" in show.legend() and "\033[38;5;196m" in show.legend()


def test_what_a_terminal_would_obey_is_shown():
  word = Word(0, 7, "a\033[2J\r\x07\x9b\x7f\tb\n½", 0.0, False)
  assert show.plain(word) == "a␛[2J␍␇\ufffd␡\tb\n½"
  assert show.paint(word).count("\033") == 2


def test_counts_of_distinct_answers():
  texts = [
    "<think>x</think> \\boxed{70}",
    "so \\boxed{ 70 }",
    "it is\n  seventy",
    "",
    "word " * 50,
    "\033[2J",
  ]
  lines = show.count(texts).splitlines()
  assert lines[:3] == ["", "5 distinct answers in 6:", "    2  70"]
  assert set(lines[3:6]) >= {"    1  it is seventy", "    1  (no text)"}
  assert all(len(line) <= 80 for line in lines)
  assert "\033" not in "".join(lines)


def test_spellings_of_one_answer_count_as_one():
  texts = [f"\\boxed{{{a}}}" for a in ("1/2", "0.5", "0.5", "3", r"\frac12")]
  assert show.count(texts).splitlines() == [
    "",
    "2 distinct answers in 5:",
    "    4  0.5",
    "    1  3",
  ]


def test_answers_as_a_whole():
  mixed = [*words_of(1, ["a", "b"], 0.5), *words_of(0, ["c"], 2.0)]
  assert show.answers(mixed, 3) == [("c", 1, 2.0), ("ab", 2, 0.5), ("", 0, 0.0)]
