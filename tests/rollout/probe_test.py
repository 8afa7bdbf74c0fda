"""Entropy over prompt tokens, against logits of the whole prompt."""

import jax
import numpy as np
import pytest

from jaxvlm import models
from jaxvlm.rollout.probe import as_completions, make_prompt_entropy
from tests import tiny


@pytest.mark.parametrize(
  "family",
  [
    pytest.param(name, marks=pytest.mark.slow if number else ())
    for number, name in enumerate(tiny.TEXTS)
  ],
)
def test_it_is_that_of_the_next_tokens(family):
  config = tiny.TEXTS[family]
  params = tiny.params(config)
  batch = tiny.text_batch()
  prompts = batch.prompts
  mean = make_prompt_entropy(models.bind(config), vocab_size=tiny.VOCAB)
  found = mean(params, prompts)
  logits = np.asarray(models.logits(config, params, batch), np.float64)
  logits = logits[..., : tiny.VOCAB]
  logprobs = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
  entropies = -(np.exp(logprobs) * logprobs).sum(-1)
  for row, mask in enumerate(prompts.mask):
    # The last one foretells the answer, which is no prompt.
    expected = entropies[row, np.flatnonzero(mask)[:-1]].mean()
    np.testing.assert_allclose(found[row], expected, rtol=1e-5)


def test_prompts_become_completions():
  prompts = tiny.text_batch().prompts
  batch = as_completions(prompts)
  for row in range(len(prompts.tokens)):
    words = prompts.tokens[row][prompts.mask[row]].tolist()
    kept = batch.tokens[row, 0][batch.mask[row, 0]].tolist()
    assert [*batch.prompts.tokens[row], *kept] == words


def test_pictures_are_no_words():
  prompts = tiny.text_batch().prompts
  slots = np.full_like(prompts.tokens, -1)
  slots[0, -1] = 0
  with pytest.raises(ValueError, match="has pictures, expected text alone"):
    as_completions(prompts._replace(image_slots=slots))
