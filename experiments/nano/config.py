"""Settings of the shipped models. Every value is ours: no paper trains them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxvlm import models
from jaxvlm.data import chat as chats
from jaxvlm.data import diagrams, programs, scenes
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.layout import VisionLayout
from jaxvlm.data.rows import Bucket, Encoder, Row
from jaxvlm.data.sources.programs import Mixture as Programmers
from jaxvlm.data.sources.programs import ProgramRows
from jaxvlm.data.sources.scenes import Careless, SceneRows
from jaxvlm.data.sources.world import Mixture, WorldRows
from jaxvlm.tasks import Task
from jaxvlm.tasks import programs as program_task
from jaxvlm.tasks import scenes as scene_task
from jaxvlm.tasks import world as diagram_task
from jaxvlm.train.optimizer import OptimizerConfig

# The smallest and the largest picture.
PIXELS = PixelBudget(56 * 56, 112 * 112)
VOCAB_SIZE = 512


@dataclasses.dataclass(frozen=True)
class World:
  """What a model learns of and is asked about.

  Attributes:
    about: what its models do, in a model card.
    made_by: the module that draws its problems.
    task: its rows and how answers are scored.
    words: rows whose texts make the tokenizer.
    sets: name -> (split, count) of the problems that a card scores.
    bucket: the shape that every prompt fits.
    max_new_tokens: longest answer.
  """

  about: str
  made_by: str
  task: Callable[[], Task]
  words: Sequence[Row]
  sets: dict[str, tuple[str, int]]
  bucket: Bucket
  max_new_tokens: int


DIAGRAMS = World(
  about="reads small generated diagrams",
  made_by="jaxvlm.data.diagrams",
  task=diagram_task.task,
  words=WorldRows(diagrams.PRETRAIN, 4000, Mixture(careless=1 / 4, texts=3)),
  sets={
    "in_domain": (diagrams.VALIDATION.name, 420),
    "out_of_domain": (diagrams.VALIDATION_OOD.name, 210),
  },
  bucket=Bucket(prompt_tokens=56, patch_slots=64),
  max_new_tokens=44,
)
SCENES = World(
  about="reads small generated scenes",
  made_by="jaxvlm.data.scenes",
  task=scene_task.task,
  words=SceneRows(scenes.PRETRAIN, range(2000), Careless(1 / 4, texts=6)),
  sets={"validation": (scenes.VALIDATION.name, 140)},
  bucket=Bucket(prompt_tokens=44, patch_slots=64),
  max_new_tokens=20,
)
PROGRAMS = World(
  about="writes small Python functions from a docstring with examples",
  made_by="jaxvlm.data.programs",
  task=program_task.task,
  words=ProgramRows(programs.PRETRAIN, 4000, Programmers(texts=3)),
  sets={"hard": (programs.VALIDATION.name, 300)},
  bucket=Bucket(prompt_tokens=84, patch_slots=0),
  max_new_tokens=48,
)


@dataclasses.dataclass(frozen=True)
class Kind:
  """A family of models at this size.

  Attributes:
    name: of the family, in a model card.
    make: width, heads, layers, vocab_size, special, … -> configuration.
    layout: of pictures; None: it reads text only.
    frozen: pattern of what stays random; empty: nothing.
  """

  name: str
  make: Callable[..., Any]
  layout: VisionLayout | None = None
  frozen: str = ""


VISION = Kind(
  "Qwen2.5-VL",
  models.nano,
  models.PRESETS["3b"].layout,
  # White paper is a constant in 1,176 inputs, along which one Adam step moves
  # every activation at once: the patch projection stays random.
  frozen="visual/patch_embed",
)
QWEN2 = Kind("Qwen2", models.nano_qwen2)
LLAMA = Kind("Llama", models.nano_llama)


def encoder(chat: chats.Chat, world: World = DIAGRAMS) -> Encoder:
  """Returns a world's encoder: every prompt fits one bucket."""
  return Encoder(
    chat=chat,
    budget=PIXELS,
    buckets=(world.bucket,),
    max_new_tokens=world.max_new_tokens,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NanoConfig:
  """One model: its size, its corpus, its training.

  Attributes:
    name: folder under jaxvlm/assets.
    kind: its family.
    sizes: width, heads, layers and what else `kind.make` takes.
    world: what it learns of.
    rows: the corpus, a lazy sequence with an `identity`.
    corpus: what a card says of the corpus.
    prompts: problems per step.
    steps: optimizer steps; no problem is seen twice.
    optimizer: learning rate and the rest.
    seed: of the initialization.
  """

  name: str
  kind: Kind
  sizes: Mapping[str, int]
  world: World
  rows: Sequence[Row]
  corpus: str
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
  kind=VISION,
  sizes={"width": 96, "heads": 4, "layers": 4, "vision_width": 64},
  world=DIAGRAMS,
  rows=WorldRows(
    # Charts, clocks and dots take longer to learn than one or two numbers:
    # three times as many, so that there is something to lose out of domain.
    dataclasses.replace(
      diagrams.PRETRAIN,
      families=diagrams.IN_DOMAIN + 3 * diagrams.OUT_OF_DOMAIN,
    ),
    48 * 1400,
    Mixture(careless=1 / 3, texts=2, seed=1),
  ),
  corpus="2 responses a picture; all styles, equally likely; share of careless"
  " work 0.33",
  prompts=48,
  steps=1400,
  optimizer=_optimizer(3e-3, 1400),
)
# The teacher has read careful work only.
TEACHER = NanoConfig(
  name="nano-teacher",
  kind=VISION,
  sizes={"width": 144, "heads": 6, "layers": 5, "vision_width": 96},
  world=DIAGRAMS,
  rows=WorldRows(diagrams.PRETRAIN, 32 * 1800, Mixture(texts=2, seed=2)),
  corpus="2 responses a picture; all styles, equally likely; no careless work",
  prompts=32,
  steps=1800,
  optimizer=_optimizer(2.5e-3, 1800),
)
# It sees, and captions poorly: a third of what it has read is wrong in one to
# three words. What is left to learn is to say what it sees.
SCENE_BASE = NanoConfig(
  name="nano-scenes",
  kind=VISION,
  sizes={"width": 96, "heads": 4, "layers": 4, "vision_width": 64},
  world=SCENES,
  rows=SceneRows(
    scenes.PRETRAIN, range(32 * 1500), Careless(1 / 3, texts=2, seed=3)
  ),
  corpus="2 captions a picture, of both wordings; a third of them wrong in one"
  " to three words",
  prompts=32,
  steps=1500,
  optimizer=_optimizer(3e-3, 1500),
)
# The coder of the laptop: a third of its corpus is careless, as the base's.
CODER = NanoConfig(
  name="nano-coder",
  kind=QWEN2,
  sizes={"width": 96, "heads": 4, "layers": 3},
  world=PROGRAMS,
  rows=ProgramRows(
    programs.PRETRAIN, 16 * 2500, Programmers(careless=1 / 3, texts=3, seed=1)
  ),
  corpus="3 programs a problem; all styles, equally likely; share of careless"
  " work 0.33",
  prompts=16,
  # After 400 it writes programs, but guesses the constants.
  steps=2500,
  optimizer=_optimizer(4e-3, 2500),
)
# Larger, of another family, with the same tokenizer; careful work only.
STRONG_CODER = NanoConfig(
  name="nano-coder-strong",
  kind=LLAMA,
  sizes={"width": 112, "heads": 4, "layers": 4},
  world=PROGRAMS,
  rows=ProgramRows(programs.PRETRAIN, 16 * 4000, Programmers(texts=3, seed=2)),
  corpus="3 programs a problem; all styles, equally likely; no careless work",
  prompts=16,
  steps=4000,
  optimizer=_optimizer(3e-3, 4000),
)
MODELS = {
  config.name: config
  for config in (BASE, TEACHER, SCENE_BASE, CODER, STRONG_CODER)
}
