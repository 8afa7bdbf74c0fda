"""Captions as words, cut as the COCO caption evaluation cuts them.

Penn Treebank rules in lower case, punctuation dropped: what Stanford's
PTBTokenizer gives the evaluation server of arXiv:1504.00325, Section 3.1,
without Java. Scores of two papers compare only if words are cut alike.
"""

import re

# Dropped, as in the evaluation's own list. It names brackets in capitals, so
# that the tokenizer's -lrb- in small letters stays, there as here.
_DROPPED = frozenset(("'", "''", "`", "``", *".?!,:;-", "--", "...", '"'))

_SPELLED = str.maketrans(
  {
    "(": " -lrb- ",
    ")": " -rrb- ",
    "[": " -lsb- ",
    "]": " -rsb- ",
    "{": " -lcb- ",
    "}": " -rcb- ",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "–": "--",
    "—": "--",
    "…": "...",
    "½": "1/2",
    "¼": "1/4",
    "¾": "3/4",
    "\u00a0": " ",
  }
)
# Words of which the treebank makes two.
_PARTS = {
  "cannot": "can not",
  "gonna": "gon na",
  "gotta": "got ta",
  "wanna": "wan na",
  "lemme": "lem me",
  "gimme": "gim me",
}
# Abbreviations that keep their full stop wherever they stand.
_ABBREVIATIONS = (
  "adm apt attys aug ave assoc bhd blvd bldg bros capt cmdr co col comdr corp"
  " cpl dec dept dr drs esq est etc ext feb fri ft gen gov hon hosp hwy inc"
  " jan jr lt ltd maj messrs mr mrs ms mt mts nov oct ph prof rd ref rep reps"
  " rev sen sens sept sgt sr st sts supt tel univ vol vs"
).split()
_CLITICS = "s|m|d|re|ve|ll"
_LETTER = r"[^\W\d_]"
_WORD = rf"{_LETTER}(?:{_LETTER}|\d)*"
# Clitics stand alone; n't takes its n along.
_TOKEN = re.compile(
  "|".join(
    (
      r"-(?:lrb|rrb|lsb|rsb|lcb|rcb)-",
      r"https?://[^\s]+",
      r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+",
      rf"<{_LETTER}+>",
      rf"(?:{'|'.join(_ABBREVIATIONS)})\.(?!\w)",
      rf"(?:{_LETTER}\.)+{_LETTER}(?!\w)\.?",  # u.s.a., p.m
      rf"{_LETTER}\.(?!\w)",  # an initial
      r"o'clock(?!\w)",
      rf"{_WORD}(?=n't(?!\w))",
      r"n't(?!\w)",
      rf"'(?:{_CLITICS})(?!\w)",
      r"'\d0s",  # '90s
      r"\d+/\d+(?!\w)",
      r"[#$&%°*+=|~^\\<>_]",
      r"[-+]?\.?\d+(?:[.,:/]\d+)*(?:-?[^\W_]+)*",
      rf"@?{_WORD}(?:-(?:{_WORD}|\d+\w*)|[./]{_WORD}|&{_WORD}|_(?=\w)\w+)*",
      r"\.\.+|--+|[!?]+|``|''|\S",
    )
  )
)


def words(caption: str) -> list[str]:
  """Returns a caption's words in lower case, without punctuation.

  Args:
    caption: one sentence or several; every white space is one.
  """
  text = caption.lower().translate(_SPELLED)
  found: list[str] = []
  for match in _TOKEN.finditer(text):
    token = match.group()
    if token and token not in _DROPPED and not set(token) <= set(".-"):
      found += _PARTS.get(token, token).split()
  return found
