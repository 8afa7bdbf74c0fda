"""pass@k: the chance that one of k samples is right, without bias."""

import numpy as np
from numpy.typing import ArrayLike


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> np.ndarray:
  """Returns the unbiased estimate of pass@k.

  pass@k = 1 − C(n−c, k) / C(n, k) = 1 − Π_{j<k} (n−c−j) / (n−j)
  (arXiv 2107.03374, equation 1). The product never forms a binomial, which
  overflows; 1 − (1 − c/n)^k is biased.

  Args:
    n: i[…] samples drawn per problem.
    c: i[…] right ones among them, 0 ≤ c ≤ n.
    k: i[…] samples allowed, 1 ≤ k ≤ n. The three broadcast.

  Returns:
    f64[…] per problem; average over problems.

  Raises:
    ValueError: counts that are not integers or out of range.
  """
  n, c, k = np.broadcast_arrays(n, c, k)
  for name, value in (("n", n), ("c", c), ("k", k)):
    if not np.issubdtype(value.dtype, np.integer):
      raise ValueError(f"{name}: got {value.dtype}, expected integer counts")
  if np.any((c < 0) | (c > n)):
    raise ValueError(
      f"c: got {c.min()} to {c.max()} right samples, expected 0 to n"
    )
  if np.any((k < 1) | (k > n)):
    raise ValueError(
      f"k: got {k.min()} to {k.max()} with at least {n.min()} samples drawn, "
      "expected 1 to n; draw more samples or ask for a smaller k"
    )
  all_wrong = np.ones(n.shape)
  for j in range(k.max(initial=0)):
    # Beyond n−c wrong samples the factor is 0, and stays 0.
    factor = np.maximum(n - c - j, 0) / np.maximum(n - j, 1)
    all_wrong = np.where(j < k, all_wrong * factor, all_wrong)
  return 1.0 - all_wrong
