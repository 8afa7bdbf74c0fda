"""GRPO on one page: a small vision-language model learns to read diagrams.

  python examples/grpo_one_file.py

It samples a group of answers to every question, grades them, calls those good
that beat their group's mean, and makes them likelier (arXiv 2402.03300). Read
it from top to bottom: there are no settings elsewhere. Its steps are those of
the study `experiments/stage1_entropy` (arm `base`, seed 0), which decays
weights besides, by a millionth a step. Three minutes on two cores.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvlm import assets, losses, models
from jaxvlm.data import chat as chats
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.order import Plan
from jaxvlm.data.rows import Bucket, Encoder, make_batch
from jaxvlm.rollout import make_generate
from jaxvlm.sampling import Sampling
from jaxvlm.tasks import score, world
from jaxvlm.tokenstats import token_stats

PROBLEMS, LENGTH, RATE, WARMUP = 4096, 44, 1e-4, 5


def train(prompts: int = 24, group: int = 8, steps: int = 60):
  """Yields (loss, mean reward, entropy in nats) of every step."""
  # A model: a folder in the Hugging Face format, here one that ships with us.
  folder = assets.folder("nano-base")
  config, params = models.load_pretrained(folder)
  params = jax.tree.map(jnp.asarray, params)
  model = models.bind(config)  # pure functions: forward, prefill, decode, head
  chat = chats.load(folder, config.layout)  # tokenizer and template

  # Problems: generated diagrams with exact answers, in a shuffled order.
  task = world.task()
  problems = task.rows("rl_train")[:PROBLEMS]
  order = Plan((0,) * PROBLEMS, prompts, seed=1)
  # All prompts have one static shape, so that nothing is compiled twice.
  shape = Bucket(prompt_tokens=56, patch_slots=64)
  encoder = Encoder(
    chat=chat,
    budget=PixelBudget(56 * 56, 112 * 112),
    buckets=(shape,),
    max_new_tokens=LENGTH,
  )

  # The sampler: prompt and picture are computed once for the whole group.
  generate = make_generate(
    model,
    group=group,
    sampling=Sampling(temperature=1.0),
    max_new_tokens=LENGTH,
    eos_ids=chat.eos_ids,
    pad_id=chat.pad_id,
    vocab_size=chat.vocab_size,
  )
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adam(optax.linear_schedule(RATE / WARMUP, RATE, WARMUP - 1), b2=0.98),
  )

  @jax.jit
  def update(params, opt_state, batch, old_logprobs, advantages):
    def objective(params):
      # hidden[n, g, t] predicts token t of completion g of prompt n.
      hidden = model.forward(model.unstack(params), batch)
      stats = token_stats(
        hidden,
        model.head(params),
        batch.tokens,
        batch.mask,
        vocab_size=chat.vocab_size,
      )
      # −mean over tokens of min(ρA, clip(ρ, 0.8, 1.2)A), ρ = π/π_old.
      loss, _ = losses.grpo_loss(
        stats.logprobs, old_logprobs, advantages, batch.mask
      )
      entropy = jnp.sum(stats.entropies * batch.mask) / jnp.sum(batch.mask)
      return loss, entropy

    (loss, entropy), grads = jax.value_and_grad(objective, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss, entropy

  opt_state = optimizer.init(params)
  key = jax.random.fold_in(jax.random.key(0), 1)
  for step in range(steps):
    # Draw: a batch of prompts, and a group of completions of each.
    numbers, _ = order.batch(step)
    rows = [problems[int(i)] for i in numbers]
    batch = make_batch(rows, problems.__getitem__, shape, encoder).batch
    ids = np.arange(prompts, dtype=np.int32)
    samples = generate(
      params, batch.prompts, jax.random.fold_in(key, step), ids
    )
    batch = batch._replace(tokens=samples.tokens, mask=samples.mask)

    # Grade: 0.9 for the right answer, 0.1 for the form.
    tokens, mask = jax.device_get((samples.tokens, samples.mask))
    texts = [
      chat.decode(tokens[n, g][mask[n, g]].tolist())
      for n in range(prompts)
      for g in range(group)
    ]
    graded = score(task, texts, [row for row in rows for _ in range(group)])
    rewards = graded["reward"].reshape(prompts, group)

    # Compare with the group, and move.
    advantages = losses.group_advantages(rewards)
    params, opt_state, loss, entropy = update(
      params, opt_state, batch, samples.logprobs, advantages
    )
    yield float(loss), float(rewards.mean()), float(entropy)


if __name__ == "__main__":
  for step, (loss, reward, entropy) in enumerate(train(), 1):
    print(
      f"step {step:2d}  loss {loss:+.5f}  reward {reward:.3f}"
      f"  entropy {entropy:.3f} nats",
      flush=True,
    )
