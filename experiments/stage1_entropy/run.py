"""The study, end to end: `python -m experiments.stage1_entropy.run`.

Called again with the same --workdir it resumes. It leaves out what the paper
has and a laptop has not: a 72B teacher, MathVista, eight GPUs; and every
number of the paper that is not published stays our choice (`config.py`).
"""

from experiments.stage1_entropy import arms, config, problems, report
from experiments.stage1_entropy.design import DESIGN
from jaxvlm import assets, program
from jaxvlm.study import checks, folders, main, programs, stages
from jaxvlm.study.main import Start, Study


def train(start: Start) -> None:
  """Reads models and data, and unless it is a dry run trains all arms."""
  c = start.config
  student = folders.read(c.model_dir or assets.folder("nano-base"))
  teacher = folders.read(c.teacher_dir or assets.folder("nano-teacher"))
  folders.check_same_tokens(student.chat, teacher.chat)
  checks.check_frozen(c, student.config)
  checks.check_adapters(c, student.config)
  surveys = start.workdir / "surveys"
  found = problems.load(c, student.chat, surveys, write=start.writes)
  compiled = arms.make_programs(c, student, teacher)
  start.plan(student.config, arms.planned(c, compiled, teacher))
  if start.dry_run:
    return
  base = programs.load_student(c, start.mesh, student)
  taught = programs.load_frozen(c.teacher_form, start.mesh, teacher)
  for lab in start.labs(found, student, teacher=teacher):
    stages.measure_beside(lab, "teacher", taught, compiled.evaluate_teacher)
    for arm in c.arms:
      arms.run_arm(lab, compiled, arm, base, taught)


STUDY = Study(
  name="stage1_entropy",
  scales=config.SCALES,
  quick=config.quick,
  check=config.check,
  train=train,
  report=report.write_report,
  followed_by={arm: f"{arm}/grpo" for arm in ("sft_early", "sft_over", "opd")},
  last=DESIGN.last,
)


def command() -> None:
  main.run(STUDY)


def run() -> None:
  program.run(command, STUDY.name, define=lambda: main.define_flags(STUDY))


if __name__ == "__main__":
  run()
