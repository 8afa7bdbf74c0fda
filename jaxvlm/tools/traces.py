"""Answers to many questions as rows to learn from: a teacher's traces.

What is right and finished is kept, each text once; a question without such an
answer has no row. The file has the `messages` layout, which `jaxvlm train`
reads (`jaxvlm.data.own`).
"""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvlm import bars, wholefile
from jaxvlm.data import own
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.own import drops
from jaxvlm.data.rows import Encoder, Picture, Row
from jaxvlm.eval import drawn, harness
from jaxvlm.eval.drawn import Log
from jaxvlm.eval.harness import ProblemSet
from jaxvlm.rollout.generate import Generate
from jaxvlm.tasks import Task, final
from jaxvlm.typing import Params

_BATCHES = 8  # of prompts in memory at a time


class Kept(NamedTuple):
  """How many answers were drawn and kept.

  Attributes:
    rows: questions with a kept answer.
    questions: all that were asked.
    right: answers that are right.
    drawn: all answers.
    written: answers that were written.
  """

  rows: int
  questions: int
  right: int
  drawn: int
  written: int

  def __str__(self) -> str:
    return (
      f"{self.written} answers to {self.rows} of {self.questions} questions"
      f" written; {self.right} of {self.drawn} answers are right"
    )


class Parts(NamedTuple):
  """Where answers are kept as they are drawn, a file for each part of the rows.

  Attributes:
    folder: of the files.
    drawn_with: what decides the answers to given questions, as JSON.
  """

  folder: pathlib.Path
  drawn_with: Mapping[str, Any]

  def of(self, number: int, problems: ProblemSet) -> Log:
    """Returns the file of a part."""
    identity = {
      **self.drawn_with,
      "digest": problems.digest,
      "prompts": problems.prompts_digest,
    }
    file = self.folder / f"part-{number:05d}{drawn.SUFFIX}"
    return Log(file, identity, [row.id for row in problems.rows])


class Answer(NamedTuple):
  """An answer that was drawn.

  Attributes:
    row: what it answers.
    text: the response.
    right: whether the default reward pays it.
    finished: whether it came to its end.
  """

  row: Row
  text: str
  right: bool
  finished: bool


def read(
  path: str, out: pathlib.Path, *, split: str = "", pictures: str | None = None
) -> list[Row]:
  """Returns the questions of a user's rows; as `own.read` for `problems`.

  Pictures inside of the files are written beside `out`, for its rows to name.

  Raises:
    ValueError: more than 1 % of the records cannot be used.
  """
  table = own.read(
    path,
    own.problems,
    split=split,
    pictures=pictures,
    keep=out.parent / f"{out.stem}-pictures",
  )
  drops.check(table.dropped, table.found)
  return list(table.rows)


def draw(
  rows: Sequence[Row],
  encoder: Encoder,
  generate: Generate,
  params: Params,
  key: jax.Array,
  *,
  batch: int,
  log: Parts | None = None,
) -> list[Answer]:
  """Returns the answers of a policy to all rows, those of a row together.

  Args:
    rows: the questions.
    encoder: static shapes.
    generate: samples some completions per prompt.
    params: the policy.
    key: root of the samples.
    batch: questions in a batch.
    log: keeps answers as they are drawn; what it has is not drawn again.

  Raises:
    ValueError: more than 1 % of the rows cannot be used.
  """
  found = rows_lib.survey(rows, encoder)
  drops.check(found.dropped, len(rows))
  usable = [found.row(number) for number in range(len(found.kept))]
  # The pictures of a part are in memory, not those of all.
  size = _BATCHES * batch
  parts = [usable[at : at + size] for at in range(0, len(usable), size)]
  return [
    answer
    for number, part in enumerate(bars.bar(parts, "parts"))
    for answer in _draw_part(
      part,
      encoder,
      generate,
      params,
      jax.random.fold_in(key, number),
      batch,
      functools.partial(log.of, number) if log else None,
    )
  ]


def _draw_part(
  rows: Sequence[Row],
  encoder: Encoder,
  generate: Generate,
  params: Params,
  key: jax.Array,
  batch: int,
  log: Callable[[ProblemSet], Log] | None,
) -> list[Answer]:
  said: list[tuple[Row, str]] = []

  def reward(responses: Sequence[str], asked: Sequence[Row]) -> Any:
    said.extend(zip(asked, responses, strict=True))
    return final.scores(responses, asked)

  task = Task("traces", lambda _: rows, reward, final.METRICS, final.answer)
  # What cannot be used was counted; a picture that breaks late is left out.
  problems = harness.make_problem_set(
    "traces", rows, encoder, batch, task=task, max_missing=1.0
  )
  found = harness.evaluate(
    problems,
    generate,
    params,
    key,
    decode=encoder.chat.decode,
    log=log(problems) if log else None,
  )
  return [
    Answer(row, text, bool(right), bool(finished))
    for (row, text), right, finished in zip(
      said, np.ravel(found.accuracy), np.ravel(found.finished), strict=True
    )
  ]


def write(
  out: pathlib.Path,
  answers: Sequence[Answer],
  *,
  right: bool = True,
  most: int = 1,
) -> Kept:
  """Writes answers as rows to learn from, one a line.

  Args:
    out: a JSONL file, replaced whole.
    answers: from `draw`.
    right: whether only right answers are kept.
    most: answers a question at most.

  Raises:
    ValueError: there is none to keep.
  """
  kept: dict[str, list[Answer]] = {}
  for answer in answers:
    texts = kept.setdefault(answer.row.id, [])
    fits = answer.finished and answer.text.strip()
    if fits and (answer.right or not right) and len(texts) < most:
      if answer.text not in [other.text for other in texts]:
        texts.append(answer)
  lines = [
    json.dumps(_record(answer, number, out.parent)) + "\n"
    for texts in kept.values()
    for number, answer in enumerate(texts)
  ]
  if not lines:
    raise ValueError(
      f"none of {len(answers)} answers is {'right' if right else 'finished'}:"
      " there is nothing to learn from; draw more of them, raise"
      " max_new_tokens, or take a better teacher"
    )
  out.parent.mkdir(parents=True, exist_ok=True)
  wholefile.write_text(out, "".join(lines))
  return Kept(
    sum(map(bool, kept.values())),
    len(kept),
    sum(answer.right for answer in answers),
    len(answers),
    len(lines),
  )


def _record(answer: Answer, number: int, folder: pathlib.Path) -> dict:
  row = answer.row
  turns = [
    *({"role": turn.role, "content": turn.text} for turn in row.before),
    {"role": "user", "content": row.question},
    {"role": "assistant", "content": answer.text},
  ]
  record = {
    "id": f"{row.id}~{number}" if number else row.id,
    "messages": turns,
    "answer": row.reference,
  }
  if row.images:
    record["images"] = [_path(picture, folder) for picture in row.images]
  return record


def _path(picture: Picture, folder: pathlib.Path) -> str:
  """Returns a picture's path, relative to the file that names it if it can."""
  path, folder = pathlib.Path(picture).resolve(), folder.resolve()
  inside = path.is_relative_to(folder)
  return str(path.relative_to(folder) if inside else path)


def outside(answers: Sequence[Answer], folder: pathlib.Path) -> str:
  """Returns a picture that does not lie under a folder, "" if all do."""
  paths = (
    _path(picture, folder)
    for answer in answers
    for picture in answer.row.images
  )
  return next((path for path in paths if pathlib.Path(path).is_absolute()), "")
