"""The study, end to end: `python -m experiments.stage1_entropy.run`.

Called again with the same --workdir it resumes. It leaves out what the paper
has and a laptop has not: a 72B teacher, MathVista, eight GPUs; and every
number of the paper that is not published stays our choice (`config.py`).
"""

import dataclasses
import json
import logging
import pathlib
import sys

import jax
from absl import app, flags

from experiments.stage1_entropy import arms, notes, problems, report, summary
from experiments.stage1_entropy import config as settings
from experiments.stage1_entropy.config import Scale, StudyConfig
from jaxvlm import __version__, assets
from jaxvlm import config as configs
from jaxvlm.data import chat as chats
from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.qwen2_5_vl import Config, load_pretrained
from jaxvlm.sharding import device_layout

_SCALE = flags.DEFINE_enum_class(
  "scale", Scale.LAPTOP, Scale, "which settings to start from"
)
_QUICK = flags.DEFINE_bool("quick", False, "two minutes: fewer steps, two arms")
_WORKDIR = flags.DEFINE_string(
  "workdir", "runs/stage1_entropy", "results; the same one resumes"
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "check everything, train nothing"
)


# Calls with one workdir share all other settings.
_MAY_CHANGE = {"arms", "seeds", "first_seed"}


def settings_for(argv: list[str]) -> StudyConfig:
  """Returns the defaults that --scale and --quick in `argv` choose.

  They are read ahead of the other flags, whose defaults depend on them.
  """
  early = flags.FlagValues()
  flags.DEFINE_enum_class("scale", Scale.LAPTOP, Scale, "", flag_values=early)
  flags.DEFINE_bool("quick", False, "", flag_values=early)
  early.set_gnu_getopt(True)  # values of the other flags stand in between
  early(argv, known_only=True)
  config = settings.CONFIGS[early.scale]()
  return settings.quick(config) if early.quick else config


def check(config: StudyConfig) -> None:
  """Raises ValueError for settings that cannot run, before anything does."""
  unknown = sorted(set(config.arms) - set(arms.ARMS))
  if unknown or not config.arms:
    raise ValueError(
      f"arms {unknown or '()'} are not known, expected some of {arms.ARMS}"
    )
  if config.grpo.group < 2:
    raise ValueError(
      f"grpo.group is {config.grpo.group}, expected at least 2: GRPO compares"
      " completions of one prompt"
    )
  at_least_one = {"evaluation.every": config.evaluation.every}
  for name in ("sft_early", "sft_over", "opd", "grpo"):
    stage = getattr(config, name)
    for field in ("steps", "prompts", "group", "micro_batches"):
      at_least_one[f"{name}.{field}"] = getattr(stage, field)
    if stage.prompts % max(stage.micro_batches, 1):
      raise ValueError(
        f"{name}.prompts is {stage.prompts}, expected a multiple of"
        f" {name}.micro_batches, {stage.micro_batches}"
      )
  for name, value in at_least_one.items():
    if value < 1:
      raise ValueError(f"{name} is {value}, expected at least 1")


def study(config: StudyConfig, workdir: pathlib.Path) -> pathlib.Path:
  """Runs all arms and seeds and returns the path of the report."""
  check(config)
  student_dir = config.model_dir or assets.folder("nano-base")
  teacher_dir = config.teacher_dir or assets.folder("nano-teacher")
  student, base = load_pretrained(student_dir)
  teacher, teacher_params = load_pretrained(teacher_dir)
  chat = chats.load(student_dir, student.layout)
  _fits(student_dir, student, chat)
  _same_tokens(chat, chats.load(teacher_dir, teacher.layout))
  _fits(teacher_dir, teacher, chat)
  found = problems.load(config, chat)
  programs = arms.make_programs(config, student, teacher, chat)
  if _DRY_RUN.value:
    print("dry run: settings, models, tokenizer and data are usable")
    return workdir
  record_settings(config, workdir)
  base = jax.tree.map(jax.numpy.asarray, base)
  teacher_params = jax.tree.map(jax.numpy.asarray, teacher_params)
  for seed in range(config.first_seed, config.first_seed + config.seeds):
    lab = arms.Lab(
      study=config,
      problems=found,
      programs=programs,
      teacher=teacher_params,
      identity={
        "settings": configs.digest(
          dataclasses.replace(config, arms=(), seeds=1, first_seed=0)
        ),
        "student": qwen2_5_vl.fingerprint(student_dir),
        "teacher": qwen2_5_vl.fingerprint(teacher_dir),
        "data": found.traces.digest + found.prompts.digest,
        "version": __version__,
        "device_layout": device_layout(),
      },
      seed=seed,
      workdir=workdir / f"seed-{seed}",
    )
    arms.measure_teacher(lab)
    for arm in config.arms:
      arms.run_arm(lab, arm, base)
  summary.write_summary(workdir)
  return report.write_report(workdir, notes=notes.NOTES)


def quiet() -> None:
  """Silences libraries that report every file they write."""
  for name in ("absl", "tensorboardX", "orbax"):
    logging.getLogger(name).setLevel(logging.WARNING)


def cache_programs(folder: pathlib.Path) -> None:
  """Keeps compiled programs for the next start.

  Whoever can write the folder can run code in this process: it is private.
  """
  folder.mkdir(parents=True, exist_ok=True, mode=0o700)
  jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))


def record_settings(config: StudyConfig, workdir: pathlib.Path) -> None:
  """Writes config.json; refuses a workdir made with other settings.

  Raises:
    ValueError: naming the settings that differ.
  """
  path = workdir / "config.json"
  if path.is_file():
    saved = json.loads(path.read_text())
    names = configs.to_json(config).keys() - _MAY_CHANGE
    different = _differences(
      {name: saved.get(name) for name in names},
      {name: configs.to_json(config)[name] for name in names},
    )
    if different:
      raise ValueError(
        f"{workdir} was made with other settings: {'; '.join(different)}."
        " Give the same ones to resume, or another --workdir"
      )
  workdir.mkdir(parents=True, exist_ok=True)
  record = {
    **configs.to_json(config),
    "command": " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
    "version": __version__,
    "jax": jax.__version__,
    "devices": device_layout(),
  }
  partial = path.with_suffix(".partial")
  partial.write_text(json.dumps(record, indent=1))
  partial.replace(path)


def _differences(saved: dict, now: dict, prefix: str = "") -> list[str]:
  """Returns "name: old there, new here" of every leaf that differs."""
  out = []
  for name in sorted(saved.keys() | now.keys()):
    old, new = saved.get(name), now.get(name)
    if isinstance(old, dict) and isinstance(new, dict):
      out += _differences(old, new, f"{prefix}{name}.")
    elif old != new:
      out.append(f"{prefix}{name} is {old} there, {new} here")
  return out


def _fits(folder: str | pathlib.Path, model: Config, chat: chats.Chat) -> None:
  """Raises unless tokenizer, geometry and model belong together."""
  found = {
    "image token": chat.image_token_id,
    "geometry of pictures": chat.layout,
    "vocabulary fits": chat.vocab_size <= model.vocab_size,
  }
  expected = {
    "image token": model.image_token_id,
    "geometry of pictures": model.layout,
    "vocabulary fits": True,
  }
  wrong = [name for name in found if found[name] != expected[name]]
  if wrong:
    raise ValueError(
      f"tokenizer and config.json of {folder} do not belong together:"
      + "; ".join(f" {n} {found[n]}, expected {expected[n]}" for n in wrong)
      + ". Use the files of one folder"
    )


def _same_tokens(student: chats.Chat, teacher: chats.Chat) -> None:
  """Raises unless both models read the same tokens."""
  if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
    raise ValueError(
      f"student and teacher have different vocabularies ({student.vocab_size}"
      f" and {teacher.vocab_size} tokens): a divergence between them is"
      " defined on the same tokens only; use models of one family"
    )


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}; see --helpfull")
  quiet()
  workdir = pathlib.Path(_WORKDIR.value)
  cache_programs(workdir / "xla")
  config = configs.from_flags(settings_for(sys.argv), flags.FLAGS)
  path = study(config, workdir)
  print(path)


def run() -> None:
  """Defines the flags of the chosen scale, then runs."""
  configs.define_flags(settings_for(sys.argv))
  app.run(main)


if __name__ == "__main__":
  run()
