"""A pack that was found damaged on the store: nobody builds on it, and the next push from a sound disk heals the tag."""

import re

import machines
import running
from s3reg.model import format as fmt
from s3reg.store.files import FilesStore


def test_a_push_stores_again_what_only_a_damaged_pack_has(tmp_path):
    with running.serving(tmp_path, "--store", tmp_path / "store") as registry:
        baker, runner = (running.Node(tmp_path / name, registry.url) for name in ("baker", "runner"))
        machine = machines.make(baker.library)
        baker.done("push", machine.name, "-t", "v1")
        store = FilesStore(tmp_path / "store")
        (bad,) = [stat.key for stat in store.list(fmt.PACKS)]
        data = bytearray(store.get(bad).data)
        data[len(data) // 2] ^= 1
        store.put(bad, bytes(data))
        refused = runner.run("pull", machine.name)
        assert refused.code == 8
        assert re.search(r"a chunk of .* is damaged", refused.err)
        assert not list((runner.library / "vm_lib").glob("*/config.yaml"))

        store.put(fmt.damaged_key(*bad.split("/")[2:]), b"")
        healed = baker.done("-j", "push", machine.name, "-t", "v2").answer["body"]
        assert healed["sent"] > len(data) // 2
        runner.done("pull", machine.name, "-t", "v2")
        assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)
        assert baker.done("-j", "push", machine.name, "-t", "v3").answer["body"]["sent"] == 0
