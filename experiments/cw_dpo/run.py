"""The study, end to end: `python -m experiments.cw_dpo.run`.

Called again with the same --workdir it resumes.
"""

from experiments.cw_dpo import arms, config, problems, report
from experiments.cw_dpo.design import DESIGN
from jaxvlm import assets, program
from jaxvlm.study import checks, folders, main, programs
from jaxvlm.study.main import Start, Study


def train(start: Start) -> None:
  """Reads models and data, and unless it is a dry run trains all arms."""
  c = start.config
  student = folders.read(c.model_dir or assets.folder("nano-scenes"))
  checks.check_frozen(c, student.config)
  checks.check_adapters(c, student.config)
  surveys = start.workdir / "surveys"
  rows = problems.read(c)
  found = problems.load(c, student.chat, rows, surveys, write=start.writes)
  made = arms.make_programs(c, student, rows.probes)
  start.plan(student.config, arms.planned(c, made))
  if start.dry_run:
    return
  base = programs.load_student(c, start.mesh, student)
  for lab in start.labs(found, student):
    arms.run(lab, made, base)


STUDY = Study(
  name="cw_dpo",
  scales=config.SCALES,
  quick=config.quick,
  check=config.check,
  train=train,
  report=report.write_report,
  followed_by={"stage1": "*/stage2"},
  last=DESIGN.last,
)


def command() -> None:
  main.run(STUDY)


def run() -> None:
  program.run(command, STUDY.name, define=lambda: main.define_flags(STUDY))


if __name__ == "__main__":
  run()
