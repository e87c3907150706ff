"""Classes that a pure-Python config imports: known by their names, never loaded.

The type name is the one under which MMDetection, MMCV and MMEngine register the class, as a text config writes it.
"""

from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.utils.errors import ConfigError

# Names under which PyTorch's and OpenMMLab's classes are registered, where that is not the class's own name.
_TORCH = {
    "BatchNorm1d": "BN1d",
    "BatchNorm2d": "BN",
    "BatchNorm3d": "BN3d",
    "SyncBatchNorm": "SyncBN",
    "GroupNorm": "GN",
    "LayerNorm": "LN",
    "InstanceNorm1d": "IN1d",
    "InstanceNorm2d": "IN",
    "InstanceNorm3d": "IN3d",
    "ConvTranspose2d": "deconv",
    "Hardswish": "HSwish",
    "ZeroPad2d": "zero",
    "ReflectionPad2d": "reflect",
    "ReplicationPad2d": "replicate",
}
_OPEN_MMLAB = {
    "ConstantInit": "Constant",
    "XavierInit": "Xavier",
    "NormalInit": "Normal",
    "TruncNormalInit": "TruncNormal",
    "UniformInit": "Uniform",
    "KaimingInit": "Kaiming",
    "Caffe2XavierInit": "Caffe2Xavier",
    "PretrainedInit": "Pretrained",
    "ConvWS2d": "ConvWS",
    "ConvAWS2d": "ConvAWS",
    "DeformConv2dPack": "DCN",
    "ModulatedDeformConv2dPack": "DCNv2",
    "SAConv2d": "SAC",
    "CARAFEPack": "carafe",
    "PixelShufflePack": "pixel_shuffle",
    "SyncBatchNorm": "MMSyncBN",
    "Clamp": "Clip",
}
_OWN_PACKAGES = ("mmdet", "mmcv", "mmengine")
# Packages of the same family whose parts text configs write with the package's name in front.
_SCOPED_PACKAGES = ("mmpretrain", "mmcls", "mmseg", "mmpose", "mmyolo", "mmrotate", "mmtrack", "mmselfsup", "mmrazor")
OPEN_MMLAB = frozenset(_OWN_PACKAGES + _SCOPED_PACKAGES)
# Importing these registers nothing with fastdet.
_REGISTER_NOTHING = OPEN_MMLAB | {"torch", "torchvision", "numpy", "cv2", "fastdet"}


class Imported:
    """A name that a config imports, or an attribute of one.

    Args:
        module: where it is imported from.
        name: what is imported; empty for the module itself.
        place: file and line of the import, for messages.
    """

    def __init__(self, module: str, name: str, place: str) -> None:
        self._module, self._name, self._place = module, name, place

    @property
    def path(self) -> str:
        return f"{self._module}.{self._name}".rstrip(".")

    @property
    def type_name(self) -> str:
        """As a text config writes it (`BN` for torch.nn.BatchNorm2d)."""
        package, name = self.path.partition(".")[0], self.path.rpartition(".")[2]
        if package == "torch":
            return _TORCH.get(name, name)
        if package in _OWN_PACKAGES:
            return _OPEN_MMLAB.get(name, name)
        return f"{package}.{name}" if package in _SCOPED_PACKAGES else name

    @property
    def user_module(self) -> str | None:
        """The module of the user's that has to be imported for the part to be there."""
        return None if self._module.partition(".")[0] in _REGISTER_NOTHING else self._module

    def __getattr__(self, name: str) -> "Imported":
        if name.startswith("_"):  # Copying and pickling ask for such.
            raise AttributeError(name)
        return Imported(self.path, name, self._place)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise ConfigError(
            f"{self.path} is called here, but reading a config imports nothing of {self.path.partition('.')[0]}\n"
            f"  imported in {self._place}\n  write its result out, or dict(type={self.type_name}, ...) for a part"
        )

    def __repr__(self) -> str:
        return self.path


def spelled_out(config: ConfigDict) -> ConfigDict:
    """The config with type names instead of imported classes; imports at the top level are left out.

    Modules of the user's own whose classes stand in the config are added to `custom_imports`, as their parts are
    registered when they are imported.
    """
    modules: dict[str, None] = {}

    def spell(value: Any) -> Any:
        if isinstance(value, Imported):
            if value.user_module:
                modules[value.user_module] = None
            return value.type_name
        if isinstance(value, ConfigDict):
            for key, item in value.items():
                dict.__setitem__(value, key, spell(item))
            return value
        if type(value) in (list, tuple, set):
            return type(value)(spell(item) for item in value)
        return value

    for name in [name for name, value in config.items() if isinstance(value, Imported)]:
        del config[name]
    spell(config)
    if modules:
        own = config.get("custom_imports") or ConfigDict()
        written = own.get("imports") or []
        imports = [written] if isinstance(written, str) else list(written)
        own["imports"] = imports + [module for module in modules if module not in imports]
        config.put("custom_imports", own, config.sources.get("custom_imports"))
    return config
