"""Does a response think first and box its answer?"""

import re

_DELIMITER = re.compile("([<>/])")
_MARKS = ("</think>", "\\boxed{", "}")


def squeeze(response: str) -> str:
  """Returns `response` without the white space around `<`, `>` and `/`.

  Some models write `< think >`. Splitting first keeps this linear, where the
  regular expression `\\s*(<|>|/)\\s*` is quadratic in a run of blanks.
  """
  pieces = _DELIMITER.split(response)
  if len(pieces) == 1:
    return response
  first, last = pieces[0].rstrip(), pieces[-1].lstrip()
  return "".join([first, *map(str.strip, pieces[1:-1]), last])


def format_reward(response: str) -> float:
  """Returns 1 if `response` is <think>…</think>…\\boxed{…}…, else 0.

  The language of `<think>.*</think>.*\\\\boxed\\{.*\\}.*` (dot matches all)
  after `squeeze`, as in EasyR1: each mark is searched behind the one before,
  which is all that the expression says, without its backtracking.

  Args:
    response: the completion's text.
  """
  text = squeeze(response)
  if not text.startswith("<think>"):
    return 0.0
  position = len("<think>")
  for mark in _MARKS:
    position = text.find(mark, position)
    if position < 0:
      return 0.0
    position += len(mark)
  return 1.0
