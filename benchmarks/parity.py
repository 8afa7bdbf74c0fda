"""Agreement with transformers on random tiny models: prints one table.

  python -m benchmarks.parity

The largest absolute difference of every quantity, float32, on the cases of
the parity tests; gradients as the largest relative norm over all tensors.
"""

import sys

import jax
import numpy as np

from tests.models import (
  qwen2_5_vl_parity_test,
  qwen3_vl_parity_test,
  text_families_test,
)
from tests.reference import parity

CASES = (
  qwen2_5_vl_parity_test.CASES
  | {f"qwen3 {k}": x for k, x in qwen3_vl_parity_test.CASES.items()}
  | text_families_test.CASES
)


def _largest(a, b) -> float:
  return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def row(name: str) -> list[str]:
  """Returns the cells of one case."""
  case = CASES[name]
  setup = parity.build(case)
  real = setup.inputs.attention_mask.astype(bool)
  states, theirs = parity.reference_states(case)
  tower, layers, logits, gradient = parity.our_states(case)
  seen = "-"
  if tower is not None:
    filled = setup.batch.prompts.patch_segments >= 0
    seen = f"{_largest(tower[0][filled], states.vision):.1e}"
  pairs = zip(layers, states.layers, strict=True)
  hidden = max(_largest(a[real], b[real]) for a, b in pairs)
  found = _largest(logits[real], states.logits.detach().numpy()[real])
  ours = parity.by_name(setup.config, gradient)
  relative = max(
    np.linalg.norm(ours[k] - theirs[k])
    / max(np.linalg.norm(np.asarray(theirs[k])), 1e-12)
    for k in theirs
  )
  _, states_decoded = parity.decoded(case)
  cached = _largest(states_decoded, parity.forwarded(case))
  return [
    name,
    seen,
    f"{hidden:.1e}",
    f"{found:.1e}",
    f"{relative:.1e}",
    f"{cached:.1e}",
  ]


def main() -> None:
  jax.config.update("jax_default_matmul_precision", "highest")
  print("| case | vision | hidden | logits | gradients | decode, forward |")
  print("|---|---|---|---|---|---|")
  for name in CASES:
    print("| " + " | ".join(row(name)) + " |")
    sys.stdout.flush()


if __name__ == "__main__":
  main()
