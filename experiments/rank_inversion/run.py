"""The study, end to end: `python -m experiments.rank_inversion.run`.

Called again with the same --workdir it resumes. It leaves out what the paper
has and a laptop has not: KodCode, HumanEval+, coders of billions of parameters.
"""

from experiments.rank_inversion import arms, config, problems, report
from experiments.rank_inversion.design import ARMS, CODERS, DESIGN
from jaxvlm import assets, program
from jaxvlm.study import checks, folders, main, programs
from jaxvlm.study.main import Start, Study

_SHIPPED = {"weak": "nano-coder", "strong": "nano-coder-strong"}


def train(start: Start) -> None:
  """Reads models and data, and unless it is a dry run trains all arms."""
  given = {"weak": start.config.model_dir, "strong": start.config.strong_dir}
  for coder in CODERS:
    chosen = [ARMS[n] for n in start.config.arms if ARMS[n].coder == coder]
    if chosen:
      folder = given[coder] or assets.folder(_SHIPPED[coder])
      _coder(start, coder, folders.read(folder), chosen)


def _coder(start: Start, coder: str, student, chosen) -> None:
  c = start.config
  checks.check_frozen(c, student.config)
  checks.check_adapters(c, student.config)
  surveys = start.workdir / "surveys" / coder
  found = problems.load(c, student.chat, surveys, write=start.writes)
  compiled = arms.make_programs(c, student)
  start.plan(student.config, arms.planned(c, compiled))
  if start.dry_run:
    return
  base = programs.load_student(c, start.mesh, student)
  for lab in start.labs(found, student):
    arms.run(lab, compiled, coder, chosen, base)


STUDY = Study(
  name="rank_inversion",
  scales=config.SCALES,
  quick=config.quick,
  check=config.check,
  train=train,
  report=report.write_report,
  last=DESIGN.last,
)


def command() -> None:
  main.run(STUDY)


def run() -> None:
  program.run(command, STUDY.name, define=lambda: main.define_flags(STUDY))


if __name__ == "__main__":
  run()
