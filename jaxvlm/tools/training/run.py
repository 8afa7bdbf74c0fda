"""One run of one objective: from settings to a trained policy and its page."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from jaxvlm import distributed
from jaxvlm.data import own
from jaxvlm.data.chat import Chat
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.own import Table, drops, show
from jaxvlm.data.own.forms import Form
from jaxvlm.data.rows import Row
from jaxvlm.eval import harness
from jaxvlm.eval.harness import ProblemSet
from jaxvlm.study import (
  checks,
  folders,
  problems,
  programs,
  samples,
)
from jaxvlm.study.folders import ModelFolder
from jaxvlm.study.kinds import Place
from jaxvlm.study.lab import Lab
from jaxvlm.study.main import Start, Study
from jaxvlm.study.planned import PlannedStage
from jaxvlm.study.problems import Measured, Problems
from jaxvlm.tasks import graders
from jaxvlm.tasks.graders import Grader
from jaxvlm.tools import folder
from jaxvlm.tools.training import data, page
from jaxvlm.tools.training.config import ARM, DataConfig, RunConfig
from jaxvlm.tools.training.recipes import RECIPES, Given, Recipe
from jaxvlm.train.assemble import functions

# Name of what is measured, in files and journals.
HELD_OUT = "held_out"
_SHOWN = 6  # rows whose answers the page shows


class Prepared(NamedTuple):
  """What a run reads before anything is compiled.

  Attributes:
    config: settings, every shape among them.
    recipe: of the objective.
    student: the model that is trained.
    teacher: what it learns from; None without.
    rows: of the user, to learn from.
    learned: the same as they are learned: packed, if the settings say so.
    held_out: rows whose loss is measured; None without.
    problems: rows whose answers are scored; None without.
    grader: scores sampled answers; None: nothing does.
    said: what is printed before the first step.
  """

  config: RunConfig
  recipe: Recipe
  student: ModelFolder
  teacher: ModelFolder | None
  rows: Table
  learned: Sequence[Row]
  held_out: Table | None
  problems: Table | None
  grader: Grader | None
  said: str


def check(config: RunConfig) -> None:
  """Raises ValueError for settings that cannot run; reads no data.

  Shapes that are still to be found from the rows pass.
  """
  recipe, given = RECIPES[config.objective], config.data
  found = dataclasses.replace(
    given,
    min_pixels=given.min_pixels or PixelBudget().min_pixels,
    max_pixels=given.max_pixels or PixelBudget().max_pixels,
    prompt_tokens=given.prompt_tokens or (1,),
    patch_slots=given.patch_slots or (0,) * len(given.prompt_tokens or (1,)),
    max_new_tokens=1 if given.max_new_tokens is None else given.max_new_tokens,
  )
  try:
    checks.check(dataclasses.replace(config, data=found, model_dir=""), (ARM,))
  except ValueError as error:  # the stage's flags have no section
    raise ValueError(str(error).replace("stage.", "")) from None
  recipe.check(config.stage)
  if not config.data.path:
    raise ValueError("data is empty, expected a file or folder with rows")
  if given.pack < 0 or (given.pack and recipe.form is not own.answered):
    raise ValueError(
      f"data.pack is {given.pack}, expected 0, or for sft the tokens of a"
      f" stream: {config.objective} is {recipe.told}"
    )
  if recipe.scored and not config.reward:
    raise ValueError(
      f"reward is empty, and {config.objective} learns from scored answers;"
      f" expected one of {', '.join(graders.GRADERS)}, or a function of yours"
      " as module:function"
    )
  if recipe.teacher != bool(config.teacher_dir):
    expected = "a teacher's folder" if recipe.teacher else "none"
    raise ValueError(
      f"teacher_dir is {config.teacher_dir!r}, expected {expected}:"
      f" {config.objective} is {recipe.told}"
    )
  if config.evaluation.path and recipe.sampled and not config.reward:
    raise ValueError(
      "eval_data is given and reward is not: answers that nobody scores cannot"
      " be measured; give --reward, or no --eval_data"
    )


def prepare(config: RunConfig, keep: pathlib.Path | None = None) -> Prepared:
  """Reads folders and rows, and finds the shapes that were left open.

  Args:
    config: settings.
    keep: folder for pictures that are part of the files of rows; None leaves
      them in memory.

  Raises:
    FileNotFoundError, ValueError: what is wrong with models, rows, reward.
  """
  check(config)
  recipe = RECIPES[config.objective]
  grader = None
  if config.reward:
    grader = graders.find(config.reward, config.reward_seconds)
  config = dataclasses.replace(
    config,
    model_dir=str(folder.locate(config.model_dir)),
    teacher_dir=str(folder.locate(config.teacher_dir))
    if config.teacher_dir
    else "",
  )
  student = folders.read(config.model_dir)
  teacher = folders.read(config.teacher_dir) if recipe.teacher else None
  if teacher is not None:
    folders.check_same_tokens(student.chat, teacher.chat)
  form = recipe.form or (own.problems if grader.answers else own.prompts)
  scored = own.problems if grader and grader.answers else own.prompts
  rows = _read(config.data, form, keep)
  measured, held_out, problems = _measured(config), None, None
  if measured:
    held_out = None if recipe.sampled else _read(measured, form, keep)
    problems = _read(measured, scored, keep) if grader else None
  shapes = data.shapes(
    config.data,
    student.chat,
    rows.rows,
    [row for table in (held_out, problems) if table for row in table.rows],
    batch=config.stage.prompts,
    sampled=recipe.sampled,
    most=student.config.max_position_embeddings,
  )
  budget = PixelBudget(shapes.data.min_pixels, shapes.data.max_pixels)
  said = [
    data.describe(rows, shapes, config.data.path),
    f"a row as the model reads it, {' '.join(show.LEARNED)} around what is"
    " learned:",
    _example(rows, student.chat, budget),
  ]
  return Prepared(
    config=dataclasses.replace(config, data=shapes.data),
    recipe=recipe,
    student=student,
    teacher=teacher,
    rows=rows,
    learned=shapes.rows,
    held_out=held_out,
    problems=problems,
    grader=grader,
    said="\n".join(said),
  )


def _example(rows: Table, chat: Chat, budget: PixelBudget) -> str:
  """Returns the first row that can be used, as the model reads it."""
  for row in rows.rows:
    with contextlib.suppress(ValueError, OSError):  # the survey says why
      return show.rendered(row, chat, budget)
  return "(none can be used)"


def _measured(config: RunConfig) -> DataConfig | None:
  """Returns where the rows to measure on are, if there are any."""
  e = config.evaluation
  if not e.path:
    return None
  return dataclasses.replace(
    config.data, path=e.path, split=e.split, max_dropped=e.max_missing
  )


def _read(where: DataConfig, form: Form, keep: pathlib.Path | None) -> Table:
  """Returns the rows of a path.

  Raises:
    FileNotFoundError, ValueError: as `own.read`; more than `max_dropped` of
      the records cannot be used.
  """
  pairs = [column.partition("=")[::2] for column in where.columns]
  if not all(name and given for name, given in pairs):
    raise ValueError(
      f"data.columns is {','.join(where.columns)}, expected name=other,…: the"
      " name that a layout has and the one that the files have"
    )
  found = own.read(
    where.path,
    form,
    split=where.split,
    layout=where.layout,
    columns=dict(pairs),
    pictures=where.pictures or None,
    keep=keep,
  )
  drops.check(found.dropped, found.found, most=where.max_dropped)
  return found


def study(prepared: Prepared) -> Study:
  """Returns the study of one arm with one stage that a run is."""
  return Study(
    name="train",
    scales={},
    check=check,
    train=lambda start: _train(start, prepared),
    report=lambda workdir: _report(workdir, prepared),
  )


def _report(workdir: pathlib.Path, prepared: Prepared) -> pathlib.Path:
  """Writes the page, prints the command that exports; returns the page."""
  path = page.write(workdir, prepared.config, HELD_OUT)
  print(
    f"jaxvlm export --model_dir={prepared.config.model_dir}"
    f" --checkpoints={checkpoints(workdir, prepared.config)}"
    f" --out={workdir / 'model'}"
  )
  return path


def _train(start: Start, prepared: Prepared) -> None:
  c, recipe, student = prepared.config, prepared.recipe, prepared.student
  chat, stage, teacher = student.chat, c.stage, prepared.teacher
  checks.check_frozen(c, student.config)
  checks.check_adapters(c, student.config)
  if distributed.is_writer():
    logging.info("%s", prepared.said)
  found = _problems(start, prepared)
  if start.writes:
    tables = (prepared.rows, prepared.held_out, prepared.problems)
    surveys = (*found.training.values(), *found.held_out.values())
    dropped = [pair for of in (*tables, *surveys) if of for pair in of.dropped]
    drops.write(start.workdir / "dropped.jsonl", dropped)
  model = functions(student.config, c.form)
  taught = functions(teacher.config, c.form) if teacher else None
  assembly = programs.make_stages(c, student.config)(
    recipe.objective(model, taught, stage, chat.vocab_size),
    stage,
    recipe.totals(model, chat.vocab_size),
  )
  rollout = recipe.sampler(c, chat, model, stage)
  planned = PlannedStage(recipe.planned, stage, assembly, rollout)
  if teacher:
    planned = planned._replace(teacher=teacher.config, form=c.teacher_form)
  if start.topology and c.data.pack:
    raise ValueError(
      f"data.pack is {c.data.pack} beside --plan: the planner knows streams of"
      " one row; plan with --data.pack=0 --data.max_new_tokens="
      f"{c.data.max_new_tokens}, which takes the same memory"
    )
  start.plan(student.config, {c.objective: planned})
  if start.dry_run:
    return
  base = programs.load_student(c, start.mesh, student)
  given = Given(found.training["rows"], base, rollout)
  beside = {}
  if teacher:
    beside["teacher"] = teacher
    loaded = programs.load_frozen(c.teacher_form, start.mesh, teacher)
    given = given._replace(teacher=loaded)
  place = Place(ARM, c.objective, 0)
  for lab in start.labs(found, student, most_stages=1, **beside):
    end = recipe.train(lab, place, stage, assembly, given)
    samples.write(
      lab,
      f"{place.arm}/{place.stage}",
      stage.steps,
      {"before": base, "after": end},
      _shown(lab, prepared),
    )


def _problems(start: Start, prepared: Prepared) -> Problems:
  c, rows, measured = prepared.config, prepared.learned, []
  if prepared.problems:
    asked = prepared.problems.rows
    measured.append(Measured(HELD_OUT, asked, len(asked)))
  held_out = prepared.held_out
  return problems.load(
    c,
    prepared.student.chat,
    graders.task(c.reward, prepared.grader, rows),
    {"rows": rows},
    measured,
    folder=start.workdir / "surveys",
    write=start.writes,
    held_out={HELD_OUT: held_out.rows} if held_out else {},
  )


def _shown(lab: Lab, prepared: Prepared) -> ProblemSet:
  """Returns a few problems whose answers the page shows."""
  if lab.problems.evaluation:
    return lab.problems.evaluation[0]
  table = prepared.held_out or prepared.rows
  return harness.make_problem_set(
    "shown",
    table.rows[:_SHOWN],
    lab.problems.encoder,
    lab.config.evaluation.prompts,
    task=None,
    max_missing=1.0,
  )


def checkpoints(workdir: pathlib.Path, config: RunConfig) -> pathlib.Path:
  """Returns where a run keeps its checkpoints."""
  seed = f"seed-{config.first_seed}"
  return workdir / seed / ARM / config.objective / "checkpoints"
