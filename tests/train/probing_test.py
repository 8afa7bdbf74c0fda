"""Probes of a model: the reference is where they began."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.diagnostics import probes
from jaxvlm.rollout import statistics
from jaxvlm.train.probing import make_prober
from tests import tiny

CLASSES = probes.CLASSES[:3]


@pytest.fixture(scope="module")
def case():
  model, params = tiny.bag()
  batch = tiny.batch(group=len(CLASSES))
  panel = make_prober(model, vocab_size=tiny.VOCAB).against(params, batch)
  return (
    model,
    params,
    batch,
    lambda moved: probes.record(panel(moved), CLASSES),
  )


def test_the_reference_itself_has_not_moved(case):
  _, params, _, measure = case
  out = measure(params)
  for name in CLASSES:
    assert abs(out[f"probe/total_variation/{name}"]) < 1e-6
    assert abs(out[f"probe/shift/{name}"]) < 1e-6


def test_a_policy_is_held_against_the_reference(case):
  model, params, batch, measure = case
  moved = jax.tree.map(lambda x: 1.1 * x, params)
  out = measure(moved)
  now, before = (
    statistics(model, p, batch, vocab_size=tiny.VOCAB) for p in (moved, params)
  )
  mask = batch.mask
  for k, name in enumerate(CLASSES):
    change = float(jnp.sum((now.logprobs - before.logprobs)[:, k], -1).mean())
    assert out[f"probe/shift/{name}"] == pytest.approx(change, rel=1e-4)
    entropy = float(np.mean(now.entropies[:, k].sum(-1) / mask[:, k].sum(-1)))
    assert out[f"probe/entropy/{name}"] == pytest.approx(entropy, rel=1e-5)
    assert out[f"probe/total_variation/{name}"] > 0.01
