"""What shells complete: by their own machinery, and silently."""

import os
import shlex
import socket
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete, get_completion_class

import machines
import servers
from machines import KIB
from s3reg.cli import completion
from s3reg.cli.main import program
from s3reg.cli.options import Asked
from s3reg.model import format as fmt
from s3reg.store.files import FilesStore


@pytest.fixture
def complete():
    """What the last of these words may become."""

    def ask(*words):
        machinery = ShellComplete(program, {"obj": Asked()}, completion.PROGRAM, completion.VARIABLE)
        return [item.value for item in machinery.get_completions([str(word) for word in words[:-1]], words[-1])]

    return ask


@pytest.fixture
def pushed(s3reg, registry, tmp_path):
    """A library with two VMs; the registry `office` has one of them, as v1 and os:deps."""
    for name in ("base", "my vm"):
        machines.make(tmp_path / "library", sizes=(30 * KIB,), state_size=0, name=name, seed=len(name))
    s3reg("add", "office", registry)
    assert s3reg("push", "base", "-t", "v1").code == 0
    assert s3reg("push", "base", "-t", "os:deps").code == 0


@pytest.mark.usefixtures("pushed")
def test_names_of_the_library_of_registries_of_templates_and_of_tags_are_offered(complete):
    assert complete("push", "") == ["base", "my vm"]
    assert complete("export", "m") == ["my vm"]
    assert complete("registry", "pull", "") == ["base"]
    assert complete("-r", "") == complete("delete", "") == complete("list", "--remote=o") == ["office"]
    assert complete("pull", "base", "-t", "") == complete("describe", "base", "--tag", "") == ["os:deps", "v1"]
    assert complete("registry", "revert", "base", "-t", "v") == ["v1"]
    assert complete("untag", "base", "v") == complete("retag", "base", "v") == ["v1"]
    assert complete("show", "base", "n") == ["name", "network"]
    assert complete("--library", "nowhere", "push", "") == []
    assert complete("pull", "-t", "") == complete("pull", "nothing", "-t", "") == []


@pytest.mark.usefixtures("pushed")
def test_what_lies_in_the_trash_is_offered_where_it_can_be_restored(complete, s3reg):
    assert complete("trash", "restore", "") == []
    s3reg("untag", "base", "v1")
    assert (
        complete("trash", "restore", "") == complete("trash", "list", "") == complete("trash", "purge", "") == ["base"]
    )
    assert complete("trash", "restore", "base", "") == complete("trash", "purge", "base", "v") == ["v1"]
    version = s3reg("-j", "trash", "list").answer["body"][0]["version"]
    assert complete("trash", "restore", "base", "--version", "") == [version]
    assert complete("trash", "restore", "--version", version[:3]) == [version]


@pytest.mark.usefixtures("pushed")
def test_what_a_store_holds_and_has_lost_is_offered_to_who_works_on_it(complete, s3reg, tmp_path):
    store = tmp_path / "store"
    template = s3reg("-j", "list").answer["body"][0]["uuid"]
    assert complete("fsck", store, "-t", "") == complete("fsck", "--store", store, "--template", "b") == ["base"]
    assert complete("gc", store, "--lost", "") == []
    FilesStore(store).delete([fmt.head_key(template)])
    assert complete("gc", store, "--lost", "") == complete("gc", store, "--lost", template[:4]) == [template]
    assert complete("fsck", store, "-t", "") == []
    assert complete("gc", tmp_path / "nowhere", "--lost", "") == complete("gc", "--lost", "") == []


def test_commands_and_options_are_offered(complete):
    assert complete("pu") == complete("registry", "pu") == ["push", "pull"]
    assert complete("completion", "") == ["bash", "zsh", "fish"]
    assert complete("registry", "--de") == ["--default", "--debug"]
    assert complete("list", "--cac") == ["--cacert"]


@pytest.mark.parametrize("command", [("gc",), ("fsck",), ("adopt",), ("store", "check")])
def test_the_folder_of_a_store_is_left_to_the_shell(command):
    machinery = ShellComplete(program, {"obj": Asked()}, completion.PROGRAM, completion.VARIABLE)
    assert [(item.type, item.value) for item in machinery.get_completions(list(command), "/srv")] == [("dir", "/srv")]


@pytest.mark.parametrize("address", ["dead", "silent"])
def test_a_registry_that_does_not_answer_offers_nothing(complete, address, capfd):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if address == "silent" else servers.free_port()
        assert complete("-a", f"http://127.0.0.1:{port}", "pull", "") == []
    assert capfd.readouterr() == ("", "")


def test_a_broken_file_of_registries_and_a_broken_vm_offer_nothing(complete, tmp_path):
    (tmp_path / "remotes.yaml").write_text("[")
    (tmp_path / "library").write_text("a file")
    assert complete("-r", "") == complete("pull", "") == complete("push", "") == []


def test_what_a_shell_asks_that_is_not_understood_is_answered_with_silence(capfd, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", "s3reg pu")
    monkeypatch.setenv("COMP_CWORD", "x")
    for instruction in ("bash_complete", "tcsh_complete", "bash_nothing", ""):
        assert completion.answer(program, instruction) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize(
    ("pieces", "offered"),
    [
        (["pull", "base", "-t", "os", ":", "d"], ["deps"]),
        (["pull", "base", "-t", "os", ":"], ["deps"]),
        (["pull", "base", "--tag", "=", "os", ":", "d"], ["deps"]),
        (["pull", "base", "--tag", "="], ["os:deps", "v1"]),
        (["-a", "URL", ":", "//HOST", ":", "PORT", "pull", "base", "-t", "os"], ["os:deps"]),
    ],
)
def test_t3_words_that_bash_cut_at_a_colon_are_whole_again(registry, pieces, offered, monkeypatch):
    scheme, host, port = registry.split(":")
    given = {"URL": scheme, "//HOST": host, "PORT": port}
    monkeypatch.setenv("COMP_WORDS", "\n".join(["s3reg", *(given.get(piece, piece) for piece in pieces)]))
    monkeypatch.setenv("COMP_CWORD", str(len(pieces)))
    bash = get_completion_class("bash")(program, {"obj": Asked()}, completion.PROGRAM, completion.VARIABLE)
    assert bash.complete().splitlines() == [f"plain,{value}" for value in offered]


@pytest.fixture
def shell_environment(tmp_path, pushed):
    """That of a shell that finds `s3reg`."""
    place = tmp_path / "bin" / "s3reg"
    place.parent.mkdir()
    place.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m s3reg.cli.main "$@"\n')
    place.chmod(0o755)
    return {**os.environ, "PATH": f"{place.parent}:{os.environ['PATH']}"}


SHELLS = {
    "bash": """
        eval "$(s3reg completion bash)"
        complete -p s3reg
        COMP_WORDS=(s3reg -r office export m) COMP_CWORD=4
        _s3reg_completion s3reg
        echo "${COMPREPLY[@]}"
        """,
    # zsh completes at its prompt only: what it would do is what compdef and compadd are told.
    "zsh": """
        compdef() { print complete $@ }
        eval "$(s3reg completion zsh)"
        compadd() { print -r -- "${(@q)${(@P)@[-1]}}" }
        words=(s3reg -r office export m) CURRENT=5
        _s3reg_completion
        """,
    "fish": """
        s3reg completion fish | source
        complete s3reg | string match -q '*s3reg*'; and echo complete s3reg
        complete -C 's3reg -r office export m' | string escape
        """,
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes_a_name_with_a_blank_in_it(shell, shell_environment):
    words = [servers.needs(shell), *(["-f"] if shell == "zsh" else []), "-c", SHELLS[shell]]
    done = subprocess.run(words, env=shell_environment, capture_output=True, text=True, check=False)
    registered, offered = done.stdout.strip().splitlines()
    assert registered.startswith("complete")
    assert registered.endswith("s3reg")
    assert shlex.split(offered) == ["my vm"]
    assert done.stderr == ""
