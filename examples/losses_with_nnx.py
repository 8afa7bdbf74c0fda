"""GRPO on a Flax NNX module.

python examples/losses_with_nnx.py
"""

import jax
import jax.numpy as jnp
import optax
from every_loss import LENGTH, VOCAB, WIDTH, data
from flax import nnx

from jaxvlm.losses import group_advantages, grpo_loss, sequence_mean
from jaxvlm.tokenstats import token_stats


class Policy(nnx.Module):
  """The previous token in, hidden states out; the head stays outside."""

  def __init__(self, rngs: nnx.Rngs):
    self.embed = nnx.Embed(VOCAB, WIDTH, rngs=rngs)
    self.mix = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
    self.head = nnx.Linear(WIDTH, VOCAB, use_bias=False, rngs=rngs)

  def __call__(self, tokens):
    previous = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)))
    return jnp.tanh(self.mix(self.embed(previous)))


def logprobs(policy, tokens, mask):
  head = policy.head.kernel[...]
  return token_stats(policy(tokens), head, tokens, mask).logprobs


def main():
  x = data(jax.random.key(0))
  tokens, mask = x["chosen"], x["mask"]
  advantages = group_advantages(x["rewards"]).reshape(-1)
  policy = Policy(nnx.Rngs(0))
  optimizer = nnx.Optimizer(policy, optax.adam(1e-2), wrt=nnx.Param)
  old = logprobs(policy, tokens, mask)

  @nnx.jit
  def step(policy, optimizer):
    def loss_fn(policy):
      return grpo_loss(
        logprobs(policy, tokens, mask),
        old,
        advantages,
        mask,
        weights=sequence_mean(mask),
      )

    (loss, metrics), gradient = nnx.value_and_grad(loss_fn, has_aux=True)(
      policy
    )
    optimizer.update(policy, gradient)
    return loss, metrics["policy/clip_fraction"].value()

  history = [step(policy, optimizer) for _ in range(10)]
  (first, _), (last, clipped) = history[0], history[-1]
  assert tokens.shape[-1] == LENGTH and last < first
  print(f"{first:.4f} -> {last:.4f}, {clipped:.0%} clipped: loss fell")


if __name__ == "__main__":
  main()
