"""Specs, registries and the function that builds objects from them."""

import copy
import json
import pickle
from fractions import Fraction

import pytest

from fastdet.registry import FrozenDict, Registry, Source, Spec, build, check_arguments, freeze, thaw
from fastdet.utils.errors import ConfigError, UnsupportedConfig, near_names, suggestion

PARTS, OTHERS = Registry("engine"), Registry("wheel")


@PARTS.register()
class Motor:
    def __init__(self, power: int, fuel: str = "gas", wheel: object = None, wheels: tuple[object, ...] = ()) -> None:
        if power < 0:
            raise ValueError(f"power must not be negative, not {power}")
        self.power, self.fuel, self.wheel, self.wheels = power, fuel, wheel, wheels


@OTHERS.register("Wheel", "OldWheel")
class Wheel:
    def __init__(self, radius: float = 1.0) -> None:
        self.radius = radius


@PARTS.register()
def anything(**options: object) -> dict[str, object]:
    return options


def placed(spec: Spec, line: int, **places: int) -> Spec:
    sources = FrozenDict({name: Source("c.py", at) for name, at in places.items()})
    return Spec(spec.type, spec.args, Source("c.py", line), sources)


def test_a_frozen_dict_refuses_every_change() -> None:
    frozen = FrozenDict(a=1)
    for change in (
        lambda: frozen.__setitem__("a", 2),
        lambda: frozen.__delitem__("a"),
        lambda: frozen.update(b=2),
        lambda: frozen.pop("a"),
        lambda: frozen.popitem(),
        lambda: frozen.clear(),
        lambda: frozen.setdefault("b", 1),
        lambda: frozen.__ior__({"b": 1}),
    ):
        with pytest.raises(TypeError, match="frozen"):
            change()
    assert frozen == {"a": 1}


def test_a_frozen_dict_compares_hashes_pickles_and_copies_by_value() -> None:
    one, two = FrozenDict(a=1, b=(1, 2)), FrozenDict(b=(1, 2), a=1.0)
    assert one == two
    assert hash(one) == hash(two)
    for again in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), copy.copy(one)):
        assert again == one
        assert isinstance(again, FrozenDict)


def test_specs_are_equal_by_value_wherever_they_were_written() -> None:
    one = Spec.of("ResNet", depth=50, norm={"type": "BN", "requires_grad": True}, out_indices=[0, 1])
    two = placed(Spec.of("ResNet", out_indices=(0, 1), depth=50, norm=Spec.of("BN", requires_grad=True)), 3, depth=4)
    assert one == two
    assert hash(one) == hash(two)
    assert one != Spec.of("ResNet", depth=101)
    assert one != Spec.of("ResNeXt", **one.args)
    assert pickle.loads(pickle.dumps(two)).arg_sources["depth"] == Source("c.py", 4)


def test_freezing_makes_tuples_frozen_dicts_and_specs_and_thawing_undoes_it() -> None:
    plain = {"a": [1, [2, 3]], "b": {"c": None}, "d": {"type": "X", "e": [True]}, "f": "text", "g": {"type": 3}}
    frozen = freeze(plain)
    assert frozen["a"] == (1, (2, 3))
    assert isinstance(frozen["b"], FrozenDict)
    assert frozen["d"] == Spec.of("X", e=(True,))
    assert isinstance(frozen["g"], FrozenDict)  # a `type` that is no name
    assert thaw(frozen) == plain
    json.dumps(thaw(frozen))


def test_replacing_arguments_gives_a_new_spec_at_the_same_place() -> None:
    spec = placed(Spec.of("Motor", power=1), 7, power=8)
    other = spec.replace(power=2, wheels=[1])
    assert (spec.args["power"], other.args["power"], other.args["wheels"]) == (1, 2, (1,))
    assert other.source == Source("c.py", 7)


def test_a_source_reads_as_file_and_line_or_as_the_option() -> None:
    assert str(Source("a/b.py", 12)) == "a/b.py:12"
    assert str(Source("--cfg-options a=1", 0)) == "--cfg-options a=1"


def test_nested_specs_are_built_first_also_in_tuples() -> None:
    spec = Spec.of("Motor", power=3, wheel=Spec.of("Wheel", radius=2.0), wheels=[Spec.of("OldWheel"), Spec.of("Wheel")])
    motor = build(spec, [PARTS, OTHERS])
    assert motor.power == 3
    assert motor.wheel.radius == 2.0
    assert [type(wheel) for wheel in motor.wheels] == [Wheel, Wheel]


def test_live_parts_are_passed_beside_the_arguments() -> None:
    live = object()
    assert build(Spec.of("Motor", power=1), [PARTS], wheel=live).wheel is live
    with pytest.raises(ConfigError, match="unknown argument 'wheel'"):
        build(Spec.of("Motor", power=1, wheel=2), [PARTS], wheel=live)


def test_an_unknown_name_tells_role_place_and_near_names() -> None:
    with pytest.raises(
        UnsupportedConfig, match=r"'Motr' is not registered as an engine part \(asked in c\.py:5\)"
    ) as e:
        build(placed(Spec.of("Motr"), 5), [PARTS], role="engine part")
    assert "did you mean 'Motor'?" in str(e.value)
    assert "custom_imports" in str(e.value)


@pytest.mark.parametrize("name", ["wheel", "wheels"])
def test_a_nested_unknown_name_takes_its_arguments_name_as_role(name: str) -> None:
    inner = placed(Spec.of("Weel"), 9)
    value = inner if name == "wheel" else (inner,)
    with pytest.raises(UnsupportedConfig, match=r"'Weel' is not registered as a wheel \(asked in c\.py:9\)"):
        build(Spec.of("Motor", power=1, **{name: value}), [PARTS, OTHERS])


def test_an_unknown_argument_tells_its_own_line_and_near_names() -> None:
    with pytest.raises(ConfigError) as e:
        build(placed(Spec.of("Motor", power=1, feul="oil"), 5, feul=6), [PARTS])
    assert str(e.value).splitlines() == [
        "unknown argument 'feul' for Motor",
        "  c.py:6",
        "  did you mean 'fuel'?",
        "  all arguments: power, fuel, wheel, wheels",
    ]


def test_an_unknown_argument_of_a_nested_spec_tells_the_nested_line() -> None:
    inner = placed(Spec.of("Wheel", radios=2), 8, radios=9)
    with pytest.raises(ConfigError, match=r"'radios' for Wheel\n  c\.py:9"):
        build(placed(Spec.of("Motor", power=1, wheel=inner), 5), [PARTS, OTHERS])


def test_a_missing_argument_and_a_refused_value_tell_their_place() -> None:
    with pytest.raises(ConfigError, match=r"Motor needs the argument 'power'\n  c\.py:5"):
        build(placed(Spec.of("Motor"), 5), [PARTS])
    with pytest.raises(ConfigError, match=r"Motor cannot be built: power must not be negative, not -1\n  c\.py:5"):
        build(placed(Spec.of("Motor", power=-1), 5), [PARTS])
    with pytest.raises(ValueError, match="power must not be negative"):  # no place to tell: the plain error
        build(Spec.of("Motor", power=-1), [PARTS])


def test_a_part_that_takes_anything_is_given_anything() -> None:
    assert build(Spec.of("anything", a=1, b="x"), [PARTS]) == {"a": 1, "b": "x"}
    check_arguments(anything, Spec.of("anything", whatever=1), {})


def test_two_parts_cannot_have_one_name() -> None:
    registry = Registry("thing")
    registry.register("A")(Motor)
    registry.register("A")(Motor)  # importing a module twice does no harm
    with pytest.raises(ValueError, match=r"thing 'A' is registered already, by .*Motor"):
        registry.register("A")(Wheel)
    assert list(registry) == ["A"]
    assert "A" in registry
    assert "B" not in registry
    with pytest.raises(KeyError):
        registry.get("B")


def test_near_names_ignore_case_and_come_best_first() -> None:
    assert near_names("resnet", ["ResNeXt", "ResNet", "VGG"]) == ["ResNet", "ResNeXt"]
    assert suggestion("dept", ["depth", "width"]) == "did you mean 'depth'?"
    assert suggestion("zzz", ["b", "a"]) == "known: a, b"
    assert suggestion("zzz", []) == "known: none"


def test_a_known_part_that_is_not_there_says_why() -> None:
    registry = Registry("transform")
    registry.refuse("Old", "its package is no longer maintained: leave it out")
    with pytest.raises(UnsupportedConfig, match="'Old' is not registered as a transform\\n  its package is no longer"):
        build(Spec.of("Old"), (registry,), role="transform")
    registry.register("Old")(Fraction)
    assert build(Spec.of("Old", numerator=3), (registry,)) == 3
