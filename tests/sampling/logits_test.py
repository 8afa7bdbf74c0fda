"""Truncation against plain NumPy, token by token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.sampling import Sampling, truncate


def kept_by_hand(logits, sampling):
  """Returns which tokens of one distribution may be drawn, in float64."""
  logits = logits.astype(np.float64)
  prob = np.exp(logits - logits.max())
  prob /= prob.sum()
  keep = np.ones(len(logits), bool)
  order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
  if sampling.top_k:
    threshold = logits[order[min(sampling.top_k, len(order)) - 1]]
    keep &= logits >= threshold
  if sampling.top_p < 1:
    mass, inside = 0.0, set()
    for i in order:
      if mass >= sampling.top_p:
        break
      inside.add(i)
      mass += prob[i]
    keep &= np.isin(np.arange(len(logits)), list(inside))
  if sampling.min_p:
    keep &= prob >= sampling.min_p * prob.max() * (1 - 1e-12)
  return keep


def kept(logits, sampling):
  out = np.asarray(truncate(jnp.asarray(logits, jnp.float32), sampling))
  keep = out > -np.inf
  np.testing.assert_array_equal(out[keep], np.float32(logits)[keep])
  return keep


@pytest.mark.parametrize(
  "sampling",
  [
    Sampling(),
    Sampling(top_k=1),
    Sampling(top_k=5),
    Sampling(top_k=100),
    Sampling(top_p=0.3),
    Sampling(top_p=0.95),
    Sampling(min_p=0.05),
    Sampling(min_p=0.9),
    Sampling(top_k=4, top_p=0.8, min_p=0.1),
  ],
  ids=str,
)
def test_random_distributions_equal_the_brute_force(sampling):
  logits = np.random.default_rng(0).normal(size=(3, 4, 17), scale=2)
  found = kept(logits, sampling)
  for at in np.ndindex(3, 4):
    expected = kept_by_hand(np.float32(logits[at]), sampling)
    np.testing.assert_array_equal(found[at], expected)
    assert found[at][np.argmax(logits[at])]


def test_ties_at_the_kth_place_all_stay():
  found = kept([2.0, 1.0, 1.0, 1.0, 0.0], Sampling(top_k=2))
  assert found.tolist() == [True, True, True, True, False]


# Probabilities are powers of two, so float32 sums them exactly.
QUARTERS = np.log([0.25, 0.5, 0.125, 0.125])


@pytest.mark.parametrize(
  "top_p, expected",
  [
    (0.4, [1]),
    (0.5, [1]),  # a set of exactly this mass is enough
    (0.51, [0, 1]),
    (0.75, [0, 1]),
    (0.76, [0, 1, 2]),  # the earlier of two equals
    (1.0, [0, 1, 2, 3]),
    (1e-9, [1]),  # the best always stays
  ],
)
def test_top_p_at_the_edges_of_the_mass(top_p, expected):
  found = kept(QUARTERS, Sampling(top_p=top_p))
  assert np.flatnonzero(found).tolist() == expected


def test_min_p_keeps_what_is_exactly_at_the_limit():
  found = kept(QUARTERS, Sampling(min_p=0.5))
  assert found.tolist() == [True, True, False, False]


def test_a_uniform_distribution_loses_nothing_but_to_top_p():
  flat = np.zeros(8)
  assert kept(flat, Sampling(top_k=1)).all()
  assert kept(flat, Sampling(min_p=0.99)).all()
  assert kept(flat, Sampling(top_p=0.5)).sum() == 4


def test_a_token_of_probability_zero_is_never_kept_by_a_rule():
  logits = [0.0, -np.inf, 1.0]
  for sampling in (Sampling(top_k=2), Sampling(top_p=0.9), Sampling(min_p=0.1)):
    out = np.asarray(truncate(jnp.array(logits), sampling))
    assert out[1] == -np.inf and not np.isnan(out).any()


def test_works_under_jit_and_rules_intersect():
  logits = jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1]))
  both = Sampling(top_k=3, top_p=0.65)
  out = jax.jit(truncate, static_argnums=1)(logits, both)
  assert (np.asarray(out) > -np.inf).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
  "field, value",
  [
    ("temperature", -0.1),
    ("temperature", float("nan")),
    ("temperature", float("inf")),
    ("top_k", -1),
    ("top_p", 0.0),
    ("top_p", 1.1),
    ("top_p", float("nan")),
    ("min_p", -0.1),
    ("min_p", 1.0),
  ],
)
def test_settings_out_of_range_are_named(field, value):
  with pytest.raises(ValueError, match=rf"{field} is .*expected"):
    Sampling(**{field: value})
