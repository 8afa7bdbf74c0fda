"""Completions as they come: the loop in short jitted calls."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvlm.rollout.generate import make_rules, need
from jaxvlm.rollout.policy import make_policy
from jaxvlm.sampling import (
  Draw,
  begin,
  completion_keys,
  reached,
  run_segment,
)
from jaxvlm.typing import Model, Params, Prompts


class Piece(NamedTuple):
  """A few more tokens of every completion, as NumPy arrays.

  Attributes:
    columns: tokens and statistics [N, G, U]; fields as in `Samples`.
    mask: bool[N, G, U] which of them exist.
    finished: bool[N, G] completions that have reached their end.
  """

  columns: Draw
  mask: np.ndarray
  finished: np.ndarray


def stream(
  model: Model,
  params: Params,
  prompts: Prompts,
  key: Array,
  prompt_ids: Array | np.ndarray,
  *,
  group: int,
  steps: int = 4,
  **options: Any,
) -> Iterator[Piece]:
  """Yields the completions of `make_generate` while they are drawn.

  The programs belong to the call: one prompt after the other is compiled for.

  Args:
    model: functions of the policy.
    params: its parameters.
    prompts: N prompts.
    key: of the step.
    prompt_ids: i32[N].
    group: G.
    steps: tokens per piece; the first piece is the first token.
    **options: as `make_rules`.
  """
  rules = make_rules(**options)
  need(group >= 1, "group", group)
  need(steps >= 1, "steps", steps)

  @jax.jit
  def start(params, prompts, key, prompt_ids):
    policy = make_policy(model, params, rules.vocab_size)
    last, prefix = policy.prefill(prompts)
    logits = policy.logits(last)[:, None]
    lanes, first = begin(
      completion_keys(key, prompt_ids, group),
      jnp.broadcast_to(logits, (len(last), group, rules.vocab_size)),
      rules,
    )
    # Pieces are written whole: the last one may reach behind the end.
    cache = model.init_cache(prefix, group, rules.max_new_tokens + steps)
    rest = policy._replace(model=None, params=None)
    return rest, prefix, lanes, cache, first

  @jax.jit(donate_argnums=3)
  def proceed(policy, prefix, lanes, cache, at):
    decode = policy._replace(model=model).decoder(prefix)
    segment = run_segment(decode, lanes, cache, rules, steps=steps, first=at)
    return segment, reached(segment.lanes.states, rules)

  policy, prefix, lanes, cache, first = start(params, prompts, key, prompt_ids)
  columns = jax.tree.map(lambda x: np.asarray(x)[..., None], first)
  finished = np.asarray(reached(lanes.states, rules))
  yield Piece(columns, np.ones(columns.tokens.shape, bool), finished)
  at = 0
  while not np.asarray(lanes.done).all():
    segment, finished = proceed(policy, prefix, lanes, cache, at)
    lanes, cache = segment.lanes, segment.cache
    at += steps
    yield Piece(*jax.device_get((segment.columns, segment.mask, finished)))
