"""A study's problems: rows to learn from and sets to measure on, encoded."""

import dataclasses
import logging
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxvlm.data import images, surveys
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.chat import Chat
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder, Row, Survey
from jaxvlm.eval.harness import ProblemSet, make_problem_set
from jaxvlm.study.config import DataConfig, StudyConfig
from jaxvlm.tasks import Task, check_readable


class Measured(NamedTuple):
  """Problems of one set.

  Attributes:
    name: where the numbers are filed.
    rows: the problems.
    asked: how many of them a study asks for.
    task: whose problems they are; None: those of training.
  """

  name: str
  rows: Sequence[Row]
  asked: int
  task: Task | None = None


@dataclasses.dataclass(frozen=True)
class Problems:
  """Surveyed rows of a study.

  Attributes:
    task: of the rows to learn from.
    chat: tokenizer and template.
    encoder: static shapes.
    training: name -> rows to learn from.
    evaluation: problem sets, the one that ranks checkpoints first.
    held_out: name -> rows whose loss is measured and that are never learned.
    asked: name -> how many rows to learn from were asked for.
  """

  task: Task
  chat: Chat
  encoder: Encoder
  training: Mapping[str, Survey]
  evaluation: tuple[ProblemSet, ...]
  held_out: Mapping[str, Survey] = dataclasses.field(default_factory=dict)
  asked: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def record(self) -> dict[str, Any]:
    """Returns what a run stores of its rows to learn from: plain JSON."""
    return {
      name: {
        "asked": self.asked.get(name, len(survey.rows)),
        "found": len(survey.kept),
        "digest": survey.digest,
        "dropped": [list(pair) for pair in survey.dropped],
      }
      for name, survey in self.training.items()
    }


def load(
  config: StudyConfig,
  chat: Chat,
  task: Task,
  training: Mapping[str, Sequence[Row]],
  evaluation: Sequence[Measured],
  *,
  folder: pathlib.Path | None = None,
  write: bool = True,
  held_out: Mapping[str, Sequence[Row]] = types.MappingProxyType({}),
  asked: Mapping[str, int] = types.MappingProxyType({}),
) -> Problems:
  """Surveys and encodes a study's problems.

  Args:
    config: settings.
    chat: the student's tokenizer and template.
    task: of the rows to learn from.
    training: name -> rows to learn from.
    evaluation: what is measured; sets of which none is asked for are left out.
    folder: keeps the surveys for the next start; None keeps nothing.
    write: False reads what is kept and adds nothing.
    held_out: name -> rows whose loss is measured.
    asked: name -> how many of the rows to learn from a study asks for, the
      first ones; all of those that are not named.

  Raises:
    ValueError: a task of pictures and a model of text; more rows than
      `data.max_dropped` cannot be used, or more problems than
      `evaluation.max_missing` are missing.
  """
  data, e = config.data, config.evaluation
  encoder = make_encoder(data, chat)
  for of in (task, *(found.task for found in evaluation if found.task)):
    check_readable(of, chat)

  def survey(
    name: str, rows: Sequence[Row], limit: float = data.max_dropped
  ) -> Survey:
    if folder is None:
      found = rows_lib.survey(rows, encoder)
    else:
      file = folder / f"{name}.json"
      found = surveys.survey(file, rows, encoder, write=write)
    _check_dropped(name, found, limit)
    return found

  surveyed = {
    name: survey(name, rows[: asked[name]] if name in asked else rows)
    for name, rows in training.items()
  }
  for name, found in surveyed.items():
    _tell(name, asked.get(name, len(found.rows)), found)
  return Problems(
    task=task,
    chat=chat,
    encoder=encoder,
    training=surveyed,
    evaluation=tuple(
      make_problem_set(
        measured.name,
        measured.rows,
        encoder,
        e.prompts,
        task=measured.task or task,
        asked=measured.asked,
        max_missing=e.max_missing,
      )
      for measured in evaluation
      if measured.asked
    ),
    held_out={
      name: survey(name, rows, e.max_missing) for name, rows in held_out.items()
    },
    asked=asked,
  )


def _tell(name: str, asked: int, found: Survey) -> None:
  """Says how many rows there are to learn from, loudly if there are fewer."""
  less = len(found.rows) < asked
  logging.log(
    logging.WARNING if less else logging.INFO,
    "%s: %d rows to learn from asked for, %d there, %d of them dropped%s",
    name,
    asked,
    len(found.rows),
    len(found.dropped),
    f": the run trains on {len(found.kept)}" if less else "",
  )


def make_encoder(data: DataConfig, chat: Chat) -> Encoder:
  """Returns the encoder that the settings describe."""
  return Encoder(
    chat=chat,
    budget=PixelBudget(data.min_pixels, data.max_pixels),
    buckets=tuple(
      Bucket(s, p)
      for s, p in zip(data.prompt_tokens, data.patch_slots, strict=True)
    ),
    max_new_tokens=data.max_new_tokens,
  )


def warn_of_shapes(encoder: Encoder) -> None:
  """Says so if pictures within the pixel limits may not fit any bucket."""
  room = images.largest(encoder.chat.layout, encoder.budget)
  bucket = encoder.buckets[-1]
  if room.slots > bucket.patch_slots or room.tokens >= bucket.prompt_tokens:
    logging.warning(
      "data.max_pixels %d admits pictures that take %d tokens and %d patch"
      " slots, the largest bucket has %d and %d: rows with such pictures are"
      " dropped and named; raise data.prompt_tokens and data.patch_slots, or"
      " lower data.max_pixels",
      encoder.budget.max_pixels,
      *room,
      *bucket,
    )


def _check_dropped(name: str, found: Survey, limit: float) -> None:
  """Raises ValueError if more than a share of `limit` was dropped."""
  share = len(found.dropped) / len(found.rows)
  if share > limit:
    raise ValueError(
      f"{len(found.dropped)} of {len(found.rows)} {name} cannot be used"
      f" ({share:.1%}), expected at most {limit:.1%}; the first,"
      f" {found.dropped[0][0]!r}: {found.dropped[0][1]}. Mend the data, or"
      " raise --data.max_dropped"
    )
