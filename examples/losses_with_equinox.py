"""On-policy distillation of an Equinox module.

pip install equinox
python examples/losses_with_equinox.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from every_loss import VOCAB, WIDTH, data

from jaxvlm.losses import entropy_bonus, opd_loss
from jaxvlm.tokenstats import token_stats


class Policy(eqx.Module):
  """The previous token in, hidden states out; the head is a plain array."""

  embed: jax.Array
  mix: eqx.nn.Linear
  head: jax.Array

  def __init__(self, width, key):
    a, b, c = jax.random.split(key, 3)
    self.embed = jax.random.normal(a, (VOCAB, width))
    self.mix = eqx.nn.Linear(width, width, key=b)
    self.head = jax.random.normal(c, (width, VOCAB)) / width**0.5

  def __call__(self, tokens):
    previous = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)))
    return jnp.tanh(jax.vmap(jax.vmap(self.mix))(self.embed[previous]))


@eqx.filter_jit
def step(student, teacher, tokens, mask):
  @eqx.filter_value_and_grad
  def differentiate(student):
    stats = token_stats(
      student(tokens),
      student.head,
      tokens,
      mask,
      teacher_hidden=teacher(tokens),
      teacher_head=teacher.head,
    )
    loss, _ = opd_loss(stats.reverse_kl, mask)
    bonus, _ = entropy_bonus(stats.entropies, mask, coef=0.01)
    return loss + bonus

  loss, gradient = differentiate(student)
  updates = jax.tree.map(lambda g: -0.1 * g, gradient)
  return loss, eqx.apply_updates(student, updates)


def main():
  x = data(jax.random.key(0))
  student = Policy(WIDTH, jax.random.key(1))
  teacher = Policy(4 * WIDTH, jax.random.key(2))
  history = []
  for _ in range(10):
    loss, student = step(student, teacher, x["chosen"], x["mask"])
    history.append(float(loss))
  assert history[-1] < history[0]
  print(f"{history[0]:.4f} -> {history[-1]:.4f}: loss fell")


if __name__ == "__main__":
  main()
