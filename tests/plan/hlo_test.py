"""What is read from optimized HLO: stored snippets, and a compiled program."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from jaxvlm.plan import checks, hlo, hlo_text, topology

# A loop of 5 layers: each collects its slice of a stack and multiplies; the
# result is summed over devices, asynchronously (the channel is repeated).
TEXT = (pathlib.Path(__file__).parent / "loop.hlo").read_text()


@pytest.fixture(scope="module")
def module():
  return hlo_text.parse(TEXT)


def test_computations_and_shapes_are_read(module):
  assert module.entry == "main"
  one = module.computations["body"]["slice"]
  assert (one.opcode, one.operands) == ("fusion", ("stack", "i"))
  assert one.arrays == (hlo_text.Array("bf16", (64, 128), in_hbm=False),)
  assert one.called() == {"calls": "fused_slice"}
  assert module.computations["main"]["copy"].is_root


def test_computations_of_other_cores_end_with_their_name(module):
  text = TEXT.replace("\n}\n", '\n}, execution_thread="sparsecore"\n')
  assert text != TEXT
  found = hlo_text.parse(text)
  assert found.computations.keys() == module.computations.keys()
  assert hlo.traffic(found) == hlo.traffic(module)


def test_a_loop_runs_as_often_as_its_condition_says(module):
  assert module.trips(module.computations["main"]["loop"]) == 5
  noted = TEXT.replace(
    "body=%body",
    'body=%body, backend_config={"known_trip_count":{"n":"3"}}',
  )
  noted = hlo_text.parse(noted)
  assert noted.trips(noted.computations["main"]["loop"]) == 3


def test_an_unrolled_loop_runs_less_often():
  """Its body counts by two, so 5 layers are 3 runs."""
  unrolled = TEXT.replace("constant(1)", "constant(2)")
  assert unrolled != TEXT
  unrolled = hlo_text.parse(unrolled)
  assert unrolled.trips(unrolled.computations["main"]["loop"]) == 3


def test_a_loop_that_tells_nothing_is_named(module):
  endless = hlo_text.parse(
    TEXT.replace("constant(5)", "get-tuple-element(%t.1), index=0")
  )
  found = hlo.traffic(endless)
  assert found.unknown_loops == ("loop",)
  assert found.by_kind()["all-gather"][0] == 1


def test_collectives_count_with_their_loop_and_once_per_channel(module):
  kinds = hlo.traffic(module).by_kind()
  gathered, reduced = 256 * 128 * 2, 32 * 256 * 4
  assert kinds == {
    "all-gather": (5, 5 * gathered * 3 / 4),
    "all-reduce": (1, 2 * reduced * 3 / 4),
  }
  assert hlo.traffic(module).collectives[0].where == "jit(step)/collect"


@pytest.mark.parametrize(
  "text,size",
  [
    ("replica_groups=mesh['x'=2,'y'=4] {'y'}", 4),
    ("replica_groups=mesh['x'=2,'y'=4] {'x','y'}", 8),
    ("replica_groups=[8,4]<=[32]T(1,0)", 4),
    ("replica_groups={{0,2},{1,3}}", 2),
  ],
)
def test_groups_are_read_in_every_notation(text, size):
  changed = TEXT.replace("replica_groups=[2,4]<=[8]", text)
  found = hlo.traffic(hlo_text.parse(changed)).collectives
  (gather,) = [c for c in found if c.kind == "all-gather"]
  assert gather.group == size


def test_a_slice_costs_what_it_takes_and_chip_memory_nothing(module):
  part, gathered, sums = 64 * 128 * 2, 256 * 128 * 2, 32 * 256 * 4
  # Five times: the slice and its number read, the gather written, the counter
  # and its one read; then two sums and a copy that read and write.
  total = 5 * (part + 4 + gathered + 8) + 6 * sums
  assert hlo.traffic(module).hbm_bytes == total


def test_a_view_inside_a_fusion_is_read_where_it_is_used():
  """The weights of a product pass through a fusion that only renames them."""
  text = """HloModule m

%view (p: bf16[64,128]) -> bf16[64,128,1] {
  %p = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %b = bf16[64,128,1]{2,1,0:T(8,128)(2,1)} bitcast(%p)
}

%product (x: bf16[8,64], w: bf16[64,128]) -> f32[8,128] {
  %x = bf16[8,64]{1,0:T(8,128)(2,1)} parameter(0)
  %w = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(1)
  %w.1 = bf16[64,128,1]{2,1,0:T(8,128)(2,1)} fusion(%w), kind=kLoop, calls=%view
  ROOT %y = f32[8,128]{1,0:T(8,128)S(1)} convolution(%x, %w.1), dim_labels=bf_io
}

ENTRY %main (a: bf16[8,64], k: bf16[64,128]) -> f32[8,128] {
  %a = bf16[8,64]{1,0:T(8,128)(2,1)} parameter(0)
  %k = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %f = f32[8,128]{1,0:T(8,128)S(1)} fusion(%a, %k), kind=kOutput, calls=%product
}
"""  # noqa: E501
  read = 2 * (8 * 64 + 64 * 128)
  assert hlo.traffic(hlo_text.parse(text)).hbm_bytes == read


def test_the_largest_buffers_come_first(module):
  where, array = hlo.largest_buffers(module)[0]
  assert (where, array.bytes) == ("jit(step)/collect", 256 * 128 * 2)


def _gather(dtype, *dims):
  return hlo.Collective(
    "all-gather", hlo_text.Array(dtype, dims), 8, 1, 1.0, "here"
  )


def test_a_gather_of_all_layers_is_found():
  stacks = [(28, 3584, 18944)]
  bad = [_gather("bf16", 28, 3584, 18944), _gather("bf16", 28, 3584, 4736)]
  fine = [_gather("bf16", 1, 3584, 18944), _gather("bf16", 28, 3584, 100)]
  assert checks.gathers_of_stacks(bad + fine, stacks, tensor=4) == bad
  assert checks.gathers_of_stacks(bad, stacks, tensor=1) == bad[:1]


def test_a_gather_of_full_logits_is_found():
  bad = _gather("f32", 4096, 151665)
  fine = [
    _gather("bf16", 4096, 151665),
    _gather("f32", 512, 151665),
    _gather("f32", 3584, 151665),  # the head
    _gather("f32", 4096, 3584),
  ]
  found = checks.gathers_of_logits(
    [bad, *fine], 4096, [151665, 152064], [(3584, 151665)]
  )
  assert found == [bad]
  small = [_gather("f32", 8, 512, 151665)]
  assert checks.gathers_of_logits(small, 4096, [151665], []) == small


def test_text_without_a_program_is_refused():
  with pytest.raises(ValueError, match=r"ENTRY.*as_text"):
    hlo_text.parse("HloModule empty")


def test_traffic_of_a_loop_that_the_tpu_compiler_made():
  pytest.importorskip("libtpu")
  device = topology.devices(topology.parse("v5e:1x1"))[0]
  where = jax.sharding.SingleDeviceSharding(device)
  layers, side = 20, 8192  # a short loop would be unrolled by the compiler

  def step(x, stack):
    layer = lambda c, w: (jnp.tanh(c @ w), None)  # noqa: E731
    return jax.lax.scan(layer, x, stack)[0]

  shapes = ((side, side), (layers, side, side))
  args = [jax.ShapeDtypeStruct(s, "bfloat16", sharding=where) for s in shapes]
  compiled = jax.jit(step).lower(*args).compile()
  found = hlo.traffic(hlo_text.parse(compiled.as_text()))
  # A layer reads two matrices and writes one, and this compiler copies what
  # goes round; then there is the way in and out.
  expected = layers * (3 + 2) * 2 * side**2
  assert expected <= found.hbm_bytes <= 1.03 * expected
  # The compiler itself counts the loop's body once.
  assert found.hbm_bytes > 5 * compiled.cost_analysis()["bytes accessed"]
