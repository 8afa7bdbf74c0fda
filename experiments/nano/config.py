"""Settings of the shipped models. Every value is ours: no paper trains them."""

import dataclasses
from collections.abc import Callable, Sequence

from jaxvlm.data import chat as chats
from jaxvlm.data import diagrams, scenes
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder, Row
from jaxvlm.data.sources.scenes import Careless, SceneRows
from jaxvlm.data.sources.world import Mixture, WorldRows
from jaxvlm.tasks import Task
from jaxvlm.tasks import scenes as scene_task
from jaxvlm.tasks import world as diagram_task
from jaxvlm.train.optimizer import OptimizerConfig

# The smallest and the largest picture.
PIXELS = PixelBudget(56 * 56, 112 * 112)
PATCH_SLOTS = 64
VOCAB_SIZE = 512


@dataclasses.dataclass(frozen=True)
class World:
  """What a model learns of and is asked about.

  Attributes:
    about: names the pictures in a model card.
    made_by: the module that draws them.
    task: its rows and how answers are scored.
    words: rows whose texts make the tokenizer.
    sets: name -> (split, count) of the problems that a card scores.
    prompt_tokens: longest prompt.
    max_new_tokens: longest answer.
  """

  about: str
  made_by: str
  task: Callable[[], Task]
  words: Sequence[Row]
  sets: dict[str, tuple[str, int]]
  prompt_tokens: int
  max_new_tokens: int


DIAGRAMS = World(
  about="small generated diagrams",
  made_by="jaxvlm.data.diagrams",
  task=diagram_task.task,
  words=WorldRows(diagrams.PRETRAIN, 4000, Mixture(careless=1 / 4, texts=3)),
  sets={
    "in_domain": (diagrams.VALIDATION.name, 420),
    "out_of_domain": (diagrams.VALIDATION_OOD.name, 210),
  },
  prompt_tokens=56,
  max_new_tokens=44,
)
SCENES = World(
  about="small generated scenes",
  made_by="jaxvlm.data.scenes",
  task=scene_task.task,
  words=SceneRows(scenes.PRETRAIN, range(2000), Careless(1 / 4, texts=6)),
  sets={"validation": (scenes.VALIDATION.name, 420)},
  prompt_tokens=44,
  max_new_tokens=20,
)


def encoder(chat: chats.Chat, world: World = DIAGRAMS) -> Encoder:
  """Returns a world's encoder: every prompt fits one bucket."""
  return Encoder(
    chat=chat,
    budget=PIXELS,
    buckets=(Bucket(world.prompt_tokens, PATCH_SLOTS),),
    max_new_tokens=world.max_new_tokens,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NanoConfig:
  """One model: its size, its corpus, its training.

  Attributes:
    name: folder under jaxvlm/assets.
    width, heads, layers, vision_width: see `jaxvlm.models.nano`.
    world: what it learns of.
    rows: the corpus, a lazy sequence with an `identity`.
    corpus: what a card says of the corpus.
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
  width=96,
  heads=4,
  layers=4,
  vision_width=64,
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
  width=144,
  heads=6,
  layers=5,
  vision_width=96,
  world=DIAGRAMS,
  rows=WorldRows(diagrams.PRETRAIN, 32 * 1800, Mixture(texts=2, seed=2)),
  corpus="2 responses a picture; all styles, equally likely; no careless work",
  prompts=32,
  steps=1800,
  optimizer=_optimizer(2.5e-3, 1800),
)
# It sees, and captions poorly: half of what it has read is wrong in one to
# three words. What is left to learn is to say what it sees.
SCENE_BASE = NanoConfig(
  name="nano-scenes",
  width=96,
  heads=4,
  layers=4,
  vision_width=64,
  world=SCENES,
  rows=SceneRows(
    scenes.PRETRAIN, range(32 * 1000), Careless(1 / 2, texts=2, seed=3)
  ),
  corpus="2 captions a picture, of both wordings; half of them wrong in one to"
  " three words",
  prompts=32,
  steps=1000,
  optimizer=_optimizer(3e-3, 1000),
)
MODELS = {config.name: config for config in (BASE, TEACHER, SCENE_BASE)}
