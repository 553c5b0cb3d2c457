"""`push --remote-vm`: an independent VM becomes the next version of a template."""

import json
from urllib.request import urlopen

import machines
from machines import KIB


def test_s14_a_version_that_came_by_remote_vm_is_listed_under_the_template(s3reg, registry, tmp_path):
    made = [
        machines.make(tmp_path / "library", sizes=(300 * KIB,), state_size=0, name=name, seed=seed)
        for seed, name in enumerate(("sequoia", "baked-anew"))
    ]
    assert s3reg("-a", registry, "push", "sequoia", "-t", "v1").code == 0
    assert s3reg("-a", registry, "push", "baked-anew", "-v", "sequoia", "-t", "v2").code == 0

    (listed,) = s3reg("-j", "-a", registry, "list").answer["body"]
    assert (listed["id"], listed["name"], listed["latest"]) == (made[0].id, "sequoia", "v2")
    with urlopen(f"{registry}/registry/vm") as answer:
        assert json.load(answer)["body"] == [{made[0].id: "sequoia"}]
    with urlopen(f"{registry}/registry/v2/vm?id={made[0].id}") as answer:
        body = json.load(answer)["body"]
    assert [(row["tag"], row["images"]) for row in body["versions"]] == [
        (f"v{number}", machine.drives) for number, machine in enumerate(made, 1)
    ]
