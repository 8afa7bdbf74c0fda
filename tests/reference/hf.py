"""Random tiny models of transformers, the parity reference.

Importing this module skips the importing test without torch, and fails it in
continuous integration: parity that silently was not checked is no parity.
"""

import functools
import os
import types
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from jaxvlm import models
from jaxvlm.models import names
from jaxvlm.models.qwen2_5_vl import Config, VisionConfig

try:
  import torch
  import transformers
  from transformers import vision_utils
  from transformers.models import qwen2_5_vl as reference
except ImportError:
  if os.environ.get("CI") == "true":
    raise
  pytest.skip(
    "torch is the parity reference: pip install -e .[test]",
    allow_module_level=True,
  )

transformers.logging.set_verbosity_error()

VOCAB = 120
IMAGE, VIDEO, START, END = 110, 111, 112, 113
_TEXT = 100  # ids below are text

# A row is a sequence of pieces: a number of text tokens or a picture's grid.
Piece = int | tuple[int, int, int]


def tiny_config(vision: dict[str, Any] | None = None, **fields: Any) -> Config:
  """Returns a Config of a few thousand parameters; `fields` override it."""
  defaults = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    mrope_section=(1, 1, 2),
    image_token_id=IMAGE,
    video_token_id=VIDEO,
    vision_start_token_id=START,
    vision_end_token_id=END,
  )
  tower = dict(
    depth=3,
    hidden_size=16,
    intermediate_size=20,
    num_heads=2,
    patch_size=4,
    window_size=16,
    fullatt_block_indexes=(1,),
  )
  fields = defaults | fields
  tower |= {"out_hidden_size": fields["hidden_size"]} | (vision or {})
  return Config(**fields, vision=VisionConfig(**tower))


class Inputs(NamedTuple):
  """What a Hugging Face processor hands to the model, as NumPy arrays."""

  input_ids: np.ndarray
  attention_mask: np.ndarray
  pixel_values: np.ndarray | None
  image_grid_thw: np.ndarray | None

  def row(self, config: Config, i: int, completion=()) -> "Inputs":
    """Returns row i alone, without padding, continued by `completion`."""
    count = [
      int((ids == config.image_token_id).sum()) for ids in self.input_ids
    ]
    unit = 1 if config.layout is None else config.layout.merge**2
    grids = () if self.image_grid_thw is None else self.image_grid_thw
    tokens = np.cumsum([0, *(int(np.prod(g)) // unit for g in grids)])
    first, last = sum(count[:i]), sum(count[: i + 1])
    kept = [g for g, t in zip(grids, tokens, strict=False) if first <= t < last]
    ids = self.input_ids[i][self.attention_mask[i] > 0]
    ids = np.concatenate([ids, np.asarray(completion, np.int64)])[None]
    return Inputs(
      input_ids=ids,
      attention_mask=np.ones_like(ids),
      pixel_values=(
        self.pixel_values[first * unit : last * unit] if kept else None
      ),
      image_grid_thw=np.stack(kept) if kept else None,
    )

  def torch(self, config: Config) -> dict[str, Any]:
    """Returns the reference's keyword arguments.

    Without mm_token_type_ids transformers 5 falls back to one-axis positions.
    """
    fields = self._asdict()
    if config.layout is not None:
      types = (self.input_ids == config.image_token_id).astype(np.int64)
      fields["mm_token_type_ids"] = types
    return {k: torch.tensor(v) for k, v in fields.items() if v is not None}


def stack(parts: Sequence[Inputs]) -> Inputs:
  """Returns several unpadded inputs as one batch, padded on the right."""
  length = max(part.input_ids.shape[1] for part in parts)

  def pad(x):
    return np.pad(x, ((0, 0), (0, length - x.shape[1])))

  pictures = [part for part in parts if part.image_grid_thw is not None]
  return Inputs(
    np.concatenate([pad(part.input_ids) for part in parts]),
    np.concatenate([pad(part.attention_mask) for part in parts]),
    np.concatenate([x.pixel_values for x in pictures]) if pictures else None,
    np.concatenate([x.image_grid_thw for x in pictures]) if pictures else None,
  )


def random_inputs(
  config: Config, rows: Sequence[Sequence[Piece]], side: str, seed: int
) -> Inputs:
  """Returns rows of random text and pictures, padded on `side`."""
  rng = np.random.default_rng(seed)
  unit = 1 if config.layout is None else config.layout.merge**2
  sequences, grids = [], []
  for row in rows:
    ids: list[int] = []
    for piece in row:
      if isinstance(piece, int):
        ids += rng.integers(1, _TEXT, piece).tolist()
      else:
        count = int(np.prod(piece)) // unit
        ids += [START, *[IMAGE] * count, END]
        grids.append(piece)
    sequences.append(ids)
  length = max(map(len, sequences))
  input_ids = np.zeros((len(rows), length), np.int64)
  mask = np.zeros_like(input_ids)
  for i, ids in enumerate(sequences):
    at = (
      slice(0, len(ids)) if side == "right" else slice(length - len(ids), None)
    )
    input_ids[i, at] = ids
    mask[i, at] = 1
  if not grids:
    return Inputs(input_ids, mask, None, None)
  patches = sum(int(np.prod(g)) for g in grids)
  pixels = rng.standard_normal((patches, config.layout.patch_values))
  return Inputs(
    input_ids, mask, pixels.astype(np.float32), np.array(grids, np.int64)
  )


def random_text(shape: tuple[int, ...], seed: int) -> np.ndarray:
  """Returns text tokens i32[shape]."""
  return np.random.default_rng(seed).integers(1, _TEXT, shape, np.int32)


def random_model(config: Any, seed: int):
  """Returns the reference, eager and float32, no parameter left at 0 or 1."""
  model = model_of(config)
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for parameter in model.parameters():
      fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
      noise = torch.randn(parameter.shape, generator=generator)
      one = 1.0 if (parameter == 1).all() else 0.0
      parameter.copy_(one + noise * fan_in**-0.5)
    if config.layout:
      # A placeholder that is generated would wait for a picture: make it rare.
      rare = [config.image_token_id, config.video_token_id]
      model.lm_head.weight[rare] *= 0.01
  return model.eval()


def model_of(config: Any):
  """Returns the reference of a configuration, eager and float32.

  It is made from the config.json that we write; Qwen2.5-VL's field by field.
  """
  if isinstance(config, Config):
    return _with_tower(config)
  fields = models.family_of(config).write(config)
  raw = transformers.AutoConfig.for_model(**fields)
  return auto_class(config).from_config(
    raw, attn_implementation="eager", dtype=torch.float32
  )


def auto_class(config: Any):
  """Returns transformers' class for models of its kind."""
  if config.layout is None:
    return transformers.AutoModelForCausalLM
  return transformers.AutoModelForImageTextToText


def _with_tower(config: Config):
  shared = {"hidden_act": "silu", "initializer_range": config.initializer_range}
  vision = {
    name: getattr(config.vision, name)
    for name in config.vision.__dataclass_fields__
  }
  vision["fullatt_block_indexes"] = list(vision["fullatt_block_indexes"])
  text_names = (
    "vocab_size hidden_size intermediate_size num_hidden_layers"
    " num_attention_heads num_key_value_heads rms_norm_eps"
    " max_position_embeddings"
  ).split()
  text = {name: getattr(config, name) for name in text_names}
  text["rope_parameters"] = {
    "rope_type": "default",
    "rope_theta": config.rope_theta,
    "mrope_section": list(config.mrope_section),
  }
  raw = reference.Qwen2_5_VLConfig(
    text_config={**shared, **text, "bos_token_id": None, "eos_token_id": None},
    vision_config={**shared, **vision, "in_channels": 3},
    tie_word_embeddings=config.tie_word_embeddings,
    image_token_id=config.image_token_id,
    video_token_id=config.video_token_id,
    vision_start_token_id=config.vision_start_token_id,
    vision_end_token_id=config.vision_end_token_id,
  )
  return reference.Qwen2_5_VLForConditionalGeneration._from_config(
    raw, attn_implementation="eager", dtype=torch.float32
  )


def to_jax(config: Any, model) -> Any:
  """Returns the reference's parameters as our tree."""
  tensors = {
    names.canonical_name(name): x.detach().numpy()
    for name, x in model.state_dict().items()
  }
  return names.from_state_dict(
    models.family_of(config).naming(config),
    tensors.__getitem__,
    set(tensors),
    np.float32,
  )


class States(NamedTuple):
  """What the reference computed on the way.

  Attributes:
    vision: last hidden before the merger, window order, or None.
    merged: image tokens in reading order, or None.
    features: [K, tokens, D] of DeepStack in reading order, or None.
    layers: [L, N, S, D] output of every decoder layer, before the last norm.
    normed: [N, S, D] after the last norm.
    logits: [N, S, V].
  """

  vision: np.ndarray | None
  merged: np.ndarray | None
  features: np.ndarray | None
  layers: np.ndarray
  normed: np.ndarray
  logits: torch.Tensor


def run(config: Config, model, inputs: Inputs) -> States:
  """Runs the reference and collects its states with forward hooks."""
  seen: dict[Any, Any] = {}

  def keep(name):
    def hook(module, args, output):
      seen[name] = output[0] if isinstance(output, tuple) else output

    return hook

  def keep_input(name):
    def hook(module, args, kwargs):
      seen[name] = args[0] if args else kwargs["hidden_states"]

    return hook

  decoder = getattr(model.model, "language_model", model.model)
  tower = getattr(model.model, "visual", None)
  # What a layer gives is what the next one gets: features are added between.
  hooks = [
    module.register_forward_pre_hook(keep_input(i), with_kwargs=True)
    for i, module in enumerate((*decoder.layers[1:], decoder.norm))
  ]
  hooks.append(decoder.norm.register_forward_hook(keep("normed")))
  if tower is not None:
    hooks.append(tower.register_forward_hook(keep("tower")))
  try:
    logits = model(**inputs.torch(config), use_cache=False).logits
  finally:
    for hook in hooks:
      hook.remove()
  vision = merged = features = None
  if "tower" in seen:
    vision = seen["tower"].last_hidden_state.detach().numpy()
    # The model splits the tower's output by picture, in place.
    merged = torch.cat(seen["tower"].pooler_output).detach().numpy()
    stacked = getattr(seen["tower"], "deepstack_features", None)
    if stacked is not None:
      parts = [torch.cat(pictures) for pictures in stacked]
      features = torch.stack(parts).detach().numpy()
  outputs = [seen[i] for i in range(len(decoder.layers))]
  return States(
    vision=vision,
    merged=merged,
    features=features,
    layers=torch.stack(outputs).detach().numpy(),
    normed=seen["normed"].detach().numpy(),
    logits=logits,
  )


def greedy(config: Config, model, inputs: Inputs, count: int) -> np.ndarray:
  """Returns `count` greedy tokens int[N, count] of `generate`."""
  with torch.no_grad():
    tokens = model.generate(
      **inputs.torch(config),
      max_new_tokens=count,
      min_new_tokens=count,
      do_sample=False,
      pad_token_id=0,
    )
  return tokens[:, inputs.input_ids.shape[1] :].numpy()


def window_index(layout, grids) -> tuple[np.ndarray, np.ndarray]:
  """Returns the reference's (order of merged tokens, window edges)."""
  index, edges = vision_utils.get_vision_window_index(
    torch.tensor(grids), layout.merge, layout.window, layout.patch
  )
  return index.numpy(), edges.numpy()


def rope_index(merge: int, tokens, mask, grids, image_token_id: int):
  """Returns the reference's (M-RoPE ids [3, S], delta) of one row."""
  grids = torch.tensor(grids) if grids else None
  # The method reads nothing of the model but its configuration.
  model = types.SimpleNamespace(
    config=types.SimpleNamespace(
      vision_config=types.SimpleNamespace(
        spatial_merge_size=merge, tokens_per_second=2
      )
    ),
    get_vision_position_ids=functools.partial(
      reference.Qwen2_5_VLModel.get_vision_position_ids, None
    ),
  )
  tokens = torch.tensor(tokens, dtype=torch.int64)[None]
  ids, delta = reference.Qwen2_5_VLModel.get_rope_index(
    model,
    tokens,
    mm_token_type_ids=(tokens == image_token_id).int(),
    image_grid_thw=grids,
    attention_mask=torch.tensor(mask)[None],
  )
  return ids[:, 0].numpy(), int(delta[0, 0])


def rotary_speeds(config) -> np.ndarray:
  """Returns the turns of one position, as the reference's model has them."""
  model = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
  assert model.attention_scaling == 1
  return model.inv_freq.numpy()


def from_pretrained(path):
  """Returns (model, report of missing, surplus and misshaped tensors)."""
  return reference.Qwen2_5_VLForConditionalGeneration.from_pretrained(
    path,
    attn_implementation="eager",
    dtype=torch.float32,
    output_loading_info=True,
  )
