"""Models of a few thousand random parameters, their prompts, their folders."""

import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvlm import models
from jaxvlm.data import diagrams, layout
from jaxvlm.data import tokenizer as tokenizers
from jaxvlm.data.prompts import EncodedPrompt, lay_out_text
from jaxvlm.data.rows import Bucket, collate_prompts
from jaxvlm.data.sources.world import Mixture, WorldRows
from jaxvlm.models import qwen3_vl, text
from jaxvlm.models.qwen2_5_vl import Config, VisionConfig
from jaxvlm.models.rope import Linear, Rope
from jaxvlm.typing import Batch, Model, Prompts

VOCAB, PADDED, PAD, EOS, IMAGE = 61, 64, 59, 60, 58
CONFIG = Config(
  vocab_size=PADDED,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  rope_theta=10.0,
  mrope_section=(2, 1, 1),
  max_position_embeddings=512,
  tie_word_embeddings=False,
  image_token_id=IMAGE,
  video_token_id=57,
  vision_start_token_id=56,
  vision_end_token_id=55,
  vision=VisionConfig(
    depth=2,
    hidden_size=32,
    intermediate_size=48,
    num_heads=2,
    out_hidden_size=32,
    window_size=56,
    fullatt_block_indexes=(1,),
  ),
)


# A tower of the other kind; patches of 4 pixels keep arrays small.
QWEN3 = qwen3_vl.Config(
  vocab_size=PADDED,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=3,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=16,  # wider together than the stream
  rope_theta=10.0,
  mrope_section=(2, 3, 3),
  max_position_embeddings=512,
  image_token_id=IMAGE,
  video_token_id=57,
  vision_start_token_id=56,
  vision_end_token_id=55,
  vision=qwen3_vl.VisionConfig(
    depth=3,
    hidden_size=32,
    intermediate_size=48,
    num_heads=2,
    out_hidden_size=32,
    patch_size=4,
    num_position_embeddings=16,
    deepstack_visual_indexes=(0, 2),
  ),
)


def params(config: Any = CONFIG, seed: int = 0, scale: float = 0.2):
  """Returns random parameters, none of which is at a default such as 0."""
  rng = np.random.default_rng(seed)

  def draw(path, x):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    center = 1.0 if name.endswith("/weight") else 0.0  # of a norm
    return jnp.asarray(center + rng.normal(size=x.shape) * scale, x.dtype)

  shapes = jax.eval_shape(lambda: models.init(config, jax.random.key(0)))
  return jax.tree_util.tree_map_with_path(draw, shapes)


# What reads text only, by family: heads that share keys, an untied head.
TEXTS = {
  "qwen2": text.Config(
    model_type="qwen2",
    vocab_size=PADDED,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    rms_norm_eps=1e-6,
    rope=Rope(10.0),
    max_position_embeddings=512,
    tie_word_embeddings=True,
    qkv_bias=True,
  ),
  "llama": text.Config(
    model_type="llama",
    vocab_size=PADDED,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=16,  # wider together than the stream
    rms_norm_eps=1e-6,
    rope=Rope(10.0, Linear(2.0)),
    max_position_embeddings=512,
    tie_word_embeddings=False,
    qkv_bias=True,
    o_bias=True,
    mlp_bias=True,
  ),
}


def text_batch(
  seed: int = 0, group: int = 2, length: int = 5, n: int = 4
) -> Batch:
  """Returns left-padded prompts of text with random completions."""
  rng = np.random.default_rng(seed)
  rows = [
    lay_out_text(rng.integers(0, 50, 3 + i % 4, np.int32)) for i in range(n)
  ]
  front = collate_prompts(rows, Bucket(8, 0), PAD)
  lengths = rng.integers(1, length + 1, (n, group))
  mask = np.arange(length) < lengths[..., None]
  tokens = np.where(mask, rng.integers(0, VOCAB, mask.shape), PAD)
  return Batch(front, tokens.astype(np.int32), mask)


# One picture; two of different size; text alone; another single picture.
GRIDS = (((1, 4, 6),), ((1, 2, 4), (1, 6, 4)), (), ((1, 6, 6),))


def prompts(seed: int = 0, grids=GRIDS, config: Any = CONFIG) -> Prompts:
  """Returns left-padded prompts with random words and pictures."""
  rng = np.random.default_rng(seed)
  vision = config.layout
  rows = []
  for number, row in enumerate(grids):
    pictures = [IMAGE] * sum(layout.image_tokens(vision, g) for g in row)
    tokens = [*rng.integers(0, 50, 2), *pictures, *rng.integers(0, 50, number)]
    tokens = np.array([*tokens, 3], np.int32)
    arranged = layout.arrange(vision, row)
    positions, after = layout.mrope_positions(
      vision, tokens, np.ones(len(tokens), bool), row, IMAGE
    )
    slots = np.full(len(tokens), -1, np.int32)
    slots[tokens == IMAGE] = arranged.merged_slots
    patches = rng.normal(size=(len(arranged.source), vision.patch_values))
    patches[arranged.source < 0] = 0
    rows.append(
      EncodedPrompt(
        tokens,
        positions,
        after,
        slots,
        patches.astype(np.float32),
        arranged.segments,
        arranged.positions,
      )
    )
  return collate_prompts(rows, Bucket(18, 64), PAD)


def batch(
  seed: int = 0, group: int = 2, length: int = 5, config: Any = CONFIG
) -> Batch:
  """Returns prompts with random completions of different lengths."""
  rng = np.random.default_rng(seed)
  front = prompts(seed, config=config)
  shape = (len(front.tokens), group, length)
  lengths = rng.integers(1, length + 1, shape[:2])
  mask = np.arange(length) < lengths[..., None]
  tokens = np.where(mask, rng.integers(0, VOCAB, shape), PAD)
  return Batch(front, tokens.astype(np.int32), mask)


def bag(width: int = 8) -> tuple[Model, dict]:
  """Returns a stand-in that compiles at once and reads all of a batch.

  A hidden state is the sum of what was read so far: every field of the
  prompts changes it, so a batch that is cut along a wrong axis shows.
  """

  def prompt(p, x):
    words = jnp.where(x.mask[..., None], p["embed"][x.tokens], 0).mean(1)
    numbers = jnp.stack(
      [
        *(x.positions[i].mean(-1) / 20 for i in range(3)),
        x.next_position / 20,
        x.image_slots.mean(-1) / 20,
        x.patches.mean((1, 2)),
        x.patch_segments.mean(-1) + 0.0,
        x.patch_positions.mean((1, 2)),
      ],
      -1,
    )
    return jnp.tanh(words + numbers @ p["reads"])

  def forward(p, batch):
    read = jnp.cumsum(p["embed"][batch.tokens[..., :-1]], axis=2)
    read = jnp.pad(read, ((0, 0), (0, 0), (1, 0), (0, 0)))
    states = jnp.tanh(prompt(p, batch.prompts)[:, None, None] + read)
    return states + p["norm"]["bias"]

  keys = jax.random.split(jax.random.key(1), 3)
  tree = {
    "embed": jax.random.normal(keys[0], (PADDED, width)),
    "reads": jax.random.normal(keys[1], (8, width)),
    "head": {"kernel": jax.random.normal(keys[2], (width, PADDED))},
    "norm": {"weight": jnp.ones(width), "bias": jnp.zeros(width)},
  }

  def head(p):
    return p["norm"]["weight"][:, None] * p["head"]["kernel"]

  return Model(forward, None, None, None, head, lambda p: p), tree


@functools.cache
def corpus() -> list[str]:
  """Returns texts of the generated world, for a tokenizer of its words."""
  texts = ["system\nYou are a helpful assistant.\nuser\nassistant\n"] * 40
  for row in WorldRows(diagrams.PRETRAIN, 300, Mixture(texts=3)):
    texts += [row.question, *row.responses]
  return texts


TEXT_TEMPLATE = (
  "{% for m in messages %}"
  "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
  "{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_text_folder(folder: pathlib.Path, config: text.Config) -> text.Config:
  """Writes a random model that reads text only, with its own tokenizer."""
  tokenizers.build((), folder, vocab_size=512)
  (folder / "chat_template.jinja").write_text(TEXT_TEMPLATE)
  config = dataclasses.replace(config, vocab_size=512)
  tree = jax.tree.map(np.asarray, params(config, scale=0.05))
  models.save_pretrained(folder, config, tree)
  return config


def write_folder(
  folder: pathlib.Path,
  texts=(),
  *,
  seed: int = 0,
  vocab_size: int = 512,
  config: Any = CONFIG,
) -> Any:
  """Writes a random model with its own tokenizer, in Hugging Face's format."""
  tokenizers.build(texts, folder, vocab_size=vocab_size)
  stored = json.loads((folder / "tokenizer.json").read_text())
  special = {token["content"]: token["id"] for token in stored["added_tokens"]}
  config = dataclasses.replace(
    config,
    vocab_size=vocab_size,
    tie_word_embeddings=True,
    image_token_id=special["<|image_pad|>"],
    video_token_id=special["<|video_pad|>"],
    vision_start_token_id=special["<|vision_start|>"],
    vision_end_token_id=special["<|vision_end|>"],
  )
  tree = jax.tree.map(np.asarray, params(config, seed, 0.05))
  models.save_pretrained(folder, config, tree)
  return config
