"""What objectives read, how it is counted, and what all of them log."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxvlm import metrics
from jaxvlm.tokenstats import TokenStats
from jaxvlm.typing import Batch, Params, PyTree


class Experience(NamedTuple):
  """Completions of the policy with what the update needs of them.

  Attributes:
    batch: prompts and sampled completions.
    old_logprobs: f32[N, G, T] under the policy that sampled them, at the
      sampling temperature, full vocabulary.
    advantages: f32[N, G]; None where no reward is asked for (OPD).
    drawn: bool[N, G, T] tokens of the policy at hand, where others were
      carried over from older ones; None: all are.
  """

  batch: Batch
  old_logprobs: Array
  advantages: Array | None = None
  drawn: Array | None = None

  @property
  def current(self) -> Array:
    """bool[N, G, T] tokens that count and that the policy at hand drew."""
    mask = self.batch.mask
    return mask if self.drawn is None else mask & self.drawn


def batch_of(inputs: Batch | Experience) -> Batch:
  """Returns the batch of either kind of input."""
  return inputs.batch if isinstance(inputs, Experience) else inputs


class Counts(NamedTuple):
  """Normalizers of a whole batch, f32[] each.

  Attributes:
    tokens: completion tokens that count.
    sequences: completions with at least one of them.
    groups: prompts all of whose completions have one: the pairs, if G = 2.
  """

  tokens: Array
  sequences: Array
  groups: Array


def count(inputs: Batch | Experience) -> Counts:
  """Returns how many tokens, completions and whole groups count."""
  mask = batch_of(inputs).mask
  written = jnp.any(mask, axis=-1)
  return Counts(
    jnp.sum(mask.astype(jnp.float32)),
    jnp.sum(written.astype(jnp.float32)),
    jnp.sum(jnp.all(written, axis=-1).astype(jnp.float32)),
  )


def frozen_params(frozen: PyTree, name: str, why: str) -> Params:
  """Returns a tree of parameters that take no gradient; ValueError without.

  Args:
    frozen: what the train step was given beside the state.
    name: of the tree, such as "reference".
    why: what needs it, such as "dpo".
  """
  found = frozen.get(name) if isinstance(frozen, Mapping) else None
  if found is None:
    keys = sorted(frozen) if isinstance(frozen, Mapping) else []
    had = f"a dict of {keys}" if keys else f"{type(frozen).__name__}"
    raise ValueError(
      f"{why} needs the parameters of the {name}, and the frozen trees of the"
      f" step are {had}: pass {{{name!r}: params}}, for example the parameters"
      " that training begins with"
    )
  return found


def require_pairs(batch: Batch) -> None:
  """Raises unless every prompt has two completions: chosen, rejected."""
  group = batch.mask.shape[1]
  if group != 2:
    raise ValueError(
      f"the batch has {group} completion(s) per prompt, expected 2: the"
      " chosen (y+) and the rejected (y-), in this order"
    )


def policy_metrics(
  stats: TokenStats, batch: Batch
) -> dict[str, metrics.Metric]:
  """Returns the entropy of the whole next-token distribution, and −log p."""
  return {
    "policy/entropy": metrics.masked_mean(stats.entropies, batch.mask),
    "policy/neg_logprob": metrics.masked_mean(-stats.logprobs, batch.mask),
  }
