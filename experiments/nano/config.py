"""Settings of the shipped models. Every value is ours: no paper trains them."""

import dataclasses

from jaxvlm.data import chat as chats
from jaxvlm.data import diagrams
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder
from jaxvlm.data.sources.world import Mixture
from jaxvlm.train.optimizer import OptimizerConfig

# The smallest and the largest picture.
PIXELS = PixelBudget(56 * 56, 112 * 112)
PROMPT_TOKENS = 56
PATCH_SLOTS = 64
MAX_NEW_TOKENS = 44
VOCAB_SIZE = 512


def encoder(chat: chats.Chat) -> Encoder:
  """Returns the world's encoder: every prompt fits one bucket."""
  return Encoder(
    chat=chat,
    budget=PIXELS,
    buckets=(Bucket(PROMPT_TOKENS, PATCH_SLOTS),),
    max_new_tokens=MAX_NEW_TOKENS,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NanoConfig:
  """One model: its size, its corpus, its training.

  Attributes:
    name: folder under jaxvlm/assets.
    width, heads, layers, vision_width: see `jaxvlm.models.nano`.
    split: seeds and families of the corpus.
    mixture: how the corpus answers.
    prompts: pictures per step.
    steps: optimizer steps; no picture is seen twice.
    optimizer: learning rate and the rest.
    seed: of the initialization.
  """

  name: str
  width: int
  heads: int
  layers: int
  vision_width: int
  split: diagrams.Split
  mixture: Mixture
  prompts: int
  steps: int
  optimizer: OptimizerConfig
  seed: int = 0


def _optimizer(peak_lr: float, steps: int) -> OptimizerConfig:
  return OptimizerConfig(
    peak_lr=peak_lr,
    warmup_steps=100,
    decay_steps=steps - 100,
    end_lr=peak_lr / 30,
    b2=0.98,
    weight_decay=0.02,
  )


# The base has read careless work too, as any base model has: a third of its
# corpus states a number that is right one time in five.
BASE = NanoConfig(
  name="nano-base",
  width=96,
  heads=4,
  layers=4,
  vision_width=64,
  # Charts, clocks and dots take longer to learn than one or two numbers:
  # three times as many, so that there is something to lose out of domain.
  split=dataclasses.replace(
    diagrams.PRETRAIN,
    families=diagrams.IN_DOMAIN + 3 * diagrams.OUT_OF_DOMAIN,
  ),
  mixture=Mixture(careless=1 / 3, texts=2, seed=1),
  prompts=48,
  steps=1400,
  optimizer=_optimizer(3e-3, 1400),
)
# The teacher has read careful work only.
TEACHER = NanoConfig(
  name="nano-teacher",
  width=144,
  heads=6,
  layers=5,
  vision_width=96,
  split=diagrams.PRETRAIN,
  mixture=Mixture(texts=2, seed=2),
  prompts=32,
  steps=1800,
  optimizer=_optimizer(2.5e-3, 1800),
)
MODELS = {config.name: config for config in (BASE, TEACHER)}
