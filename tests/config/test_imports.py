"""custom_imports: a string or a list, and clear failures."""

from pathlib import Path

import pytest

from fastdet.config.file import custom_import_names, load_config, run_custom_imports
from fastdet.utils.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose modules can be imported during the test only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "custom_part_of_test.py").write_text("VALUE = 7\n")
    (tmp_path / "custom_broken_of_test.py").write_text("import no_such_module_at_all\n")
    return tmp_path


def test_modules_are_imported_from_a_string_or_a_list(folder: Path) -> None:
    for imports in ("custom_part_of_test", ["custom_part_of_test"]):
        (module,) = run_custom_imports({"custom_imports": {"imports": imports}})
        assert module.VALUE == 7
        assert custom_import_names({"custom_imports": {"imports": imports}}) == ("custom_part_of_test",)


def test_a_config_without_custom_imports_needs_none() -> None:
    assert run_custom_imports({}) == ()
    assert custom_import_names({"custom_imports": None}) == ()


def test_a_failing_import_names_module_reason_and_place(folder: Path) -> None:
    (folder / "a.py").write_text("\ncustom_imports = dict(imports=['custom_broken_of_test'])")
    config = load_config("a.py")
    with pytest.raises(
        ConfigError, match=r"'custom_broken_of_test' cannot be imported: .*'no_such_module_at_all'\n  a.py:2"
    ):
        run_custom_imports(config)


def test_failures_may_be_allowed_and_are_warned_of(folder: Path) -> None:
    section = {"imports": ["no_such_module_at_all", "custom_part_of_test"], "allow_failed_imports": True}
    with pytest.warns(UserWarning, match="'no_such_module_at_all' is left out"):
        modules = run_custom_imports({"custom_imports": section})
    assert [m.__name__ for m in modules] == ["custom_part_of_test"]


@pytest.mark.parametrize("section", ["a.b", {"import": "a"}, {"imports": 3}, {"imports": [3]}])
def test_other_forms_are_refused(section: object) -> None:
    with pytest.raises(ConfigError, match="custom_imports"):
        custom_import_names({"custom_imports": section})
