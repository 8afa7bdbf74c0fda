"""What probes cost: a step of CW-DPO against a probe, at the default interval.

  python -m benchmarks.probes

On a shipped model, with the laptop's batch and probe set of
`experiments/cw_dpo`. FLOPs are counted in the programs (`plan.jaxpr_flops`), so
they do not depend on how busy the machine is; seconds are medians.
"""

import statistics
import time

import jax
import numpy as np

from experiments.cw_dpo import config as configs
from experiments.cw_dpo import problems
from experiments.cw_dpo.design import MAIN
from jaxvlm import assets, models
from jaxvlm.data import chat as chats
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder, make_batch
from jaxvlm.plan import jaxpr_flops
from jaxvlm.study import probing
from jaxvlm.train import objectives
from jaxvlm.train.assemble import Form, assemble, functions
from jaxvlm.train.probing import make_prober

_ROUNDS = 5


def main() -> None:
  config = configs.laptop()
  name = "nano-base"
  folder = assets.folder(name)
  model_config, params = models.load_pretrained(folder, np.float32)
  chat = chats.load(folder, model_config.layout)
  rows = problems.read(config)
  stage = config.second(MAIN["sft_c_cw_dpo"])
  pairs = rows.training["stage2"][: stage.prompts]
  texts = [text for row in (*pairs, *rows.probes) for text in row.responses]
  encoder = Encoder(
    chat,
    PixelBudget(config.data.min_pixels, config.data.max_pixels),
    (Bucket(config.data.prompt_tokens[0], config.data.patch_slots[0]),),
    max(len(chat.completion(text)) for text in texts),
  )
  batch = make_batch(
    tuple(pairs), lambda n: pairs[0], encoder.buckets[0], encoder
  ).batch
  model, vocab = functions(model_config, Form()), chat.vocab_size
  made = assemble(
    objectives.cw_dpo(
      model, vocab_size=vocab, beta=stage.beta, floor=stage.floor, tau=stage.tau
    ),
    objectives.count,
    Form(),
    stage.optimizer,
    rules=(),
    reference=stage.reference,
  )
  frozen, state = made.frozen(params), made.state(params)
  prober = make_prober(model, vocab_size=vocab)
  written = probing.written(rows.probes, encoder)
  empty = np.zeros_like(written.tokens[:, 0]), written.mask[:, 0]
  probe = probing.complete(written, empty, encoder, 0)
  hidden, head = prober.read(params, probe)
  step = jaxpr_flops.count(made.step, state, frozen, batch)
  one = jaxpr_flops.count(prober.panel, params, probe, hidden, head)
  every = config.probes.every
  share = one / step / every
  print(f"{name}: a step {step:.3g} FLOPs, a probe {one:.3g}")
  print(f"one probe in {every} steps: {share:.1%} of the FLOPs of training")
  measure = prober.against(params, probe)
  spent: dict[str, list[float]] = {"step": [], "probe": []}
  for _ in range(_ROUNDS + 1):
    begin = time.perf_counter()
    state, found = made.step(state, frozen, batch)
    jax.block_until_ready(found)
    middle = time.perf_counter()
    measure(params)
    spent["step"].append(middle - begin)
    spent["probe"].append(time.perf_counter() - middle)
  seconds = {k: statistics.median(v[1:]) for k, v in spent.items()}
  share = seconds["probe"] / seconds["step"] / every
  print(f"a step {seconds['step']:.3f} s, a probe {seconds['probe']:.3f} s")
  print(f"one probe in {every} steps: {share:.1%} of the time of training")


if __name__ == "__main__":
  main()
