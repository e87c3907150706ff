"""The commands as a shell sees them: help without torch, options of both MMDetections, exit codes, no tracebacks."""

import subprocess
import sys

import pytest

from fastdet import predict, test, train
from fastdet.__main__ import VERBS, main
from fastdet.utils import cli
from fastdet.utils.errors import EnvironmentProblem, FastdetError


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_answers_without_importing_torch(verb: str) -> None:
    code = (
        "import sys, runpy; sys.modules['torch'] = None; sys.argv = ['x', '--help']; "
        f"runpy.run_module({VERBS[verb][0]!r}, run_name='__main__')"
    )
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_without_a_verb_the_verbs_are_listed_and_the_exit_code_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "train" in capsys.readouterr().out


def test_an_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "'trian'" in capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fastdet ")


def test_a_missing_config_is_one_line_and_exit_code_1() -> None:
    result = run("-m", "fastdet.train", "no/such/config.py")
    assert result.returncode == 1
    assert "no/such/config.py" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_option_exits_with_2() -> None:
    assert run("-m", "fastdet.train", "x.py", "--no-such-option").returncode == 2


def test_train_takes_the_options_of_both_mmdetections() -> None:
    words = (
        "c.py --work-dir w --amp --auto-scale-lr --resume --cfg-options a=1 b=2 --launcher pytorch --local-rank 1 "
        "--resume-from k.pth --auto-resume --no-validate --gpus 1 --gpu-ids 0 --gpu-id 0 --seed 1 --diff-seed "
        "--deterministic"
    )
    options = train.parser().parse_args(words.split())
    assert (options.resume, options.local_rank, options.cfg_options) == ("auto", 1, ["a=1", "b=2"])
    assert train.parser().parse_args(["c.py", "--local_rank=2", "--options", "a=1"]).local_rank == 2
    assert train.parser().parse_args(["c.py", "--resume", "k.pth"]).resume == "k.pth"


def test_test_takes_the_options_of_both_mmdetections() -> None:
    words = (
        "c.py k.pth --work-dir w --out x.pkl --show --show-dir d --wait-time 2 --tta --cfg-options a=1 --launcher mpi "
        "--eval bbox segm --format-only --eval-options classwise=True jsonfile_prefix=r --show-score-thr 0.5 "
        "--fuse-conv-bn --gpu-collect --tmpdir t --local_rank 0"
    )
    options = test.parser().parse_args(words.split())
    assert options.eval == ["bbox", "segm"]
    assert options.eval_options == ["classwise=True", "jsonfile_prefix=r"]


def test_predict_takes_the_weights_in_both_places() -> None:
    assert predict.parser().parse_args(["a.jpg", "c.py", "k.pth"]).checkpoint == "k.pth"
    words = "a.jpg c.py --weights k.pth --out-dir o --batch-size 2 --pred-score-thr 0.5 --device cpu"
    options = predict.parser().parse_args(words.split())
    assert (options.weights, options.score_thr, options.checkpoint) == ("k.pth", 0.5, None)


@pytest.mark.parametrize("words", [["a.jpg", "c.py"], ["a.jpg", "c.py", "k.pth", "--weights", "k.pth"]])
def test_predict_needs_the_weights_once(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.main(words) == 1
    assert "give the weights once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "words"), [("--show", "--show-dir"), ("--tta", "not supported"), ("--out=x.json", "must end in .pkl")]
)
def test_what_test_cannot_do_is_said_at_once(option: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert test.main(["c.py", "k.pth", option]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--gpus", "4"], ["--gpu-ids", "0", "1", "2", "3"]])
def test_several_gpus_in_one_process_name_the_command_to_use(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["c.py", *option]) == 1
    assert "torchrun --nproc-per-node 4 -m fastdet.train c.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problem", "code", "shown"),
    [
        (FastdetError("a mistake"), 1, "error: a mistake\n"),
        (EnvironmentProblem("no GPU"), 3, "error: no GPU\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: /x: Permission denied\n"),
    ],
)
def test_each_end_has_its_exit_code(
    problem: BaseException, code: int, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(options: object) -> None:
        raise problem

    assert cli.run(command, cli.parse(train.parser(), ["c.py"])) == code
    assert capsys.readouterr().err == shown


def test_mistakes_of_our_own_are_not_hidden() -> None:
    def command(options: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(command, cli.parse(train.parser(), ["c.py"]))
