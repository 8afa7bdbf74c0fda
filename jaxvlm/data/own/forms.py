"""From what a record says to rows, for one purpose each."""

from collections.abc import Callable, Sequence

from jaxvlm.data.negatives import Kind
from jaxvlm.data.own.example import Example
from jaxvlm.data.rows import Picture, Row
from jaxvlm.data.turns import PLACE, Turn

# `Row.reference_text` of a row that states no right answer.
NO_REFERENCE = "(none)"

# (name of the row, what its record says, its pictures) -> rows
Form = Callable[[str, Example, Sequence[Picture]], list[Row]]


def answered(
  name: str, example: Example, images: Sequence[Picture]
) -> list[Row]:
  """Returns rows with one response: what SFT learns.

  All that the assistant says is learned once. A conversation is one row; only
  where a later question brings pictures, it is continued by a row that has all
  before as its prompt, because pictures stand in prompts.

  Raises:
    ValueError: turns that do not alternate, no answer at the end.
  """
  turns = _checked(example)
  if turns[-1].role != "assistant":
    raise ValueError(
      "the last turn is the user's: expected the assistant's answer, which is"
      " what SFT learns; give a response"
    )
  asked = [i for i, turn in enumerate(turns) if turn.role == "user"]
  starts = [asked[0], *(i for i in asked[1:] if PLACE in turns[i].text)]
  rows = []
  for start, end in zip(starts, [*starts[1:], len(turns)], strict=True):
    said = turns[start + 1 : end]
    rows.append(
      _row(
        name if start == starts[0] else f"{name}#{start}",
        example,
        turns[: start + 1],
        images,
        responses=(said[0].text if len(said) == 1 else said,),
      )
    )
  return rows


def pairs(name: str, example: Example, images: Sequence[Picture]) -> list[Row]:
  """Returns a row with two responses: the last turn, and the rejected one.

  Raises:
    ValueError: turns that do not alternate, one of the two is missing, or they
      are the same.
  """
  turns = _checked(example)
  if turns[-1].role != "assistant" or example.rejected is None:
    missing = "chosen" if turns[-1].role != "assistant" else "rejected"
    raise ValueError(
      f"there is no {missing} answer: expected a better and a worse one, which"
      " is what preference losses compare"
    )
  chosen = turns[-1].text
  if chosen == example.rejected:
    raise ValueError("the chosen and the rejected answer are the same text")
  both = (chosen, example.rejected)
  kinds = ("", str(Kind.FILE))
  return [_row(name, example, turns[:-1], images, responses=both, kinds=kinds)]


def prompts(
  name: str, example: Example, images: Sequence[Picture]
) -> list[Row]:
  """Returns a row without responses: what RL and distillation sample from.

  Raises:
    ValueError: turns that do not alternate.
  """
  turns = _checked(example)
  if turns[-1].role == "assistant":
    turns = turns[:-1]
  return [_row(name, example, turns, images)]


def problems(
  name: str, example: Example, images: Sequence[Picture]
) -> list[Row]:
  """Returns a row without responses, but with an answer to score by.

  Raises:
    ValueError: turns that do not alternate, no answer.
  """
  if not (example.answer or "").strip():
    raise ValueError(
      "there is no answer: expected what is right, to score responses by"
    )
  return prompts(name, example, images)


def _checked(example: Example) -> tuple[Turn, ...]:
  """Returns turns that a template can write, or says what is wrong."""
  turns = example.turns
  roles = [turn.role for turn in turns]
  spoken = roles[1:] if roles[:1] == ["system"] else roles
  expected = ["user", "assistant"] * len(spoken)
  if not spoken or spoken != expected[: len(spoken)]:
    raise ValueError(
      f"the turns are {', '.join(roles) or 'none'}: expected user and assistant"
      " by turns, a system prompt in front if any"
    )
  for turn in turns:
    if turn.role != "user" and PLACE in turn.text:
      raise ValueError(
        f"{PLACE} stands in the {turn.role}'s text: expected pictures in the"
        " user's turns alone"
      )
  return turns


def _row(
  name: str,
  example: Example,
  turns: Sequence[Turn],
  images: Sequence[Picture],
  responses: tuple = (),
  kinds: tuple[str, ...] = (),
) -> Row:
  """Returns the row that asks the last of `turns`."""
  marked = sum(turn.text.count(PLACE) for turn in turns)
  whole = sum(turn.text.count(PLACE) for turn in example.turns)
  answer = (example.answer or "").strip() or None
  return Row(
    id=name,
    question=turns[-1].text,
    reference=answer,
    images=tuple(images[:marked] if whole else images),
    responses=responses,
    group=example.group,
    reference_text=answer or NO_REFERENCE,
    before=tuple(turns[:-1]),
    kinds=kinds,
  )
