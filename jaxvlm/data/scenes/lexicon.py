"""The words of the world of scenes that make a caption wrong by one word."""

from jaxvlm.data.negatives import Kind, Lexicon
from jaxvlm.data.scenes.meaning import BACKGROUNDS, COLORS
from jaxvlm.data.scenes.wording import COUNTS, PLURALS, WORDINGS

# A word is replaced by one of its own wording only: no caption can be told
# wrong by its words.
LEXICON = Lexicon(
  nouns=tuple(
    tuple((word, PLURALS[word]) for word in wording.shapes.values())
    for wording in WORDINGS
  ),
  words={
    Kind.COLOR: (COLORS,),
    Kind.ATTRIBUTE: (
      BACKGROUNDS,
      *(tuple(wording.sizes.values()) for wording in WORDINGS),
    ),
  },
  single=tuple(wording.one for wording in WORDINGS),
  several=COUNTS,
  mirrors=(
    ("left", "right"),
    ("above", "below"),
    ("over", "under"),
    ("top", "bottom"),
  ),
)
