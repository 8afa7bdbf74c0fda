"""One model in transformers and in ours: calls of both, and what they agree on.

The model is a Qwen2.5-VL of 5.9 M parameters behind a prompt of 192 tokens,
64 of which are a picture of 256 patches. The weights are random and the same.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvlm.models import qwen2_5_vl
from jaxvlm.rollout import make_generate
from jaxvlm.sampling import Samples, Sampling
from jaxvlm.typing import Batch, Prompts
from tests.reference import hf

torch = hf.torch

VOCAB, PROMPT, SIDE = 4096, 192, 16  # a picture of SIDE × SIDE patches
BEFORE = 20  # words before the picture
SAMPLED, GREEDY = Sampling(), Sampling(temperature=0.0)


def config() -> qwen2_5_vl.Config:
  """Returns the model that is measured."""
  return hf.tiny_config(
    vocab_size=VOCAB,
    hidden_size=256,
    intermediate_size=704,
    num_hidden_layers=4,
    num_attention_heads=8,
    num_key_value_heads=2,
    mrope_section=(4, 6, 6),
    vision=dict(
      depth=4,
      hidden_size=160,
      intermediate_size=432,
      num_heads=4,
      patch_size=14,
      window_size=112,
      fullatt_block_indexes=(1, 3),
    ),
  )


class Setup(NamedTuple):
  """One model in both libraries."""

  config: qwen2_5_vl.Config
  torch: Any
  model: Any
  params: Any


@functools.cache
def setup() -> Setup:
  c = config()
  reference = hf.random_model(c, seed=0)
  # A generated end of the turn would stop one side only.
  reference.generation_config.eos_token_id = None
  params = jax.tree.map(jnp.asarray, hf.to_jax(c, reference))
  return Setup(c, reference, qwen2_5_vl.bind(c), params)


def questions(count: int) -> hf.Inputs:
  """Returns `count` different prompts as a processor hands them out."""
  picture = SIDE * SIDE // setup().config.vision.spatial_merge_size ** 2
  after = PROMPT - BEFORE - picture - 2  # start and end of the picture
  row = (BEFORE, (1, SIDE, SIDE), after)
  return hf.random_inputs(setup().config, (row,) * count, "left", seed=1)


def prompts_of(inputs: hf.Inputs) -> Prompts:
  return qwen2_5_vl.batch_from_hf(setup().config, *inputs).prompts


def repeat(prompts: Prompts, count: int) -> Prompts:
  """Returns every prompt `count` times: what a copied prefix costs."""
  positions = np.repeat(prompts.positions, count, axis=1)
  rest = prompts._replace(positions=prompts.next_position)
  copied = jax.tree.map(lambda x: np.repeat(x, count, axis=0), rest)
  return copied._replace(positions=positions)


def generator(rule: Sampling, group: int, length: int, eos_ids=()):
  return make_generate(
    setup().model,
    group=group,
    sampling=rule,
    max_new_tokens=length,
    eos_ids=eos_ids,
    pad_id=0,
    vocab_size=VOCAB,
  )


def ours(prompts, rule, group, length) -> Callable[[], Samples]:
  """Returns a call that samples and waits."""
  generate = generator(rule, group, length)
  prompts = jax.device_put(prompts)
  ids = jnp.arange(prompts.tokens.shape[0])
  key = jax.random.key(0)
  return lambda: jax.block_until_ready(
    generate(setup().params, prompts, key, ids)
  )


def theirs(inputs, rule, group, length) -> Callable[[], Any]:
  """Returns the same call of transformers; logits of every step come back."""
  draw = rule.temperature > 0
  tensors = inputs.torch(setup().config)
  how = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} if draw else {}

  def call(**more):
    torch.manual_seed(0)
    with torch.inference_mode():
      return setup().torch.generate(
        **tensors,
        **how,
        **more,
        do_sample=draw,
        num_return_sequences=group,
        max_new_tokens=length,
        pad_token_id=0,
      )

  return call


def logprobs_of(logits, tokens) -> np.ndarray:
  logp = torch.log_softmax(torch.as_tensor(logits), -1)
  index = torch.as_tensor(np.asarray(tokens), dtype=torch.int64)
  return logp.gather(-1, index[..., None])[..., 0].numpy()


def greedy_agreement(inputs: hf.Inputs, length: int) -> str:
  """Logits along their greedy tokens, and how many of ours are the same."""
  s = setup()
  prompts = prompts_of(inputs)
  out = theirs(inputs, GREEDY, 1, length)(
    output_logits=True, return_dict_in_generate=True
  )
  tokens = out.sequences[:, PROMPT:].numpy().astype(np.int32)
  want = torch.stack(out.logits, 1).numpy()
  batch = Batch(prompts, tokens[:, None], np.ones_like(tokens[:, None], bool))
  hidden = jax.jit(s.model.forward)(s.params, batch)[:, 0]
  found = np.asarray(hidden @ s.model.head(s.params))
  samples = ours(prompts, GREEDY, 1, length)()
  same = np.asarray(samples.tokens[:, 0]) == tokens
  until = np.logical_and.accumulate(same, -1)
  gap = np.abs(samples.logprobs[:, 0] - logprobs_of(want, tokens))[until].max()
  return (
    f"logits {np.abs(found - want).max():.1e}, greedy tokens"
    f" {same.sum()}/{same.size}, their log-probabilities {gap:.1e}"
  )


def sampled_agreement(inputs: hf.Inputs, samples: Samples) -> str:
  """Our log-probabilities beside transformers' on the tokens we drew."""
  s = setup()
  tokens = np.asarray(samples.tokens)
  rows = [
    inputs.row(s.config, i, tokens[i, j])
    for i in range(tokens.shape[0])
    for j in range(tokens.shape[1])
  ]
  with torch.inference_mode():
    logits = s.torch(**hf.stack(rows).torch(s.config)).logits
  want = logprobs_of(logits[:, PROMPT - 1 : -1], tokens.reshape(len(rows), -1))
  gap = np.abs(np.asarray(samples.logprobs).reshape(want.shape) - want)
  # The reference would place a picture at a placeholder that was drawn.
  special = [s.config.image_token_id, s.config.video_token_id]
  seen = np.isin(tokens, special).reshape(want.shape)
  gap = gap[np.cumsum(seen, -1) == 0]
  return f"log-probabilities {gap.max():.1e}"
