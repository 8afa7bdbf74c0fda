"""What families without pictures share: configuration and config.json.

Each of them is the common decoder with one axis of positions; what differs is
which biases there are, how rotary angles are scaled, and what its config.json
may leave out: a `Dialect`.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxvlm.models import config_json, decoder_layer, names, partition, rope
from jaxvlm.models.config_json import ACTIVATION
from jaxvlm.models.decoder import Decoder, embed_text
from jaxvlm.models.family import Family
from jaxvlm.models.rope import Rope
from jaxvlm.typing import Params

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """A decoder that reads text; names as in config.json but where said.

  Attributes:
    rope: rotary base and scaling: `rope_theta` with `rope_scaling`, or
      `rope_parameters`.
    qkv_bias: whether queries, keys and values have biases.
    o_bias: whether the output of attention has one.
    mlp_bias: whether the MLP's products have them.
    source: text of the config.json that this was read from, or nothing. It
      keeps what is not read here and is no part of what makes two configs
      equal.
  """

  model_type: str
  vocab_size: int
  hidden_size: int
  intermediate_size: int
  num_hidden_layers: int
  num_attention_heads: int
  num_key_value_heads: int
  head_dim: int
  rms_norm_eps: float
  rope: Rope
  max_position_embeddings: int
  tie_word_embeddings: bool
  qkv_bias: bool = False
  o_bias: bool = False
  mlp_bias: bool = False
  initializer_range: float = 0.02
  bos_token_id: int | None = None
  # Kept for transformers; ends of answers come from generation_config.json and
  # the tokenizer. Of several, the first.
  eos_token_id: int | None = None
  source: str = dataclasses.field(default="", repr=False, compare=False)
  qk_norm: ClassVar[bool] = False
  # No pictures.
  layout: ClassVar[None] = None
  image_token_id: ClassVar[None] = None

  def __post_init__(self):
    even = (
      self.head_dim > 0 and self.head_dim % 2 == 0,
      f"head_dim is {self.head_dim}",
      "expected an even number, for positions turn pairs",
    )
    rules = config_json.heads_rule(self), even
    config_json.check(self.model_type, rules)


class Dialect(NamedTuple):
  """How a family writes its config.json.

  Attributes:
    model_type: its name there.
    architecture: transformers' class.
    left_out: field -> what its absence means.
    inert: fields that decide nothing here, beside `config_json.INERT`.
    ropes: kind of rotary scaling -> names of its settings.
    biases: content -> (qkv_bias, o_bias, mlp_bias).
    own: configuration -> fields that this family alone writes.
  """

  model_type: str
  architecture: str
  left_out: Mapping[str, Any]
  inert: frozenset[str]
  ropes: Mapping[str, tuple[str, ...]]
  biases: Callable[[Mapping[str, Any]], tuple[bool, bool, bool]]
  own: Callable[[Config], dict[str, Any]]


_BIASES = ("qkv_bias", "o_bias", "mlp_bias")
# Fields of a Config that config.json has under the same names.
_PLAIN = tuple(
  field.name
  for field in dataclasses.fields(Config)
  if field.name not in ("model_type", "rope", "source", *_BIASES)
)
_OPTIONAL = ("bos_token_id", "eos_token_id", "initializer_range")


def family(dialect: Dialect, presets: Mapping[str, Config]) -> Family:
  """Returns the family of a dialect."""
  return Family(
    model_type=dialect.model_type,
    read=functools.partial(read, dialect),
    write=functools.partial(write, dialect),
    decoder=decoder,
    init=init,
    table=TABLE,
    rules=partition.RULES,
    presets=presets,
  )


# Official folders and transformers 5 agree on these names.
TABLE = names.Table(names.DECODER, {"language_model.": "model."})


def decoder(config: Config) -> Decoder:
  """Returns the decoder of one configuration."""

  def angles(positions: Array) -> Array:
    # A batch that was laid out for pictures and has none: all axes agree.
    turns = rope.frequencies(config.rope, config.head_dim)
    return positions[0][..., None].astype(jnp.float32) * turns

  return Decoder(config, angles, embed_text, axes=1, stacks={"model": "layers"})


def init(config: Config, key: Array) -> Params:
  """Returns random parameters, normal(0, initializer_range), f32."""
  return {"model": decoder_layer.init(config, key)}


def read(
  dialect: Dialect, raw: Mapping[str, Any], where: str = "config.json"
) -> Config:
  """Reads config.json: flat as published, or with the decoder in text_config.

  Args:
    dialect: of the family.
    raw: the file's content.
    where: what to call it in a message.

  Raises:
    ValueError: another architecture, a setting that is not supported, a field
      that is absent or of the wrong type.
  """
  config_json.check_model_type(raw, dialect.model_type, where)
  config_json.check_plain(raw, where)
  text = _text(raw, where)
  config_json.check_full_attention(text, where)
  config_json.check_activation(text, "text", where)
  rotary = config_json.rotary(text, where, dialect.ropes)
  text = {**dialect.left_out, **text}
  found = config_json.arguments(
    Config, _PLAIN, _completed(text), where, optional=_OPTIONAL
  )
  known = {*config_json.INERT, *dialect.inert, *dialect.left_out, *_PLAIN}
  unknown = raw.keys() | text.keys()
  config_json.warn_of_unknown(unknown - known - {"rope_theta"}, where)
  return Config(
    model_type=dialect.model_type,
    rope=rope.read({"rope_theta": text.get("rope_theta"), **rotary}, where),
    source=json.dumps(raw),
    **found,
    **dict(zip(_BIASES, dialect.biases(text), strict=True)),
  )


def write(dialect: Dialect, config: Config) -> dict[str, Any]:
  """Returns config.json: as it was read, but for what has changed since.

  The official flat form, if it was not read from a file.
  """
  if not config.source:
    return {
      "architectures": [dialect.architecture],
      "model_type": dialect.model_type,
      "hidden_act": ACTIVATION,
      **{name: getattr(config, name) for name in _PLAIN},
      **rope.write(config.rope),
      **dialect.own(config),
    }
  raw = json.loads(config.source)
  before = read(dialect, raw)
  text = raw.get("text_config") or raw
  for name in _PLAIN:
    value = getattr(config, name)
    if value != getattr(before, name):
      text[name] = value
  if text is not raw and config_json.TIED in raw:
    raw[config_json.TIED] = config.tie_word_embeddings
  if config.rope != before.rope:
    text.pop("rope_parameters", None)
    text |= rope.write(config.rope)
  return raw


def _text(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
  """Returns the decoder's fields of a flat or nested file."""
  inner = config_json.section(raw, "text_config", where)
  if not inner:
    return dict(raw)
  tied = config_json.TIED
  return {**inner, tied: bool(raw.get(tied) or inner.get(tied))}


def _completed(text: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields with those that others imply."""
  text = dict(text)
  heads, width = (
    text.get(name) for name in ("num_attention_heads", "hidden_size")
  )
  if text.get("num_key_value_heads") is None and "num_key_value_heads" in text:
    text["num_key_value_heads"] = heads
  if text.get("head_dim") is None and heads and width:
    text["head_dim"] = width // heads
  return text


def small(
  model_type: str,
  *,
  width: int,
  heads: int,
  layers: int,
  vocab_size: int,
  special: Mapping[str, int],
  **own: Any,
) -> Config:
  """Returns a model of text small enough to train from nothing on a laptop.

  Args:
    model_type: the family.
    width: of the decoder.
    heads: query heads.
    layers: of the decoder.
    vocab_size: the tokenizer's, special tokens included.
    special: ids of the special tokens.
    **own: fields that make it one of the family.
  """
  return Config(
    model_type=model_type,
    vocab_size=vocab_size,
    hidden_size=width,
    intermediate_size=3 * width,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    head_dim=width // heads,
    rms_norm_eps=1e-6,
    # Texts of some hundred tokens: with a base of 1e6 most frequencies would
    # not turn at all.
    rope=Rope(1e3),
    max_position_embeddings=1024,
    initializer_range=0.05,
    bos_token_id=special["<|endoftext|>"],
    eos_token_id=special["<|im_end|>"],
    **own,
  )
