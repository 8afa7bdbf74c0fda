"""The process in which math-verify runs: one JSON pair in, one verdict out."""

import json
import sys


def main() -> None:
  _limit(int(sys.argv[1]) * 2**20)
  try:
    import math_verify
  except ModuleNotFoundError:
    print("absent", flush=True)
    return
  print("ready", flush=True)
  for line in sys.stdin:
    prediction, answer = json.loads(line)
    print(json.dumps(_verdict(math_verify, prediction, answer)), flush=True)


def _verdict(math_verify, prediction: str, answer: str) -> bool | None:
  try:
    # Its time limits are signals; the parent's is the one that holds.
    predicted, right = (
      math_verify.parse(f"\\boxed{{{text}}}", parsing_timeout=None)
      for text in (prediction, answer)
    )
    return bool(math_verify.verify(right, predicted, timeout_seconds=None))
  except Exception:  # sympy raises whatever it likes
    return None


def _limit(size: int) -> None:
  """Bounds the memory, where the system can."""
  try:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (size, size))
  except (ImportError, ValueError, OSError):
    return


if __name__ == "__main__":
  main()
