"""Entropy summaries against plain loops, and what NaN behind a mask does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.diagnostics import entropy


def _case():
  rng = np.random.default_rng(0)
  values = rng.random((3, 2, 5)).astype(np.float32)
  mask = rng.random((3, 2, 5)) < 0.6
  mask[..., 4] = False
  return np.where(mask, values, np.nan), mask


def test_means_ignore_what_is_masked():
  values, mask = _case()
  expected = np.nanmean(values)
  np.testing.assert_allclose(
    entropy.mean_entropy(jnp.array(values), jnp.array(mask)).value(),
    expected,
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    entropy.sampled_nll(jnp.array(-values), jnp.array(mask)).value(),
    expected,
    rtol=1e-6,
  )


def test_profile_by_position():
  values, mask = _case()
  profile = jax.jit(entropy.entropy_profile)(jnp.array(values), jnp.array(mask))
  np.testing.assert_array_equal(profile.count, mask.sum(axis=(0, 1)))
  np.testing.assert_allclose(
    profile.mean[:4], np.nanmean(values[..., :4], axis=(0, 1)), rtol=1e-6
  )
  assert profile.mean[4] == 0  # no completion reaches it
  total = np.sum(np.array(profile.mean) * np.array(profile.count))
  np.testing.assert_allclose(total, np.nansum(values), rtol=1e-6)


def test_one_sample_estimate_has_the_entropy_as_its_mean():
  logits = jnp.array([0.0, 1.0, 2.5, -1.0])
  logprobs = jax.nn.log_softmax(logits)
  exact = -jnp.sum(jnp.exp(logprobs) * logprobs)
  samples = jax.random.categorical(jax.random.key(0), logits, shape=(20_000,))
  drawn = logprobs[samples]
  estimate = entropy.sampled_nll(drawn, jnp.ones_like(drawn, bool)).value()
  np.testing.assert_allclose(estimate, exact, atol=0.03)
  # It is no entropy on samples of another policy.
  uniform = logprobs[jnp.arange(20_000) % 4]
  other = entropy.sampled_nll(uniform, jnp.ones_like(drawn, bool)).value()
  assert abs(other - exact) > 0.5


@pytest.mark.parametrize(
  "function",
  [entropy.mean_entropy, entropy.entropy_profile, entropy.sampled_nll],
)
def test_shapes_must_agree(function):
  with pytest.raises(ValueError, match=r"mask: got shape \(2, 4\)"):
    function(jnp.zeros((2, 3)), jnp.zeros((2, 4), bool))
