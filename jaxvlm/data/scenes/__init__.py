"""A generated world of scenes with captions whose meaning is known exactly.

Pictures of one to four objects; captions that say their count, size, color,
shape, relation and background in different words and orders.

    scene = scenes.sample(scenes.TRAIN, 0)
    scene.image, scene.meaning, scene.references
    scenes.agreement(scenes.read("a red circle on white"), scene.meaning)
"""

from jaxvlm.data.scenes.meaning import Agreement, Meaning, Thing, agreement
from jaxvlm.data.scenes.wording import (
  FRESH,
  PLAIN,
  WORDINGS,
  Wording,
  captions,
  read,
)
from jaxvlm.data.scenes.world import (
  PRETRAIN,
  REFERENCES,
  SPLITS,
  TRAIN,
  TUNING,
  VALIDATION,
  Scene,
  Split,
  generate,
  sample,
)

__all__ = [
  "FRESH",
  "PLAIN",
  "PRETRAIN",
  "REFERENCES",
  "SPLITS",
  "TRAIN",
  "TUNING",
  "VALIDATION",
  "WORDINGS",
  "Agreement",
  "Meaning",
  "Scene",
  "Split",
  "Thing",
  "Wording",
  "agreement",
  "captions",
  "generate",
  "read",
  "sample",
]
