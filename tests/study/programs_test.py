"""Programs of the study: what its samplers are told."""

import dataclasses

from experiments.stage1_entropy import arms, config
from jaxvlm import assets
from jaxvlm.study import folders, programs


def test_every_sampler_ends_at_all_end_tokens_of_the_folder(monkeypatch):
  told = []
  for name in ("make_generate", "make_refill"):
    monkeypatch.setattr(
      programs, name, lambda *args, **options: told.append(options["eos_ids"])
    )
  nano = folders.read(assets.folder("nano-base"))
  chat = dataclasses.replace(nano.chat, listed_ends=(nano.chat.pad_id,))
  nano = nano._replace(chat=chat)
  study = config.laptop()
  slots = dataclasses.replace(study.grpo.slots, rows=4)
  refilled = dataclasses.replace(
    study, grpo=dataclasses.replace(study.grpo, slots=slots)
  )
  for some in (study, refilled):
    told.clear()
    arms.make_programs(some, nano, nano)
    assert told == [(chat.eos_id, chat.pad_id)] * 3
