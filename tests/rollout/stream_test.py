"""A stream says what one call says."""

import jax
import numpy as np
import pytest

from jaxvlm.models import qwen2_5_vl
from jaxvlm.rollout import make_generate
from jaxvlm.rollout.stream import stream
from jaxvlm.sampling import Sampling
from tests import tiny

IDS = np.array([4, 0, 7, 2], np.int32)
OPTIONS = {
  "group": 2,
  "sampling": Sampling(0.9),
  "max_new_tokens": 9,
  "eos_ids": (tiny.EOS, 5, 17),
  "pad_id": tiny.PAD,
  "vocab_size": tiny.VOCAB,
}


@pytest.mark.parametrize(
  "steps", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 20))]
)
def test_pieces_join_to_the_samples(steps):
  model, params = qwen2_5_vl.bind(tiny.CONFIG), tiny.params()
  front, key = tiny.prompts(), jax.random.key(3)
  whole = jax.device_get(
    make_generate(model, **OPTIONS)(params, front, key, IDS)
  )
  pieces = list(stream(model, params, front, key, IDS, steps=steps, **OPTIONS))
  assert pieces[0].columns.tokens.shape[-1] == 1  # the first comes at once

  def joined(name):
    parts = [getattr(piece.columns, name) for piece in pieces]
    parts = np.concatenate(parts, -1)[..., :9]
    missing = 9 - parts.shape[-1]
    fill = tiny.PAD if name == "tokens" else 0
    return np.pad(parts, [(0, 0)] * 2 + [(0, missing)], constant_values=fill)

  np.testing.assert_array_equal(joined("tokens"), whole.tokens)
  for name in ("logprobs", "entropies"):
    np.testing.assert_allclose(joined(name), getattr(whole, name), atol=1e-5)
  np.testing.assert_array_equal(pieces[-1].finished, whole.finished)
  kept = sum(int(piece.mask.sum()) for piece in pieces)
  assert kept == whole.mask.sum()
