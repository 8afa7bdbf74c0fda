"""docs/losses.md: the gradients that it states are those of jax.grad."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import losses
from jaxvlm.logitstats import Divergences, measure

B, T, V = 3, 5, 7
MASK = np.arange(T) < np.array([[5], [3], [4]])
Z = MASK.sum()
W = MASK / Z


def drawn(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def logprobs(seed, *shape):
  return -np.abs(drawn(seed, *shape)) - 0.1


def gradient(function, *arrays):
  """Returns the gradients of a loss with respect to all its arrays."""
  given = tuple(map(jnp.asarray, arrays))
  where = tuple(range(len(given)))
  return jax.grad(lambda *x: function(*x)[0], where)(*given)


def close(found, stated):
  np.testing.assert_allclose(found, stated, rtol=2e-5, atol=2e-6)


def test_sft():
  l, mean = logprobs(0, B, T), logprobs(1, B, T)
  of_l, of_mean = gradient(
    lambda l, u: losses.sft_loss(
      l, MASK, label_smoothing=0.2, mean_vocab_logprobs=u
    ),
    l,
    mean,
  )
  close(of_l, -0.8 * W)
  close(of_mean, -0.2 * W)


def test_sft_of_logits():
  z, target = drawn(0, T, V), np.arange(T) % V

  def loss(z):
    s, _ = measure(z, target)
    return losses.sft_loss(
      s.logprobs,
      MASK[1],
      label_smoothing=0.2,
      mean_vocab_logprobs=s.mean_logprobs,
    )

  p = np.asarray(jax.nn.softmax(z))
  stated = p - 0.8 * np.eye(V)[target] - 0.2 / V
  close(gradient(loss, z)[0], MASK[1][:, None] * stated / MASK[1].sum())


@pytest.mark.parametrize("floor,is_open", [(9.0, 1.0), (0.0, 0.0)])
def test_sft_c(floor, is_open):
  good, bad = logprobs(0, B, T), logprobs(1, B, T)
  of_good, of_bad = gradient(
    lambda g, b: losses.sft_c_loss(g, MASK, b, MASK, floor=floor, weight=0.3),
    good,
    bad,
  )
  close(of_good, -W)
  close(of_bad, is_open * 0.3 * W)


def test_divergences_of_logits():
  z, teacher = drawn(0, T, V), drawn(1, T, V)
  asked = Divergences(jsd_beta=0.3, top_k=3)
  p, q = (np.asarray(jax.nn.softmax(x)) for x in (z, teacher))
  m = 0.3 * q + 0.7 * p
  top = teacher >= np.sort(teacher)[:, [-3]]
  masses = [np.where(top, 0, x).sum(-1, keepdims=True) for x in (q, p)]

  def mean(values):
    return (p * values).sum(-1, keepdims=True)

  stated = {
    "reverse_kl": p * (np.log(p / q) - mean(np.log(p / q))),
    "forward_kl": p - q,
    "jsd": 0.7 * p * (np.log(p / m) - mean(np.log(p / m))),
    "top_k_kl": np.where(top, p - q, p * (1 - masses[0] / masses[1])),
    "entropies": -p * (np.log(p) - mean(np.log(p))),
  }
  for name, expected in stated.items():
    found = jax.grad(
      lambda z, name=name: jnp.sum(
        getattr(measure(z, np.zeros(T, int), teacher, asked)[0], name)
      )
    )(z)
    close(found, expected)


def test_opd_sampled():
  l, old, teacher = (logprobs(seed, B, T) for seed in range(3))
  found = gradient(
    lambda l: losses.opd_policy_gradient_loss(l, old, teacher, MASK), l
  )[0]
  close(found, -W * np.exp(l - old) * (teacher - l))


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def pairs():
  won, lost, *refs = (3 * logprobs(seed, B) for seed in range(4))
  return won, lost, refs, won - refs[0], lost - refs[1]


def test_dpo():
  won, lost, refs, dw, dl = pairs()
  of_won, of_lost = gradient(
    lambda w, l: losses.dpo_loss(w, l, *refs, beta=0.3), won, lost
  )
  stated = 0.3 * (1 - sigmoid(0.3 * (dw - dl))) / B
  close(of_won, -stated)
  close(of_lost, stated)


@pytest.mark.parametrize("through", [False, True])
def test_cw_dpo(through):
  won, lost, refs, dw, dl = pairs()
  mean = logprobs(7, B)
  found = gradient(
    lambda w, l, m: losses.cw_dpo_loss(
      w,
      l,
      *refs,
      m,
      beta=0.3,
      floor=-0.5,
      tau=0.7,
      differentiate_weight=through,
    ),
    won,
    lost,
    mean,
  )
  w = sigmoid((mean + 0.5) / 0.7)
  stated = 0.3 * (1 - sigmoid(0.3 * (dw - w * dl))) / B
  close(found[0], -stated)
  close(found[1], stated * w)
  close(found[2], through * stated * dl * w * (1 - w) / 0.7)


def test_focal_dpo():
  won, lost, refs, dw, dl = pairs()
  of_won, of_lost = gradient(
    lambda w, l: losses.focal_dpo_loss(w, l, *refs, beta=0.3, gamma=2.0),
    won,
    lost,
  )
  a = sigmoid(0.3 * (dw - dl))
  stated = -0.3 * (1 - a) ** 2 * ((1 - a) - 2 * a * np.log(a)) / B
  close(of_won, stated)
  close(of_lost, -stated)


def test_grpo():
  l, old, ref, drawn_by, h = (logprobs(seed, B, T) for seed in range(5))
  advantages = np.array([1.0, -0.5, 0.2], np.float32)
  found = gradient(
    lambda l, h: losses.grpo_loss(
      l,
      old,
      advantages,
      MASK,
      ref_logprobs=ref,
      kl_coef=0.04,
      sampling_logprobs=drawn_by,
      entropies=h,
      entropy_coef=0.01,
    ),
    l,
    h,
  )
  a = advantages[:, None]
  ratio, u = np.exp(l - old), np.minimum(np.exp(old - drawn_by), 2.0)
  kept = np.where(a > 0, ratio <= 1.2, ratio >= 0.8)
  assert 0 < kept[MASK].sum() < Z  # some are clipped, some are not
  kl = 0.04 * (1 - np.exp(ref - l))
  close(found[0], -W * (u * kept * ratio * a - kl))
  close(found[1], -0.01 * W)


def test_one_ratio_a_sequence():
  l, old = logprobs(0, B, T), logprobs(1, B, T)
  advantages = np.array([1.0, -0.5, 0.2], np.float32)
  found = gradient(
    lambda l: losses.grpo_loss(
      l,
      old,
      advantages,
      MASK,
      sequence_ratio=True,
      clip_low=1.0,
      clip_high=9.0,
    ),
    l,
  )[0]
  length = MASK.sum(-1)
  ratio = np.exp(np.where(MASK, l - old, 0).sum(-1) / length)
  stated = ratio * advantages * (length / Z) / length
  close(found, MASK * -stated[:, None])
