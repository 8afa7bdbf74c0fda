"""FLOPs of a decoder in closed form, from the configuration and the shapes.

Matrix products only, a multiply-add is two. What the mathematics needs: every
prompt once for its G completions, half of the square under a causal mask, no
recomputation. `SQUARE` counts the whole square, as the plain product of
queries and keys does: an einsum has no causal half. What a tower costs is its
family's to say (`family.Tower`).
"""

import dataclasses
import enum

from jaxvlm.models.decoder_layer import DecoderConfig


class Attention(enum.Enum):
  """How a causal mask is counted: the triangle, or the square around it."""

  CAUSAL = enum.auto()
  SQUARE = enum.auto()


@dataclasses.dataclass(frozen=True)
class Flops:
  """FLOPs by part of the model; attention belongs to its part."""

  vision: float = 0.0
  decoder: float = 0.0
  head: float = 0.0

  @property
  def total(self) -> float:
    return self.vision + self.decoder + self.head

  def __add__(self, other: "Flops") -> "Flops":
    return Flops(
      self.vision + other.vision,
      self.decoder + other.decoder,
      self.head + other.head,
    )

  def scaled(self, vision: float, decoder: float, head: float) -> "Flops":
    """Returns each part times its own factor."""
    return Flops(self.vision * vision, self.decoder * decoder, self.head * head)


@dataclasses.dataclass(frozen=True)
class Shapes:
  """Sizes of a batch: N, G, S, T, P, as in `jaxvlm.typing`."""

  prompts: int
  group: int
  prompt_tokens: int
  completion_tokens: int
  patches: int


def forward(
  config: DecoderConfig,
  shapes: Shapes,
  *,
  vocab_size: int,
  attention: Attention = Attention.CAUSAL,
  vision: float = 0.0,
) -> Flops:
  """Returns the FLOPs of scoring a batch: `forward`, then the head.

  The completion stream is one token short: nothing reads its last token.

  Args:
    config: the architecture.
    shapes: of the batch.
    vocab_size: columns of the head that count.
    attention: convention of the causal mask.
    vision: of the tower.
  """
  n, g, s, t = (
    shapes.prompts, shapes.group, shapes.prompt_tokens, shapes.completion_tokens
  )  # fmt: skip
  read = t - 1
  tokens = n * (s + g * read)
  pairs = n * (
    _triangle(s, attention) + g * (read * s + _triangle(read, attention))
  )
  return Flops(
    vision=vision,
    decoder=tokens * layer_matrices(config) * config.num_hidden_layers
    + 4.0 * pairs * _width(config) * config.num_hidden_layers,
    head=2.0 * n * g * t * config.hidden_size * vocab_size,
  )


def rollout(
  config: DecoderConfig,
  shapes: Shapes,
  *,
  vocab_size: int,
  vision: float = 0.0,
) -> Flops:
  """Returns the FLOPs of sampling T tokens of every completion."""
  n, g, t = shapes.prompts, shapes.group, shapes.completion_tokens
  scored = forward(config, shapes, vocab_size=vocab_size, vision=vision)
  # The first token comes from the prompt's last state, once for its group.
  head = 2.0 * n * (1 + g * (t - 1)) * config.hidden_size * vocab_size
  return dataclasses.replace(scored, head=head)


def layer_matrices(config: DecoderConfig) -> float:
  """Returns the FLOPs of one token in the matrices of one decoder layer."""
  d, q = config.hidden_size, _width(config)
  kv = config.num_key_value_heads * config.head_dim
  return 2.0 * (2 * d * q + 2 * d * kv + 3 * d * config.intermediate_size)


def _width(config: DecoderConfig) -> int:
  """Returns the width of all query heads together."""
  return config.num_attention_heads * config.head_dim


def _triangle(length: int, attention: Attention) -> float:
  if attention is Attention.SQUARE:
    return float(length * length)
  return length * (length + 1) / 2
