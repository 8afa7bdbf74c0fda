"""Explanations printed with a claim's verdict, written after the runs.

They explain the laptop study as it ships (three seeds, README) and name the
figure or table that shows what they say; other settings may differ.
"""

NOTES: dict[str, str] = {
  "C4": (
    "Where OPD ends higher, the same number of RL steps was not the same"
    " amount of signal: a group whose rewards are all equal has no gradient,"
    " and the low-entropy SFT arms have far more of them (figure “Degenerate"
    " groups”). The paper's arms have more headroom and more steps."
  ),
  "C5": (
    "Over-trained SFT loses pass@16 in Stage 1 and RL does not bring it back:"
    " what a policy never samples is never rewarded."
  ),
  "C6": (
    "The base is right on about one in eight of these problems: near the"
    " floor there is little to lose, and the SFT learning rate leaves families"
    " that it never shows mostly alone."
  ),
  "C7a": (
    "The student has less than half of its teacher's parameters and reads"
    " worse: what it cannot read, distillation does not teach it in these"
    " steps. The paper's student starts 11 points below its teacher, ours"
    " almost 50."
  ),
  "C8": (
    "The base and OPD gain clearly. In the SFT arms more than half of the"
    " groups have equal rewards, so sixty steps move them little."
  ),
  "C9": (
    "Ninety problems give intervals of ten points and more; the paper's ±1.2"
    " cannot be resolved here."
  ),
}
