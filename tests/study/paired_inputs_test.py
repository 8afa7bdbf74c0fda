"""Pairs of a step: which rows take sampled negatives; a resume agrees."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.data.rows import HostBatch, Row
from jaxvlm.sampling import Samples
from jaxvlm.study import inputs
from jaxvlm.typing import Batch, Prompts

N, T = 200, 3
CHOSEN, FILE, SAMPLED = 1, 2, 3
ROWS = tuple(
  Row(str(i), "?", "1", responses=("1", "2"), kinds=("", "color"))
  for i in range(N)
)


def _stream(source, start):
  tokens = jnp.broadcast_to(jnp.array([CHOSEN, FILE])[None, :, None], (N, 2, T))
  mask = jnp.broadcast_to(jnp.arange(T) < 1, tokens.shape)
  none = np.zeros((N, 4), np.int32)
  prompts = Prompts(none, none > 0, none[None], none[:, 0])
  while True:
    yield HostBatch(Batch(prompts, tokens, mask), ROWS)


def _generate(params, prompts, key, prompt_ids):
  tokens = jnp.full((N, 1, T), SAMPLED)
  zeros = jnp.zeros(tokens.shape)
  mask = jnp.broadcast_to(jnp.arange(T) < 2, tokens.shape)
  return Samples(
    tokens, mask, jnp.ones((N, 1), bool), zeros, zeros, zeros, zeros, N * T
  )


def _inputs(fraction):
  chat = types.SimpleNamespace(decode=lambda ids: " ".join(map(str, ids)))
  lab = types.SimpleNamespace(
    mesh=None, stream=_stream, problems=types.SimpleNamespace(chat=chat)
  )
  return inputs.paired(
    lab, None, _generate, jax.random.key(0), fraction=fraction
  )


def _sampled(batch):
  return np.array(batch.tokens[:, 1, 0]) == SAMPLED


def test_a_fraction_of_rows_takes_sampled_negatives():
  give = _inputs(0.25)(0)
  batch, carry, logged = give(0, None, ())
  share = _sampled(batch).mean()
  assert 0.15 < share < 0.35 and carry == ()
  assert logged["negatives/policy"] == pytest.approx(share)
  assert logged["negatives/color"] == pytest.approx(1 - share)
  assert (np.array(batch.tokens[:, 0]) == CHOSEN).all()
  # Sampled completions have two tokens, all others one.
  assert logged["batch/tokens"] == N + N + share * N


def test_rows_are_drawn_anew_and_a_resume_draws_the_same():
  whole, resumed = _inputs(0.5)(0), _inputs(0.5)(3)
  first = [_sampled(whole(step, None, ())[0]) for step in range(4)]
  assert (first[0] != first[1]).any()
  np.testing.assert_array_equal(_sampled(resumed(3, None, ())[0]), first[3])


@pytest.mark.parametrize("fraction, all_of_them", [(0.0, False), (1.0, True)])
def test_the_ends(fraction, all_of_them):
  batch, _, _ = _inputs(fraction)(0)(0, None, ())
  assert (_sampled(batch) == all_of_them).all()


def test_a_fraction_is_a_share():
  with pytest.raises(ValueError, match=r"negatives is 1\.5, expected 0 to 1"):
    _inputs(1.5)
