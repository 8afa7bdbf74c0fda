"""The study's problems: traces for SFT, prompts for OPD and GRPO, test sets."""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence

from jaxvlm.data import diagrams, images, surveys
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.chat import Chat
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder, Row, Survey
from jaxvlm.data.sources.world import Mixture
from jaxvlm.eval.harness import ProblemSet, make_problem_set
from jaxvlm.study.config import Dataset, StudyConfig
from jaxvlm.tasks import Task, check_readable, geometry3k, world


@dataclasses.dataclass(frozen=True)
class Problems:
  """Surveyed rows of the study.

  Attributes:
    task: of the rows to train on.
    chat: tokenizer and template.
    encoder: static shapes.
    traces: worked solutions for SFT.
    prompts: problems for OPD and GRPO.
    evaluation: problem sets, in-domain first.
  """

  task: Task
  chat: Chat
  encoder: Encoder
  traces: Survey
  prompts: Survey
  evaluation: tuple[ProblemSet, ...]


def load(
  study: StudyConfig,
  chat: Chat,
  folder: pathlib.Path | None = None,
  *,
  write: bool = True,
) -> Problems:
  """Reads, surveys and encodes the study's problems.

  Args:
    study: settings.
    chat: the student's tokenizer and template.
    folder: keeps the surveys for the next start; None keeps nothing.
    write: False reads what is kept and adds nothing.
  """
  data, e = study.data, study.evaluation
  encoder = Encoder(
    chat=chat,
    budget=PixelBudget(data.min_pixels, data.max_pixels),
    buckets=tuple(
      Bucket(s, p)
      for s, p in zip(data.prompt_tokens, data.patch_slots, strict=True)
    ),
    max_new_tokens=data.max_new_tokens,
  )
  task, traces, prompts, tests = _SOURCES[study.dataset](study)
  check_readable(task, chat)
  if study.dataset is Dataset.GEOMETRY3K:  # the world's pictures have one size
    _warn_of_shapes(encoder)

  def survey(name: str, rows: Sequence[Row]) -> Survey:
    if folder is None:
      found = rows_lib.survey(rows, encoder)
    else:
      file = folder / f"{name}.json"
      found = surveys.survey(file, rows, encoder, write=write)
    _check_dropped(name, found, data.max_dropped)
    return found

  return Problems(
    task=task,
    chat=chat,
    encoder=encoder,
    traces=survey("traces", traces),
    prompts=survey("prompts", prompts),
    evaluation=tuple(
      make_problem_set(
        name,
        rows,
        encoder,
        e.prompts,
        task=task,
        asked=asked,
        max_missing=e.max_missing,
      )
      for name, rows, asked in tests
      if asked
    ),
  )


def _warn_of_shapes(encoder: Encoder) -> None:
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


def _world(study: StudyConfig):
  data, e = study.data, study.evaluation
  task = world.task()
  solved = world.task(Mixture((data.trace_style,)))
  return (
    task,
    solved.rows(diagrams.SFT_TRACES.name)[: data.traces],
    task.rows(diagrams.RL_TRAIN.name)[: data.train_problems],
    tuple(
      (name, task.rows(split.name)[:asked], asked)
      for name, split, asked in (
        ("in_domain", diagrams.VALIDATION, e.in_domain),
        ("out_of_domain", diagrams.VALIDATION_OOD, e.out_of_domain),
      )
    ),
  )


def _geometry3k(study: StudyConfig):
  data, e = study.data, study.evaluation
  task = geometry3k.task(study.data_dir)
  train = task.rows("train")
  prompts = [dataclasses.replace(row, responses=()) for row in train]
  test = task.rows(e.split)
  return (
    task,
    train[: data.traces],
    prompts[: data.train_problems],
    (("in_domain", test[: e.in_domain], e.in_domain),),
  )


_SOURCES = {Dataset.WORLD: _world, Dataset.GEOMETRY3K: _geometry3k}
