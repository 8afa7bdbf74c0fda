"""Probe captions of a picture: right ones, and wrong ones of every kind.

In the order of `jaxvlm.diagnostics.probes.TEXTS`: chosen, paraphrase, minimally
wrong, easily wrong, another picture's, shuffled.
"""

import dataclasses
import random
from collections.abc import Sequence

from jaxvlm.data import negatives, scenes
from jaxvlm.data.negatives import Kind
from jaxvlm.data.rows import Row
from jaxvlm.data.sources.scenes import Texts, wrong_caption


@dataclasses.dataclass(frozen=True)
class ProbeCaptions:
  """One caption of every class that can be written down.

  Attributes:
    fresh: share of scenes whose captions are in the wording `scenes.FRESH`.
    seed: root of the draws; a scene's texts depend on it and its index.
  """

  fresh: float = 0.5
  seed: int = 0

  def __call__(self, index: int, scene: scenes.Scene) -> Texts:
    rng = random.Random(self.seed * 2**40 + index)
    wording = scenes.FRESH if rng.random() < self.fresh else scenes.PLAIN
    chosen, paraphrase = scenes.captions(scene.meaning, 2, rng, (wording,))

    def wrong(*kinds: Kind) -> tuple[str, str]:
      for kind in kinds:  # a relation of one thing is none
        found = wrong_caption(kind, chosen, scene.meaning, wording, rng)
        if found is not None:
          return found.text, str(found.kind)
      raise AssertionError(f"no wrong caption of {chosen!r}")

    gentle = rng.sample(negatives.GENTLE, len(negatives.GENTLE))
    return (
      (chosen, ""),
      (paraphrase, ""),
      wrong(*gentle),
      wrong(Kind.TRUNCATED),
      wrong(Kind.OTHER_PICTURE),
      wrong(Kind.SHUFFLED),
    )


def of_captions(rows: Sequence[Row], *, seed: int = 0) -> tuple[Row, ...]:
  """Returns pictures with probe captions made of their references.

  A caption in which no word of the lexicon stands, or a single one, has no
  minimally wrong form: then another picture's caption stands in its place.

  Args:
    rows: pictures whose references are captions (`data.sources.coco`).
    seed: root of the draws; a picture's texts depend on it and its id.

  Raises:
    ValueError: a picture has fewer than two captions of two words; names it.
  """
  usable = [row for row in rows if row.reference]
  out = []
  for at, row in enumerate(usable):
    rng = random.Random(repr((seed, row.id)))
    written = [text for text in row.reference if len(set(text.split())) > 1]
    if len(written) < 2 or len(usable) < 2:
      raise ValueError(
        f"row {row.id!r} has {len(written)} captions of two words or more,"
        f" among {len(usable)} pictures: a probe needs two captions, and"
        " another picture"
      )
    chosen, paraphrase = rng.sample(written, 2)
    other = usable[(at + rng.randrange(1, len(usable))) % len(usable)]
    elsewhere = rng.choice(other.reference)
    edits = negatives.minimal_edits(chosen, negatives.COMMON)
    texts = (
      (chosen, ""),
      (paraphrase, ""),
      rng.choice(edits or [(elsewhere, Kind.OTHER_PICTURE)]),
      negatives.truncated(chosen, rng),
      (elsewhere, Kind.OTHER_PICTURE),
      negatives.shuffled(chosen, rng),
    )
    out.append(
      dataclasses.replace(
        row,
        responses=tuple(text for text, _ in texts),
        kinds=tuple(str(kind) for _, kind in texts),
      )
    )
  return tuple(out)
