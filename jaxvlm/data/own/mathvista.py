"""MathVista's records, which are recognized in order to be refused.

Its authors forbid training on it; `jaxvlm.tasks.mathvista` evaluates it.
"""

from jaxvlm.data.own.example import Example, Layout, Record, Refused


def _parse(record: Record) -> Example:
  raise Refused(
    "this is MathVista, a test set: its authors forbid training on it; evaluate"
    " it with the task mathvista"
  )


LAYOUT = Layout(
  "mathvista",
  "nothing that can be trained on; it is a task of its own",
  lambda record: {"pid", "question_type", "answer_type"} <= record.keys(),
  _parse,
)
