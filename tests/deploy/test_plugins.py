"""Plugins: sources become PTX, TensorRT is told what the kernels take, and graphs call them. No kernel runs here."""

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from torch import Tensor

from fastdet import ops
from fastdet.deploy import tensorrt
from fastdet.deploy.functions import FunctionLibrary
from fastdet.deploy.graph import GraphOptions
from fastdet.deploy.plugins import compiling
from fastdet.deploy.plugins.kernels import FEATURE, Columns, Plugin, Pooling, Suppression, name_of, ptx_of
from fastdet.deploy.plugins.registering import register
from fastdet.deploy.plugins.rewriting import parsed_source, with_plugins
from fastdet.deploy.tensorrt import EngineOptions
from fastdet.deploy.translate import DOMAIN, OPSET, to_onnx
from fastdet.export import main
from fastdet.utils.errors import EnvironmentProblem, FastdetError
from tests.deploy.conftest import CONFIG
from tests.deploy.families import metadata_of
from tests.deploy.stub_plugin_module import DataType, Library, Module
from tests.deploy.test_bodies import Caller, convolved, maps, pooled, scene


class Case(NamedTuple):
    """A plugin, and shapes of its inputs."""

    plugin: Plugin
    shapes: list[tuple[Any, ...]]
    outputs: list[tuple[int, ...]]  # of batch 2
    grid: tuple[int, int, int]
    numbers: list[int]


BOXES: list[tuple[Any, ...]] = [("batch", 5000, 4), ("batch", 5000), ("batch", 5000), ("batch", 5000)]
PLUGINS = {
    "nms": Case(
        Suppression(iou_threshold=0.5, max_output=100, shared_groups=False), BOXES,
        [(2, 100), (2,), (2,), (2, 100, 4), (2, 100)], (2, 1, 1), [5000],
    ),
    "nms of levels": Case(
        Suppression(iou_threshold=0.7, max_output=9, shared_groups=True), [*BOXES[:2], (5000,), BOXES[3]],
        [(2, 9), (2,), (2,), (2, 9, 4), (2, 9)], (2, 1, 1), [5000],
    ),
    "roi_align": Case(
        Pooling(
            spatial_scales=(0.25, 0.125), output_size=(7, 7), sampling_ratio=0, aligned=True, finest_scale=56.0
        ),
        [("batch", 5), ("batch", 256, 200, 336), ("batch", 256, 100, 168)],
        [(2, 256, 7, 7)], (2, 13, 1), [2, 256, 200, 336, 100, 168],
    ),
    "roi_align of one map": Case(
        Pooling(spatial_scales=(1 / 16,), output_size=(14, 9), sampling_ratio=2, aligned=False, finest_scale=56.0),
        [(1000, 5), ("batch", 3, 20, 30)], [(1000, 3, 14, 9)], (1000, 1, 1), [2, 3, 20, 30],
    ),
    "deform_columns": Case(
        Columns(
            kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=2, offset_groups=1, masked=True
        ),
        [("batch", 64, 50, 84), ("batch", 18, 50, 84), ("batch", 9, 50, 84)],
        [(2, 2, 288, 4200)], (17, 18, 2), [64, 50, 84, 50, 84],
    ),
    "deform_columns without a mask": Case(
        Columns(
            kernel_size=(1, 5), stride=(2, 1), padding=(0, 2), dilation=(1, 1), groups=1, offset_groups=4, masked=False
        ),
        [("batch", 8, 9, 7), ("batch", 40, 5, 7)], [(2, 1, 40, 35)], (1, 40, 1), [8, 9, 7, 5, 7],
    ),
}  # fmt: skip


@pytest.fixture
def nvrtc() -> None:
    try:
        compiling.check_compiler()
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))


def entry_of(ptx: str) -> tuple[str, list[str]]:
    """Name and types of parameters of the one kernel."""
    ((name, parameters),) = re.findall(r"\.visible \.entry (\w+)\(([^)]*)\)", ptx)
    return name, re.findall(r"\.param \.(\w+)", parameters)


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("architecture", ["compute_80", "sm_90"])
@pytest.mark.parametrize("name", PLUGINS)
def test_a_source_becomes_a_kernel_with_the_parameters_that_tensorrt_passes(name: str, architecture: str) -> None:
    case = PLUGINS[name]
    plugin = case.plugin
    ptx = ptx_of(plugin, "float16" if FEATURE in plugin.inputs.values() else None, architecture)
    pointers, results = ["u64"] * len(plugin.inputs), ["u64"] * len(plugin.outputs)
    assert entry_of(ptx) == (plugin.entry, [*pointers, *["u32"] * len(case.numbers), *results])
    assert f".target sm_{architecture[-2:]}" in ptx
    assert ".extern" not in ptx, "nothing else is there to be called in an engine"


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize("name", PLUGINS)
@pytest.mark.parametrize("feature", ["FLOAT", "HALF", "BF16"])
def test_tensorrt_gets_shapes_types_and_the_launch(name: str, feature: str) -> None:
    case, library, module = PLUGINS[name], Library(), Module()
    plugin = case.plugin
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tensorrt.plugin", module)
        register(library, plugin, "compute_80")
        register(library, plugin, "compute_80")  # a second engine in the same process
    types = {"float32": DataType.FLOAT, "int32": DataType.INT32, FEATURE: DataType[feature]}
    inputs = list(zip((types[kind] for kind in plugin.inputs.values()), case.shapes, strict=True))
    built = module.build(f"fastdet::{name_of(plugin)}", inputs, batch=2)
    assert built.types == [types[kind] for kind in plugin.outputs.values()]
    assert built.shapes == case.outputs
    assert built.grid == case.grid
    assert built.block == (1024 if isinstance(plugin, Suppression) else 256, 1, 1)
    assert built.numbers == case.numbers
    assert built.kernel == plugin.entry == entry_of(built.ptx)[0]


def test_an_input_of_another_type_is_refused() -> None:
    case, library, module = PLUGINS["deform_columns"], Library(), Module()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tensorrt.plugin", module)
        register(library, case.plugin, "compute_80")
    inputs = list(zip((DataType.HALF, DataType.HALF, DataType.FLOAT), case.shapes, strict=True))
    with pytest.raises(ValueError, match="offset is float16, and must be float32"):
        module.build(f"fastdet::{name_of(case.plugin)}", inputs, batch=1)


def test_plugins_of_other_settings_have_other_names() -> None:
    assert len({name_of(case.plugin) for case in PLUGINS.values()}) == len(PLUGINS)


def test_a_library_without_plugins_is_refused() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tensorrt.plugin", None)
        with pytest.raises(EnvironmentProblem, match=r"--plugins needs tensorrt\.plugin"):
            register(Library(), PLUGINS["nms"].plugin, "compute_80")


@pytest.mark.usefixtures("nvrtc")
def test_the_compilers_words_are_in_the_error() -> None:
    with pytest.raises(FastdetError, match=r"NVRTC cannot compile nms\.cu for compute_80: .*FASTDET_MAX_OUTPUT"):
        compiling.compile_ptx("nms.cu", (("FASTDET_IOU_THRESHOLD", "0.5"),))


def columns_of(plugin: Columns, image: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
    """Columns by the op: each output channel sees one channel at one tap."""
    channels, taps = image.shape[1], plugin.kernel_size[0] * plugin.kernel_size[1]
    one = torch.eye(channels * taps).reshape(channels * taps, channels, *plugin.kernel_size)
    seen = ops.deform_conv2d(image, offset, one, None, plugin.stride, plugin.padding, plugin.dilation, mask)
    return seen.reshape(len(image), plugin.groups, -1, seen.shape[2] * seen.shape[3])


def run(plugin: Plugin, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """What the plugin's kernel writes, by the op."""
    if isinstance(plugin, Suppression):
        boxes, scores, groups, valid = inputs
        groups = groups.long().expand(scores.shape) if plugin.shared_groups else groups.long()
        index, count = ops.nms_padded(
            boxes, scores, groups.contiguous(), plugin.iou_threshold, plugin.max_output, valid=valid.bool()
        )
        scratch = torch.full((*index.shape, 4), torch.nan)
        return index.int(), count.int(), torch.ones_like(count).int(), scratch, index.int()
    if isinstance(plugin, Pooling):
        size, options = plugin.output_size, (plugin.sampling_ratio, plugin.aligned, plugin.finest_scale)
        return (ops.roi_align(inputs[1:], inputs[0], size, plugin.spatial_scales, *options),)
    assert isinstance(plugin, Columns)
    return (columns_of(plugin, inputs[0], inputs[1], inputs[2] if plugin.masked else None),)


def operator(plugin: Plugin) -> type[OpRun]:
    """The plugin's node, for onnx's reference evaluator; it takes what the kernel takes."""

    def compute(self: OpRun, *inputs: np.ndarray, plugin_namespace: str, plugin_version: str, aot: int) -> Any:
        assert (plugin_namespace, plugin_version, aot) == ("fastdet", "1", 1)
        types = {"float32": np.float32, "int32": np.int32, FEATURE: np.float32}
        assert [x.dtype for x in inputs] == [types[kind] for kind in plugin.inputs.values()]
        results = run(plugin, [torch.from_numpy(x) for x in inputs])
        shapes = plugin.output_shapes([x.shape for x in inputs])
        assert [tuple(result.shape) for result in results] == [tuple(shape) for shape in shapes]
        return tuple(result.numpy() for result in results)

    return type(name_of(plugin), (OpRun,), {"op_domain": "fastdet", "_run": compute})


WEIGHT = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(5))
GROUPED, BIAS = WEIGHT[:, :2].contiguous(), torch.arange(6.0)
OUTPUTS = {
    "nms_padded": 2,
    "nms_padded without groups": 2,
    "nms_levels": 2,
    "roi_align": 1,
    "deform_conv2d": 1,
    "deform_conv2d of groups": 1,
    "deform_conv2d with bias": 1,
}
"""How many each call has, in the order of the graph's."""


def every_op(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor,
    fine: Tensor, coarse: Tensor, corners: Tensor,
    image: Tensor, offset: Tensor, mask: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    return (
        *ops.nms_padded(boxes, scores, groups, 0.5, 20, valid=valid),
        *ops.nms_padded(boxes, scores, None, 0.5, 45),
        *ops.nms_levels(boxes, scores, valid, (25, 15), 0.5, 30),
        pooled(fine, coarse, corners),
        ops.deform_conv2d(image, offset, WEIGHT, None, 1, 1, 1, mask),
        ops.deform_conv2d(image, offset, GROUPED, None, 1, 1, 1, mask),
        ops.deform_conv2d(image, offset, WEIGHT, BIAS, 1, 1, 1),
    )


def inputs_of(batch: int) -> tuple[Tensor, ...]:
    return *scene(batch), *maps(batch), *convolved(batch)


def with_functions(model: ModelProto) -> ModelProto:
    """A function for each of fastdet's nodes; what they compute is tested elsewhere."""
    for node in model.graph.node:
        if node.domain == DOMAIN:
            empty = helper.make_function(DOMAIN, node.op_type, [], [], [], [helper.make_opsetid("", OPSET)])
            model.functions.append(empty)
    return model


@pytest.fixture(scope="module")
def graph() -> ModelProto:
    """A graph with every op that has a plugin; nothing changes it."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    given = inputs_of(2)
    dynamic = (tuple({0: batch} for _ in given),)
    with torch.no_grad():
        program = torch.export.export(Caller(every_op), given, dynamic_shapes=dynamic, strict=False)
    library = FunctionLibrary(candidates=1000, rounds=16)
    model = to_onnx(program, [f"x{i}" for i in range(len(given))], library.decompositions())
    return with_functions(model)


def test_a_graph_with_plugins_computes_what_the_ops_compute(graph: ModelProto) -> None:
    before = graph.SerializeToString()
    rewritten = with_plugins(graph)
    assert graph.SerializeToString() == before, "the model beside the engine keeps its bodies"
    assert rewritten.replaced == {"nms_padded": 2, "nms_levels": 1, "roi_align": 1, "deform_conv2d": 3}
    assert rewritten.kept == {}
    assert len(rewritten.model.functions) == 0
    assert len(rewritten.plugins) == len(OUTPUTS)
    onnx.checker.check_model(rewritten.model)
    given = inputs_of(3)
    evaluator = ReferenceEvaluator(rewritten.model, new_ops=[operator(plugin) for plugin in rewritten.plugins])
    results: Any = evaluator.run(None, {f"x{i}": value.numpy() for i, value in enumerate(given)})
    names = [name for name, number in OUTPUTS.items() for _ in range(number)]
    for name, found, own in zip(names, results, every_op(*given), strict=True):
        assert found.dtype == own.numpy().dtype
        np.testing.assert_allclose(found, own.numpy(), atol=1e-5, rtol=1e-5, err_msg=name)


def test_everything_else_stays_as_it_is(graph: ModelProto) -> None:
    model = ModelProto()
    model.CopyFrom(graph)
    helper.set_model_props(model, {"fastdet": "the record"})
    rewritten = with_plugins(model)
    written = tuple(f"{node.output[0]}/" for node in model.graph.node if node.domain == DOMAIN)
    others = [node for node in rewritten.model.graph.node if not node.name.startswith(written)]
    assert others == [node for node in model.graph.node if node.domain != DOMAIN]
    assert list(rewritten.model.graph.initializer)[: len(model.graph.initializer)] == list(model.graph.initializer)
    assert rewritten.model.graph.output == model.graph.output
    assert rewritten.model.graph.input == model.graph.input
    assert rewritten.model.metadata_props == model.metadata_props
    plugins = [node for node in rewritten.model.graph.node if node.domain == DOMAIN]
    assert {node.op_type for node in plugins} == {name_of(plugin) for plugin in rewritten.plugins}
    for node in plugins:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert attributes == {"plugin_namespace": b"fastdet", "plugin_version": b"1", "aot": 1}


def hand_made(*nodes: NodeProto) -> ModelProto:
    graph = helper.make_graph(nodes, "graph", [], [])
    return with_functions(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]))


def pooling_node(name: str, inputs: list[str], **attributes: Any) -> NodeProto:
    settings = {"spatial_scales": [0.25], "output_size": [7, 7], "sampling_ratio": 0, "aligned": 1}
    return helper.make_node(
        name, inputs, [f"{name}_result"], domain=DOMAIN, finest_scale=56.0, **{**settings, **attributes}
    )


def test_nodes_without_a_kernel_keep_their_bodies() -> None:
    model = hand_made(
        pooling_node("roi_align", ["rois", "map"], absent=[1]),
        pooling_node("roi_align_2", ["rois", "levels", "map"]),
        pooling_node("roi_align_3", ["rois", *(f"map_{i}" for i in range(9))], spatial_scales=[0.5] * 9, absent=[1]),
        helper.make_node("soft_nms_padded", ["boxes"], ["kept"], domain=DOMAIN),
    )
    rewritten = with_plugins(model)
    assert rewritten.replaced == {"roi_align": 1}
    assert rewritten.kept == {"roi_align": 2, "soft_nms_padded": 1}
    assert [f.name for f in rewritten.model.functions] == ["roi_align_2", "roi_align_3", "soft_nms_padded"]
    assert list(rewritten.model.graph.node)[-3:] == list(model.graph.node)[1:]


def test_a_graph_without_such_nodes_is_refused() -> None:
    model = hand_made(helper.make_node("soft_nms_padded", ["boxes"], ["kept"], domain=DOMAIN))
    with pytest.raises(FastdetError, match="the graph has no node that a plugin computes"):
        with_plugins(model)


def test_a_node_of_an_older_export_is_refused() -> None:
    node = helper.make_node("deform_conv2d", ["x", "offset", "weight"], ["y"], "conv", domain=DOMAIN, absent=[2, 4])
    with pytest.raises(FastdetError, match=r"deform_conv2d \(conv\) has no 'groups': export it again"):
        with_plugins(hand_made(node))


def test_the_parser_reads_a_file_that_goes_away(graph: ModelProto, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(graph, file)
    rewritten = with_plugins(graph)
    with parsed_source(str(file), rewritten) as source:
        assert Path(str(source)).parent == tmp_path, "beside weights that lie outside of the file"
        assert onnx.load(str(source)) == rewritten.model
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("from_file", [True, False])
def test_an_engine_is_built_of_the_graph_with_plugins(
    graph: ModelProto, from_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Module()
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", module)
    monkeypatch.setattr(tensorrt, "import_library", lambda name: Library(module))
    onnx.save(graph, tmp_path / "model.onnx")
    source = str(tmp_path / "model.onnx") if from_file else graph
    metadata = metadata_of(GraphOptions(shape=(64, 64), whole_images=True))
    options = EngineOptions(backend="tensorrt", plugins=True)
    rewritten = with_plugins(graph)
    engine = bytes(tensorrt.build_engine(source, metadata, options, rewritten))
    assert set(engine.decode().split(",")) == {f"fastdet::{name_of(plugin)}" for plugin in rewritten.plugins}
    assert bytes(tensorrt.build_engine(source, metadata, options)) == b""


def test_only_tensorrt_has_plugins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FastdetError, match="--plugins: tensorrt_rtx takes none"):
        EngineOptions(backend="tensorrt_rtx", plugins=True)
    arguments = [str(CONFIG), "--shape", "128", "128", "--plugins", "--output", str(tmp_path / "model.onnx")]
    assert main(arguments) == 1
    assert "--plugins are of engines that --backend tensorrt builds, not of onnx files" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_record_says_that_plugins_have_not_run(
    graph: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastdet.deploy import onnx_file

    seen: list[Any] = []

    def build(source: str, metadata: object, options: EngineOptions, plugins: Any) -> bytes:
        seen.append(plugins)
        return b"engine"

    monkeypatch.setattr(onnx_file, "export_model", lambda *_: graph)
    monkeypatch.setattr(tensorrt, "import_library", lambda name: Library())
    monkeypatch.setattr(tensorrt, "build_engine", build)
    monkeypatch.setattr("fastdet.exporting.check_compiler", lambda: None)
    target = tmp_path / "model.engine"
    arguments = [str(CONFIG), "--backend", "tensorrt", "--shape", "128", "128"]
    assert main([*arguments, "--verify", "0", "--plugins", "--output", str(target)]) == 0
    record = json.loads((tmp_path / "model.json").read_text())
    replaced = {"nms_padded": 2, "nms_levels": 1, "roi_align": 1, "deform_conv2d": 3}
    assert record["engine"]["plugins"] == {"status": "not run", "replaced": replaced, "bodies": {}}
    assert record["engine"]["verification"] == "unverified"
    assert main([*arguments, "--verify", "0", "--no-plugins", "--output", str(target)]) == 0
    assert "plugins" not in json.loads((tmp_path / "model.json").read_text())["engine"]
    assert seen[0] is not None
    assert seen[1] is None
