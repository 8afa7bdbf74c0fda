"""Every objective trains a 20-line model in plain JAX: dicts and SGD.

  python examples/every_loss.py

The model sees one token and predicts the next; rows are "completions". What
matters is the middle: `token_stats` turns hidden states into numbers per
token, a loss turns those into a scalar, `jax.grad` does the rest.
"""

import functools

import jax
import jax.numpy as jnp

from jaxvlm import losses
from jaxvlm.tokenstats import token_stats

VOCAB, WIDTH, ROWS, LENGTH = 32, 16, 8, 6


def init(key):
  a, b, c = jax.random.split(key, 3)
  return {
    "embed": jax.random.normal(a, (VOCAB, WIDTH)),
    "mix": jax.random.normal(b, (WIDTH, WIDTH)) / WIDTH**0.5,
    "head": jax.random.normal(c, (WIDTH, VOCAB)) / WIDTH**0.5,
  }


def hidden_states(params, tokens):
  """[..., T] tokens -> [..., T, D]; `hidden[…, t]` predicts `tokens[…, t]`."""
  previous = jnp.pad(tokens[..., :-1], [(0, 0)] * (tokens.ndim - 1) + [(1, 0)])
  return jnp.tanh(params["embed"][previous] @ params["mix"])


@jax.jit  # traced once for all objectives
def measure(params, tokens, mask, teacher=None):
  hidden = hidden_states(params, tokens)
  if teacher is None:
    return token_stats(hidden, params["head"], tokens, mask)
  return token_stats(
    hidden,
    params["head"],
    tokens,
    mask,
    teacher_hidden=hidden_states(teacher, tokens),
    teacher_head=teacher["head"],
    jsd_beta=0.5,
    top_k=4,
  )


def data(key):
  """Chosen and rejected completions, their lengths, rewards, two models."""
  keys = jax.random.split(key, 5)
  shape = (ROWS, LENGTH)
  return {
    "chosen": jax.random.randint(keys[0], shape, 0, VOCAB),
    "rejected": jax.random.randint(keys[1], shape, 0, VOCAB),
    "mask": jnp.arange(LENGTH) < jnp.arange(ROWS)[:, None] % LENGTH + 1,
    "rewards": jnp.arange(ROWS).reshape(2, 4) % 2 * 1.0,  # [N, G]
    "reference": init(keys[2]),  # where training starts
    "teacher": init(keys[3]),
  }


def objectives(params, x):
  """{name: (loss f32[], metrics)}: one line for each objective."""
  mask = x["mask"]
  s = measure(params, x["chosen"], mask, x["teacher"])  # f32[B, T] each
  bad = measure(params, x["rejected"], mask)
  old = measure(x["reference"], x["chosen"], mask)
  old_bad = measure(x["reference"], x["rejected"], mask)
  total = lambda stats: losses.sequence_logprobs(stats.logprobs, mask)[0]  # noqa: E731
  pairs = (total(s), total(bad), total(old), total(old_bad))  # f32[B] each
  bad_mean = losses.sequence_logprobs(bad.logprobs, mask)[1]
  advantages = losses.group_advantages(x["rewards"]).reshape(-1)  # f32[B]
  return {
    "sft": losses.sft_loss(s.logprobs, mask),
    "sft, smoothed": losses.sft_loss(
      s.logprobs, mask, label_smoothing=0.1, mean_vocab_logprobs=s.mean_logprobs
    ),
    "sft-c": losses.sft_c_loss(
      s.logprobs, mask, bad.logprobs, mask, floor=6.0, weight=0.3
    ),
    "opd, reverse kl": losses.opd_loss(s.reverse_kl, mask),
    "opd, forward kl": losses.opd_loss(s.forward_kl, mask),
    "opd, jsd": losses.opd_loss(s.jsd, mask),
    "opd, teacher top-k": losses.opd_loss(s.top_k_kl, mask),
    "opd, sampled": losses.opd_policy_gradient_loss(
      s.logprobs, old.logprobs, s.teacher_logprobs, mask
    ),
    "dpo": losses.dpo_loss(*pairs, beta=0.1),
    "cw-dpo": losses.cw_dpo_loss(
      *pairs, bad_mean, beta=0.1, floor=-3.0, tau=1.0
    ),
    "focal-dpo": losses.focal_dpo_loss(*pairs, beta=0.1, gamma=2.0),
    "grpo": losses.grpo_loss(s.logprobs, old.logprobs, advantages, mask),
    "dapo": losses.grpo_loss(
      s.logprobs, old.logprobs, advantages, mask, clip_high=0.28
    ),
    "dr. grpo": losses.grpo_loss(
      s.logprobs,
      old.logprobs,
      losses.leave_one_out_advantages(x["rewards"]).reshape(-1),
      mask,
      weights=losses.constant_length(mask, LENGTH),
      ref_logprobs=old.logprobs,
      kl_coef=0.01,
    ),
    "entropy bonus": losses.entropy_bonus(s.entropies, mask, coef=1.0),
  }


@functools.partial(jax.jit, static_argnums=2)
def step(params, x, name):
  """One step of plain SGD."""
  loss, gradient = jax.value_and_grad(lambda p: objectives(p, x)[name][0])(
    params
  )
  return loss, jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)


def main():
  x = data(jax.random.key(0))
  for name in jax.eval_shape(objectives, x["reference"], x):
    params, history = x["reference"], []
    for _ in range(10):
      loss, params = step(params, x, name)
      history.append(float(loss))
    # The value of a sampled gradient's surrogate is no measure of progress.
    if name != "opd, sampled":
      assert history[-1] < history[0], (name, history)
    print(f"{name:20s} {history[0]:8.4f} -> {history[-1]:8.4f}")
  print("loss fell")


if __name__ == "__main__":
  main()
