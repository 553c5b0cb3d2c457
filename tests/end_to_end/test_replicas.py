"""Two registry processes on one bucket: what one began the other goes on with."""

import base64
import hashlib

import machines
import running
from s3reg import wire
from s3reg.client.connection import Access, Connection
from s3reg.model.template import bytes_digest


def test_one_push_through_two_replicas_while_both_write_the_head(minio, bucket, tmp_path):
    arguments = ["--store", f"s3://{bucket(minio)}", "--s3-endpoint", minio.endpoint]
    settings = minio.environment()
    with (
        running.serving(tmp_path, *arguments, **settings) as one,
        running.serving(tmp_path, *arguments, **settings) as two,
    ):
        here, there = Connection(Access(one.url)), Connection(Access(two.url))
        node = running.Node(tmp_path / "node", two.url)
        machine = machines.make(node.library)
        opened = here.call(
            "POST",
            f"{wire.PREFIX}/sessions",
            wire.write(wire.OpenRequest(template=machine.id, name=machine.name, tag="mine")),
        )
        sid = opened["session"]
        body = hashlib.sha256(b"any").digest() * 10
        upload = wire.Upload("pack", hashlib.sha256(body).hexdigest(), len(body))
        links = there.call("POST", f"{wire.PREFIX}/sessions/{sid}/uploads", wire.write(wire.UploadsRequest((upload,))))
        there.send(links["links"][0]["url"], links["links"][0]["headers"], memoryview(body))

        node.done("push", machine.name, "-t", "theirs")  # the other replica writes the same head

        config = (machine.folder / "config.yaml").read_bytes()
        committed = here.call(
            "POST",
            f"{wire.PREFIX}/sessions/{sid}/commit",
            {
                "tag": "mine",
                "name": machine.name,
                "files": [
                    {
                        "name": "config.yaml",
                        "role": "config",
                        "size": len(config),
                        "digest": bytes_digest(config),
                        "inline": base64.b64encode(config).decode(),
                    }
                ],
            },
        )
        assert (committed["number"], committed["tag"]) == (1, "mine")
        for connection in (here, there):
            found = connection.call("GET", f"{wire.PREFIX}/template", query={"ref": machine.id})
            assert [version["tag"] for version in found["versions"]] == ["theirs", "mine"]
            connection.close()


def test_a_push_whose_replicas_take_turns_is_one_push(minio, bucket, tmp_path):
    """Every call of the node goes to the next replica, as behind a load balancer without stickiness."""
    arguments = ["--store", f"s3://{bucket(minio)}", "--s3-endpoint", minio.endpoint]
    settings = minio.environment()
    with (
        running.serving(tmp_path, *arguments, **settings) as one,
        running.serving(tmp_path, *arguments, **settings) as two,
        running.taking_turns([one.url, two.url]) as balancer,
    ):
        baker, runner = (running.Node(tmp_path / name, balancer) for name in ("baker", "runner"))
        machine = machines.make(baker.library)
        for number in range(3):
            machines.scatter(machine.disk(), 3, seed=number)
            baker.done("push", machine.name, "-t", f"v{number}")
            runner.done("pull", machine.name)
            assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)
