"""Influence of completions: predicted, and measured by taking the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import assets, models
from jaxvlm.data import chat as chats
from jaxvlm.data import diagrams
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder, make_batch
from jaxvlm.data.sources.world import Mixture, WorldRows
from jaxvlm.plan import jaxpr_flops
from jaxvlm.rollout import influence as lib
from jaxvlm.rollout import statistics
from tests import tiny


def beliefs(model, vocab_size):
  """(params, batch) -> f32[N·K], l̄ of every completion."""

  def of(params, batch):
    stats = statistics(model, params, batch, vocab_size=vocab_size)
    counts = jnp.maximum(jnp.sum(batch.mask, -1), 1)
    return jnp.reshape(jnp.sum(stats.logprobs, -1) / counts, -1)

  return of


def measured(model, params, batch, vocab_size, rate):
  """f32[U, O] change of l̄ by the step itself, per unit of the rate."""
  of = beliefs(model, vocab_size)

  def one(update):
    slope = jax.grad(lambda p: -jnp.sum(of(p, update)))(params)

    def after(sign):
      moved = jax.tree.map(lambda x, g: x - sign * rate * g, params, slope)
      return of(moved, batch)

    # Both ways, so that what is of second order in the rate cancels.
    return (after(1.0) - after(-1.0)) / (2 * rate)

  return jax.jit(lambda: jax.lax.map(one, lib.one_by_one(batch)))()


def compare(predicted, change):
  """(correlation, slope) of measured against predicted changes."""
  x, y = np.ravel(predicted), np.ravel(change)
  return np.corrcoef(x, y)[0, 1], x @ y / (x @ x)


def test_64_pairs_change_as_predicted():
  model, params = tiny.bag()
  batch = tiny.batch()
  found = jax.jit(
    lambda p, b: lib.influence(model, p, b, vocab_size=tiny.VOCAB)
  )(params, batch)
  change = measured(model, params, batch, tiny.VOCAB, 3e-3)
  assert found.change.shape == change.shape == (8, 8)
  correlation, slope = compare(found.change, change)
  assert correlation > 0.999
  assert slope == pytest.approx(1, abs=0.01)
  # Learning a completion makes it likelier.
  assert (np.diag(found.change) > 0).all()


def test_squeezing_is_measured_token_by_token():
  model, params = tiny.bag()
  batch = tiny.batch()
  found = lib.squeeze(model, params, batch, vocab_size=tiny.VOCAB, rate=1e-3)
  mask = np.reshape(batch.mask, found.level.shape)
  stats = statistics(model, params, batch, vocab_size=tiny.VOCAB)
  levels = np.exp(np.reshape(stats.logprobs, mask.shape))
  np.testing.assert_allclose(found.level[mask], levels[mask], rtol=1e-4)
  total = found.negative + found.top + found.rest
  np.testing.assert_allclose(total[mask], 0, atol=1e-6)
  # Of the whole completion: one token may gain what another loses.
  lost = np.where(mask, found.negative / found.level, 0).sum(-1)
  assert (lost < 0).all()


@pytest.mark.slow
def test_a_shipped_model_changes_as_predicted_in_four_forward_passes():
  """256 pairs of nano-base; FLOPs are counted in the program."""
  folder = assets.folder("nano-base")
  config, params = models.load_pretrained(folder, np.float32)
  chat = chats.load(folder, config.layout)
  vocab = {"vocab_size": chat.vocab_size}
  encoder = Encoder(
    chat, PixelBudget(56 * 56, 112 * 112), (Bucket(56, 64),), 44
  )
  rows = WorldRows(diagrams.VALIDATION, 4, Mixture(texts=4))
  batch = make_batch(rows, lambda n: rows[0], Bucket(56, 64), encoder).batch
  model = models.bind(config)

  def influence(params, batch):
    return lib.influence(model, params, batch, **vocab).change

  predicted = jax.jit(influence)(params, batch)
  change = measured(model, params, batch, chat.vocab_size, 1e-4)
  correlation, slope = compare(predicted, change)
  assert predicted.size == 256
  assert correlation > 0.99
  assert slope == pytest.approx(1, abs=0.01)
  one = jax.tree.map(lambda x: x[0], lib.one_by_one(batch))
  forward = jaxpr_flops.count(beliefs(model, chat.vocab_size), params, one)
  spent = jaxpr_flops.count(influence, params, batch)
  passes = spent / forward / predicted.size
  print(
    f"correlation {correlation:.5f}, slope {slope:.4f}, passes {passes:.2f}"
  )
  assert passes <= 4
