"""Rewards by name, for rows that a user brings along."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxvlm.data.rows import Row
from jaxvlm.rewards import easyr1_reward
from jaxvlm.rewards.opinion import SecondOpinion
from jaxvlm.tasks import boxed, final, plugin
from jaxvlm.tasks.task import Reward, Task, one_by_one


class Grader(NamedTuple):
  """What scores responses, without rows.

  Attributes:
    reward: as `Task.reward`.
    metrics: as `Task.metrics`.
    answer: as `Task.answer`.
    version: as `Task.version`.
    answers: whether it needs a row's right answer.
  """

  reward: Reward
  metrics: tuple[str, ...]
  answer: Callable[[str], str] = boxed.answer
  version: str = ""
  answers: bool = True


def _easyr1(response: str, reference: str) -> dict[str, float]:
  found = easyr1_reward(response, reference)
  found["reward"] = found.pop("overall")
  return found


def _checked() -> Grader:
  opinion = SecondOpinion()  # says so where math-verify is absent
  metrics = (*final.METRICS, "disagreement")
  return Grader(final.Checked(opinion), metrics, final.answer, final.VERSION)


# Made on demand: one starts a process.
GRADERS: Mapping[str, Callable[[], Grader]] = {
  # One right answer, however it is written: accuracy alone.
  "answer": lambda: Grader(
    final.scores, final.METRICS, final.answer, final.VERSION
  ),
  # The same, with math-verify's verdicts held against it.
  "answer_checked": _checked,
  # 0.9 · accuracy + 0.1 · format of the public Geometry3K recipes, by our
  # grader and by theirs.
  "geometry3k": lambda: Grader(
    one_by_one(boxed.scores), ("accuracy", "format"), version="boxed 1"
  ),
  "easyr1": lambda: Grader(
    one_by_one(_easyr1), ("accuracy", "format"), version="mathruler 1"
  ),
}


def find(name: str, seconds: float = plugin.SECONDS) -> Grader:
  """Returns a grader by its name, or the one that a user's function is.

  Args:
    name: of `GRADERS`, or module:function (`tasks.plugin`).
    seconds: longest that a user's function may take for a response.

  Raises:
    ValueError: neither, or no such limit.
  """
  if name in GRADERS:
    return GRADERS[name]()
  if ":" not in name:
    raise ValueError(
      f"reward is {name!r}, expected one of {', '.join(GRADERS)}, or a function"
      " of yours as module:function"
    )
  function = plugin.find(name)
  metrics = plugin.scores(function)
  if "accuracy" in metrics:  # the headline, where there is one
    metrics = ("accuracy", *(m for m in metrics if m != "accuracy"))
  return Grader(
    plugin.reward(name, function, seconds),
    metrics,
    version=plugin.version(function),
    answers=False,
  )


def _unscored(responses: Sequence[str], rows: Sequence[Row]) -> Mapping:
  raise ValueError(f"nothing scores the answers to {len(rows)} rows")


def task(name: str, grader: Grader | None, rows: Sequence[Row]) -> Task:
  """Returns rows of a user's with what scores their answers, if anything."""
  grader = grader or Grader(_unscored, ("reward",))
  return Task(
    name=name or "rows",
    rows=lambda split: rows,
    reward=grader.reward,
    metrics=grader.metrics,
    answer=grader.answer,
    pictures=False,  # of a row: the survey drops what a model cannot read
    version=grader.version,
  )
