"""The scripts of ``recon completion``, in a real shell where there is one."""

import shutil
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from recon.cli.dispatch import main

pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script of the shell that the test names."""
    path = tmp_path_factory.mktemp(request.param) / "_recon"  # the name by which zsh finds it
    with path.open("w") as stream, redirect_stdout(stream):
        main(["completion", request.param])
    return path


@pytest.mark.parametrize("script", ["bash"], indirect=True, scope="module")
def test_bash_completes_commands_options_and_names(script: Path) -> None:
    def completed(*words: str) -> list[str]:
        """The words that bash offers in place of the last one."""
        asked = (
            f"source {script}; COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; "
            "_shtab_recon; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        process = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
        return process.stdout.split()

    assert {"benchmark", "fit", "map", "list"} <= set(completed("recon", ""))
    assert completed("recon", "ben") == ["benchmark"]
    assert {"show", "compare"} <= set(completed("recon", "map", ""))
    assert completed("recon", "map", "comp") == ["compare"]
    assert completed("recon", "data", "") == ["prepare", "verify"]
    assert {"--dry-run", "--out"} <= set(completed("recon", "benchmark", "--"))
    assert completed("recon", "benchmark", "--executor", "") == ["local", "ray"]
    assert completed("recon", "list", "arch") == ["architectures"]
    assert {"--model.method", "--trainer.max_epochs"} <= set(completed("recon", "fit", "--"))
    assert completed("recon", "fit", "--model.method", "pcg") == ["pcgrad"]


COMPINIT = "autoload -Uz compinit; compinit -u -D"

TAB = """
zmodload zsh/zpty
zpty shell zsh -f -i
tell() { zpty -w shell $1 }
tell "PROMPT= RPS1=; $1"
tell 'compadd() {
  if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\\ * ]]; then
    local -a offered; builtin compadd -A offered "$@"; print -rl -- $offered >> offered
  fi
  builtin compadd "$@"
}'
tell "tell_end() { touch ended }; comppostfuncs=(tell_end); bindkey '^I' complete-word"
zpty -w -n shell "$2"$'\\t'
for try in {1..400}; do zpty -r -t shell shown; print -rn -- $shown >> shown; [[ -e ended ]] && break; sleep 0.05; done
zpty -d shell
"""
"""Types a line and the tab key into an interactive zsh, and writes down what it offers."""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
@pytest.mark.parametrize("script", ["zsh"], indirect=True, scope="module")
@pytest.mark.parametrize("way", ["found", "sourced"])
def test_zsh_completes_commands_options_and_names(script: Path, way: str, tmp_path: Path) -> None:
    setup = f"fpath=({script.parent} $fpath); {COMPINIT}" if way == "found" else f"{COMPINIT}; source <(cat {script})"

    def completed(line: str) -> list[str]:
        """The words that zsh offers at the end of the line."""
        folder = tmp_path / line.replace(" ", "_")
        folder.mkdir()
        subprocess.run(["zsh", "-f", "-c", TAB, "zsh", setup, line], cwd=folder, check=True, timeout=60)
        assert (folder / "ended").exists(), (folder / "shown").read_text()
        return (folder / "offered").read_text().split()

    assert {"benchmark", "fit", "map", "list"} <= set(completed("recon "))
    assert completed("recon ben") == ["benchmark"]
    assert completed("recon map comp") == ["compare"]
    assert completed("recon data ") == ["prepare", "verify"]
    assert completed("recon data prepare ny") == ["nyuv2"]
    assert {"--dry-run", "--out"} <= set(completed("recon benchmark --"))
    assert completed("recon benchmark --executor ") == ["local", "ray"]
    assert completed("recon list arch") == ["architectures"]
    assert {"--model.method", "--trainer.max_epochs"} <= set(completed("recon fit --"))
    assert completed("recon fit --model.method pcg") == ["pcgrad"]


def test_another_shell_is_refused_with_the_nearest() -> None:
    with pytest.raises(SystemExit, match="unknown shell 'bsh'; nearest: 'bash'"):
        main(["completion", "bsh"])
