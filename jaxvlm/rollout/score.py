"""Statistics of given completions under any parameter tree."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from jaxvlm.tokenstats import TokenStats, token_stats
from jaxvlm.typing import Batch, Model, Params


def statistics(
  model: Model,
  params: Params,
  batch: Batch,
  *,
  vocab_size: int,
  temperature: float = 1.0,
  teacher: tuple[Model, Params] | None = None,
) -> TokenStats:
  """Returns token statistics of given completions under any parameters.

  Args:
    model: the policy's functions.
    params: its parameters.
    batch: prompts with completions.
    vocab_size: the tokenizer's; the head may be padded beyond.
    temperature: divides the logits.
    teacher: (functions, parameters) to measure divergences from.
  """
  extra: dict[str, Any] = {}
  if teacher is not None:
    teach, frozen = teacher
    extra = {
      "teacher_hidden": lax.stop_gradient(teach.forward(frozen, batch)),
      "teacher_head": lax.stop_gradient(teach.head(frozen)),
    }
  return token_stats(
    model.forward(params, batch),
    model.head(params),
    batch.tokens,
    batch.mask,
    temperature=temperature,
    vocab_size=vocab_size,
    **extra,
  )


# (params, batch[, teacher's params]) -> TokenStats
Score = Callable[..., TokenStats]


def make_score(
  model: Model,
  *,
  vocab_size: int,
  temperature: float = 1.0,
  teacher: Model | None = None,
) -> Score:
  """Returns a jitted function that scores given completions.

  One program serves any parameters of the architecture: the policy, an older
  one, the reference. With a teacher, its parameters are the third argument,
  and divergences from it are measured too. Prompts of a group are computed
  once, as in sampling.

  Args:
    model: functions of what is scored.
    vocab_size: the tokenizer's; heads may be padded beyond.
    temperature: divides the logits, of both.
    teacher: functions of the teacher.
  """

  def score(
    params: Params, batch: Batch, teacher_params: Params | None = None
  ) -> TokenStats:
    if (teacher is None) != (teacher_params is None):
      raise ValueError(
        f"score: the teacher's functions are {'' if teacher else 'not '}given"
        f" and its parameters are {'not ' if teacher else ''}given, expected"
        " both or neither"
      )
    return statistics(
      model,
      params,
      batch,
      vocab_size=vocab_size,
      temperature=temperature,
      teacher=None if teacher is None else (teacher, teacher_params),
    )

  return jax.jit(score)
