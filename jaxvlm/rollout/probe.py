"""Entropy over the tokens of prompts: one forward pass, nothing sampled."""

from collections.abc import Callable

import jax
import numpy as np

from jaxvlm.rollout.score import statistics
from jaxvlm.typing import Batch, Model, Params, Prompts


def as_completions(prompts: Prompts) -> Batch:
  """Returns prompts whose first token is the prompt, the rest its completion.

  Args:
    prompts: of text alone, NumPy, padded on the left.

  Raises:
    ValueError: a prompt with a picture: its tokens are no text to be foretold.
  """
  if prompts.image_slots is not None and np.any(prompts.image_slots >= 0):
    raise ValueError(
      "a prompt has pictures, expected text alone: entropy over prompt tokens"
      " is that of words; ask for the policy's own tokens instead"
    )
  tokens, mask = np.asarray(prompts.tokens), np.asarray(prompts.mask)
  rows, width = tokens.shape
  lengths = mask.sum(1)
  out = np.zeros((rows, 1, max(width - 1, 1)), np.int32)
  kept = np.zeros(out.shape, bool)
  for row, length in enumerate(lengths):
    words = tokens[row, width - length :]
    out[row, 0, : length - 1] = words[1:]
    kept[row, 0, : length - 1] = True
  first = tokens[np.arange(rows), width - lengths][:, None]
  alone = prompts._replace(
    tokens=first,
    mask=np.ones_like(first, bool),
    positions=np.zeros((len(prompts.positions), rows, 1), np.int32),
    next_position=np.ones(rows, np.int32),
  )
  if prompts.image_slots is not None:
    alone = alone._replace(image_slots=np.full((rows, 1), -1, np.int32))
  return Batch(alone, out, kept)


def make_prompt_entropy(
  model: Model, *, vocab_size: int, temperature: float = 1.0
) -> Callable[[Params, Prompts], np.ndarray]:
  """Returns a function that gives the mean entropy over each prompt's tokens.

  (1/(S−1)) Σ_{s≥1} H(p(· | x_<s)), full vocabulary, nats: the probe of
  arXiv 2606.18487 "on prompt tokens". The first token, which nothing foretells,
  does not count.

  Args:
    model: functions of the policy.
    vocab_size: the tokenizer's; the head may be padded beyond.
    temperature: divides the logits.

  Returns:
    (params, prompts) -> f64[N].
  """

  @jax.jit
  def entropies(params: Params, batch: Batch) -> jax.Array:
    return statistics(
      model, params, batch, vocab_size=vocab_size, temperature=temperature
    ).entropies

  def mean(params: Params, prompts: Prompts) -> np.ndarray:
    batch = as_completions(prompts)
    values = np.where(batch.mask, entropies(params, batch), 0.0)
    counts = np.maximum(batch.mask.sum((1, 2)), 1)
    return values.astype(np.float64).sum((1, 2)) / counts

  return mean
