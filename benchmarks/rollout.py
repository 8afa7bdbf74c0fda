"""Rollouts beside transformers, shared beside copied prompts, one table.

  python -m benchmarks.rollout                  every case but the long ones
  python -m benchmarks.rollout decode group     some of them
  python -m benchmarks.rollout --all --out=benchmarks/results/rollout.md

One process, the same random weights in both libraries, float32, the same two
cores. Every case runs its sides in turns; a cell is the median of the
repetitions with the minimum in brackets. Compilation is outside of the clock,
everything else inside: transformers starts from pixels and so do we. The model
and its prompts: benchmarks/beside_transformers.py.
"""

import argparse
import functools
import os
import pathlib
import platform
from collections.abc import Callable
from unittest import mock

CORES = 2
if hasattr(os, "sched_setaffinity"):  # before XLA counts the cores
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from benchmarks.beside_transformers import (  # noqa: E402
  GREEDY,
  PROMPT,
  SAMPLED,
  VOCAB,
  greedy_agreement,
  ours,
  prompts_of,
  questions,
  repeat,
  sampled_agreement,
  setup,
  theirs,
)
from benchmarks.turns import HEADER, Row, in_turns  # noqa: E402
from jaxvlm import sampling  # noqa: E402
from jaxvlm.losses import group_advantages  # noqa: E402
from jaxvlm.rollout import Slots, make_generate, make_refill, statistics  # noqa: E402
from jaxvlm.rollout import generate as generating  # noqa: E402
from jaxvlm.sampling import Samples  # noqa: E402
from jaxvlm.train import objectives  # noqa: E402
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer  # noqa: E402
from jaxvlm.train.step import init_state, make_train_step, split  # noqa: E402
from jaxvlm.typing import Batch, Prompts  # noqa: E402


def decode(repeats: int) -> list[Row]:
  """Milliseconds of a step, B = 4: (65 tokens − 1 token) / 64."""
  inputs = questions(4)
  prompts, steps, rows = prompts_of(inputs), 64, []
  for name, rule in (("sampled", SAMPLED), ("greedy", GREEDY)):
    calls = {}
    for length in (1, steps + 1):
      calls["hf", length] = theirs(inputs, rule, 1, length)
      calls["we", length] = ours(prompts, rule, 1, length)
    seconds = in_turns(calls, repeats)
    if rule is GREEDY:
      agreement = greedy_agreement(inputs, steps)
    else:
      agreement = sampled_agreement(inputs, calls["we", steps + 1]())

    def step(side, seconds=seconds):
      each = seconds[side, steps + 1] - np.median(seconds[side, 1])
      return 1e3 * each / steps

    rows.append(
      Row(
        f"decode, a step, B = 4, {name}",
        step("hf"),
        step("we"),
        "ms",
        "2.5 / 4",
        agreement,
      )
    )
  return rows


def group(repeats: int) -> list[Row]:
  """From pixels to tokens, G = 8."""
  inputs = questions(1)
  prompts, rows = prompts_of(inputs), []
  for length, need in ((16, "2.5 / 4"), (64, "2.0 / 3.5")):
    calls = {
      "hf": theirs(inputs, SAMPLED, 8, length),
      "we": ours(prompts, SAMPLED, 8, length),
    }
    seconds = in_turns(calls, repeats)
    rows.append(
      Row(
        f"G = 8, {length} new tokens",
        1e3 * seconds["hf"],
        1e3 * seconds["we"],
        "ms",
        need,
        sampled_agreement(inputs, calls["we"]()),
      )
    )
  return rows


def copied(prompts, group, length) -> Callable[[], Samples]:
  """Returns the call of `ours` with the prompt computed `group` times.

  Keys are those of the group, so the samples must be the same.
  """
  call = ours(repeat(prompts, group), SAMPLED, 1, length)

  def keys(key, prompt_ids, _):
    return sampling.completion_keys(key, prompt_ids[:1], group).reshape(-1, 1)

  with mock.patch.object(generating, "completion_keys", keys):
    call()  # traced here, once
  return call


def prefix(repeats: int) -> list[Row]:
  """One prompt for a group beside a copy for every completion, our code."""
  prompts, rows = prompts_of(questions(1)), []
  for length, need in ((64, "2 / 4"), (16, "-")):
    calls = {
      "copied": copied(prompts, 8, length),
      "shared": ours(prompts, SAMPLED, 8, length),
    }
    seconds = in_turns(calls, repeats)
    a, b = calls["copied"](), calls["shared"]()
    tokens = np.asarray(a.tokens).reshape(b.tokens.shape) == b.tokens
    gap = np.abs(np.asarray(a.logprobs).reshape(b.logprobs.shape) - b.logprobs)
    rows.append(
      Row(
        f"copied / shared prefix, G = 8, {PROMPT} + {length} tokens",
        1e3 * seconds["copied"],
        1e3 * seconds["shared"],
        "ms",
        need,
        f"tokens {tokens.sum()}/{tokens.size},"
        f" log-probabilities {gap[tokens].max():.1e}",
      )
    )
  return rows


def experience(prompts: Prompts, group: int, length: int):
  """Returns completions with their log-probabilities and random rewards."""
  samples = ours(prompts, SAMPLED, group, length)()
  rewards = np.random.default_rng(0).integers(0, 2, samples.tokens.shape[:2])
  return objectives.Experience(
    Batch(prompts, samples.tokens, samples.mask),
    samples.logprobs,
    group_advantages(jnp.asarray(rewards, jnp.float32)),
  )


def copy_prompts(x: objectives.Experience) -> objectives.Experience:
  """Returns the same completions, each behind its own copy of the prompt."""
  g = x.batch.tokens.shape[1]
  tokens, mask, old, advantages = (
    y.reshape(-1, 1, *y.shape[2:])
    for y in (x.batch.tokens, x.batch.mask, x.old_logprobs, x.advantages)
  )
  batch = Batch(repeat(x.batch.prompts, g), tokens, mask)
  return objectives.Experience(batch, old, advantages)


def train(repeats: int) -> list[Row]:
  """One GRPO step with AdamW, four prompts of G = 8."""
  s, rows = setup(), []
  objective = objectives.grpo(s.model, vocab_size=VOCAB)
  optimizer = make_optimizer(OptimizerConfig())
  step = make_train_step(objective, objectives.count, optimizer)
  gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))
  prompts = prompts_of(questions(4))
  for length, need in ((PROMPT, "1.5 / 2.5"), (PROMPT // 3, "1.5 / 2.5")):
    shared = experience(prompts, 8, length)
    inputs = jax.device_put({"copied": copy_prompts(shared), "shared": shared})
    states = {name: init_state(s.params, optimizer) for name in inputs}

    def run(name, inputs=inputs, states=states):
      states[name], _ = step(states[name], (), inputs[name])  # donated
      jax.block_until_ready(states[name])

    calls = {name: functools.partial(run, name) for name in inputs}
    seconds = in_turns(calls, repeats)
    (a, _), da = gradient(
      s.params, (), inputs["copied"], objectives.count(inputs["copied"])
    )
    (b, _), db = gradient(
      s.params, (), inputs["shared"], objectives.count(inputs["shared"])
    )
    relative = jax.tree.map(
      lambda x, y: jnp.linalg.norm(x - y) / jnp.linalg.norm(x), da, db
    )
    rows.append(
      Row(
        f"GRPO step, copied / shared, 4 × G = 8, {PROMPT} + {length} tokens",
        1e3 * seconds["copied"],
        1e3 * seconds["shared"],
        "ms",
        need,
        f"loss {abs(a - b):.1e}, gradients (worst tensor, relative)"
        f" {max(jax.tree.leaves(relative)):.1e}",
      )
    )
  return rows


def gap(repeats: int) -> list[str]:
  """Log-probabilities of the training forward beside those of the rollout."""
  del repeats
  s, prompts = setup(), prompts_of(questions(4))
  samples = ours(prompts, SAMPLED, 8, 64)()
  batch = Batch(prompts, samples.tokens, samples.mask)
  score = jax.jit(
    lambda params: statistics(s.model, params, batch, vocab_size=VOCAB)
  )
  ratio = np.float64(score(s.params).logprobs) - samples.logprobs
  # E[(r − 1) − log r] ≥ 0 with r = trainer / rollout estimates KL from
  # samples of the rollout with little variance (k3).
  kl = np.mean(np.expm1(ratio) - ratio)
  return [
    f"Trainer against rollout, {ratio.size} tokens: log-probabilities differ"
    f" by {np.abs(ratio).max():.1e} at most (asked: 1e-4), mean KL {kl:.1e}"
    " (asked: below 1e-6)."
  ]


def memory(repeats: int) -> list[str]:
  """Bytes of keys and values, shared and copied, and what formulas say."""
  del repeats
  s, group, length = setup(), 16, 128
  prompts = prompts_of(questions(1))

  def held(prompts, group):
    _, kept = jax.jit(s.model.prefill)(s.model.unstack(s.params), prompts)
    cache = s.model.init_cache(kept, group, length)
    return sum(x.nbytes for x in jax.tree.leaves((kept.prompt, cache)))

  c = s.config
  token = 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * 4
  shared, copied = held(prompts, group), held(repeat(prompts, group), 1)
  return [
    f"Cache of G = {group}, {PROMPT} + {length} tokens: shared"
    f" {shared:,} bytes, formula 2·L·K·d·4·(S + G·T) ="
    f" {token * (PROMPT + group * length):,}; copied {copied:,} bytes,"
    f" formula 2·L·K·d·4·G·(S + T) = {token * group * (PROMPT + length):,};"
    f" ratio {copied / shared:.2f}."
  ]


# The last norm is scaled down until every token is equally likely; then
# VOCAB / 40 ids that end a turn make the lengths geometric with mean 40.
ENDS = tuple(range(VOCAB - round(VOCAB / 40), VOCAB))


@functools.cache
def flat_params():
  params = setup().params
  norm = jax.tree.map(lambda x: 1e-3 * x, params["model"]["norm"])
  return {**params, "model": {**params["model"], "norm": norm}}


def waves(prompts: Prompts, rows: int, **options) -> Callable:
  """Returns a call that samples `rows` prompts at once, to the last end."""
  generate = make_generate(setup().model, **options)
  count = prompts.tokens.shape[0]
  parts = jax.device_put(split(prompts, count // rows))
  ids = jnp.arange(count).reshape(-1, rows)

  def call() -> list[Samples]:
    return [
      jax.block_until_ready(
        generate(
          flat_params(),
          jax.tree.map(lambda x, i=i: x[i], parts),
          jax.random.key(0),
          ids[i],
        )
      )
      for i in range(len(ids))
    ]

  return call


def refilled(prompts: Prompts, rows: int, **options) -> Callable:
  """Returns a call that keeps as many slots full."""
  # As many slots as the waves have; a group of 16 takes turns in four of them,
  # so that four times as many prompts are under way.
  slots = Slots(rows=4 * rows, width=options["group"] // 4, segment=8)
  generate = make_refill(setup().model, slots, **options)
  prompts = jax.device_put(prompts)
  ids = jnp.arange(prompts.tokens.shape[0])

  def call() -> list[Samples]:
    key = jax.random.key(0)
    return [jax.block_until_ready(generate(flat_params(), prompts, key, ids))]

  return call


def refill(repeats: int) -> list[Row | str]:
  """Kept tokens a second: G = 16, 128 new tokens, mean length 40."""
  prompts, lines = prompts_of(questions(16)), []
  options = {
    "group": 16,
    "sampling": SAMPLED,
    "max_new_tokens": 128,
    "eos_ids": ENDS,
    "pad_id": 0,
    "vocab_size": VOCAB,
  }
  for rows in (1, 4):
    calls = {
      "waves": waves(prompts, rows, **options),
      "refill": refilled(prompts, rows, **options),
    }
    seconds = in_turns(calls, repeats)
    done = {name: call() for name, call in calls.items()}
    kept = {k: sum(int(x.mask.sum()) for x in v) for k, v in done.items()}
    paid = {k: sum(int(x.slot_steps) for x in v) for k, v in done.items()}
    a = np.concatenate([x.tokens for x in done["waves"]])
    b = np.concatenate([x.tokens for x in done["refill"]])
    lines.append(
      Row(
        f"waves / refill, {16 * rows} slots, G = 16, 128 new tokens",
        1e6 * seconds["waves"] / kept["waves"],
        1e6 * seconds["refill"] / kept["refill"],
        "µs a kept token",
        "1.5 / 2",
        f"tokens {(a == b).sum()}/{a.size}",
      )
    )
    rate = {k: kept[k] / np.median(seconds[k]) for k in calls}
    lines.append(
      f"{16 * rows} slots, 16 prompts × G = 16, mean length"
      f" {kept['waves'] / 256:.1f}: waves {rate['waves']:,.0f} kept tokens/s,"
      f" {kept['waves'] / paid['waves']:.0%} of slot-steps kept; refill"
      f" {rate['refill']:,.0f} and {kept['refill'] / paid['refill']:.0%}."
    )
  return lines


CASES = {
  "decode": decode,
  "group": group,
  "prefix": prefix,
  "train": train,
  "gap": gap,
  "memory": memory,
  "refill": refill,
}

LONG = ("train", "refill")  # a minute or more each


def report(names, repeats: int):
  """Yields the lines of the page as they are known."""
  count = sum(x.size for x in jax.tree.leaves(setup().params))
  yield "# Rollouts"
  yield ""
  yield (
    f"`python -m benchmarks.rollout --repeats={repeats}`: {count / 1e6:.1f} M"
    f" parameters, float32, {repeats} repetitions in turns, {CORES} cores"
    f" ({platform.machine()}), jax {jax.__version__}, torch"
    f" {torch.__version__} and transformers {transformers.__version__} (eager)."
    " Base is transformers, or our own code with the prompt copied."
  )
  yield ""
  yield HEADER
  yield "|---|---|---|---|---|---|"
  notes = []
  for name in names:
    for line in CASES[name](repeats):
      if isinstance(line, Row):
        yield "| " + " | ".join(line.cells()) + " |"
      else:
        notes.append(line)
  for note in notes:
    yield ""
    yield note


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("cases", nargs="*", metavar="|".join(CASES))
  parser.add_argument("--all", action="store_true", help="long cases too")
  parser.add_argument("--repeats", type=int, default=10)
  parser.add_argument("--out", type=pathlib.Path, help="write the page here")
  options = parser.parse_args()
  unknown = sorted(set(options.cases) - set(CASES))
  if unknown:
    parser.error(f"unknown case(s) {unknown}, expected some of {list(CASES)}")
  short = [name for name in CASES if options.all or name not in LONG]
  names = options.cases or short
  torch.set_num_threads(CORES)
  lines = []
  for line in report(names, options.repeats):
    print(line, flush=True)
    lines.append(line)
  if options.out:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
  main()
