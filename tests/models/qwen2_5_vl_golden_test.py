"""Qwen2.5-VL against numbers stored from transformers 5.23, without torch."""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from jaxvlm.models import decoder, names, qwen2_5_vl
from jaxvlm.models.qwen2_5_vl import model, vision

FOLDER = pathlib.Path(__file__).parents[3] / "shared/data/golden/tiny_qwen25vl"
pytestmark = pytest.mark.skipif(
  not FOLDER.is_dir(), reason=f"{FOLDER} is absent: it holds the stored numbers"
)
ATOL = 1e-4
close = functools.partial(np.testing.assert_allclose, atol=ATOL, rtol=0)


@functools.cache
def numbers() -> dict[str, np.ndarray]:
  return dict(np.load(FOLDER / "io.npz"))


@functools.cache
def loaded():
  """Returns (config, params, batch)."""
  raw = json.loads((FOLDER / "config.json").read_text())
  ids = raw["token_ids"]
  config = qwen2_5_vl.Config.from_dict(
    {
      **raw["text_config"],
      **ids,
      "rope_scaling": {"type": "mrope", "mrope_section": raw["mrope_section"]},
      "vision_config": raw["vision_config"],
    }
  )
  weights = np.load(FOLDER / "weights.npz")
  stored = {names.canonical_name(name): name for name in weights}
  params = names.from_state_dict(
    qwen2_5_vl.FAMILY.naming(config),
    lambda name: weights[stored[name]],
    set(stored),
    np.float32,
  )
  io = numbers()
  fields = "input_ids", "attention_mask", "pixel_values", "image_grid_thw"
  batch = qwen2_5_vl.batch_from_hf(config, *(io[name] for name in fields))
  return config, params, batch


@functools.cache
def states():
  """Returns (tower output, decoder input, layer outputs, logits)."""
  config, params, batch = loaded()

  @jax.jit
  def run(params, batch):
    p = batch.prompts
    seen = vision.encode(config, params["visual"], p)
    decoding = model.decoder(config)
    embedded = decoding.embed(params, p, dtype=np.float32).x
    _, layers = decoder.prompt_states(decoding, params, p, keep=lambda x, kv: x)
    logits = qwen2_5_vl.logits(config, params, batch)
    return seen, embedded[:, 0], layers[:, :, 0], logits

  return jax.device_get(run(params, batch))


def real() -> np.ndarray:
  return numbers()["attention_mask"].astype(bool)


def test_parameter_count():
  assert sum(x.size for x in jax.tree.leaves(loaded()[1])) == 218_688


def test_position_ids_are_exact():
  io, p = numbers(), loaded()[2].prompts
  np.testing.assert_array_equal(
    p.positions[:, real()], io["position_ids"][:, real()]
  )
  np.testing.assert_array_equal(
    p.next_position, real().sum(1) + io["rope_deltas"][:, 0]
  )


def test_vision_last_hidden_in_window_order():
  hidden = states()[0].hidden
  filled = loaded()[2].prompts.patch_segments >= 0
  close(hidden[filled], numbers()["vision_last_hidden"])


def test_vision_merged_in_reading_order():
  merged = states()[0].merged
  slots = loaded()[2].prompts.image_slots
  rows, at = np.nonzero(slots >= 0)
  close(merged[rows, slots[rows, at]], numbers()["vision_merged"])


def test_hidden_states():
  # hidden_0 is the decoder's input, hidden_mid the output of the second of
  # three layers, hidden_last the last output after the final norm.
  io, (_, embedded, layers, _) = numbers(), states()
  config, params, _ = loaded()
  x = layers[-1]
  rms = np.sqrt(np.mean(x * x, -1, keepdims=True) + config.rms_norm_eps)
  close(embedded[real()], io["hidden_0"][real()])
  close(layers[1][real()], io["hidden_mid"][real()])
  normed = x / rms * params["model"]["norm"]["weight"]
  close(normed[real()], io["hidden_last"][real()])


def test_logits_and_loss():
  io, logits = numbers(), states()[-1]
  close(logits[real()], io["logits"][real()])
  labels = io["labels"][:, 1:]
  kept = labels != -100
  logprobs = jax.nn.log_softmax(logits[:, :-1][kept].astype(np.float64))
  loss = -np.take_along_axis(logprobs, labels[kept][:, None], 1).mean()
  close(loss, io["loss"])


def test_text_only():
  config, params, _ = loaded()
  batch = qwen2_5_vl.batch_from_hf(config, numbers()["text_only_ids"])
  close(qwen2_5_vl.logits(config, params, batch), numbers()["text_only_logits"])
