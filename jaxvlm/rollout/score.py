"""Statistics of given completions under any parameter tree."""

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
  extra = {}
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
