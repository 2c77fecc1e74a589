"""The scripts of ``recon completion``, in a real shell where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

from recon.cli.dispatch import main

pytest.importorskip("shtab")


def test_a_shell_completes_commands_options_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = tmp_path / "recon.bash"
    script.write_text(capsys.readouterr().out)

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
    assert {"--dry-run", "--out"} <= set(completed("recon", "benchmark", "--"))
    assert completed("recon", "list", "arch") == ["architectures"]
    assert {"--model.method", "--trainer.max_epochs"} <= set(completed("recon", "fit", "--"))
    assert completed("recon", "fit", "--model.method", "pcg") == ["pcgrad"]
    main(["completion", "zsh"])
    script.write_text(capsys.readouterr().out)
    assert script.read_text().startswith("#compdef recon")
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n", str(script)], check=True)


def test_another_shell_is_refused_with_the_nearest() -> None:
    with pytest.raises(SystemExit, match="unknown shell 'bsh'; nearest: 'bash'"):
        main(["completion", "bsh"])
