"""What the campaign has found, each in small."""

import pytest

from campaign.port_faults import Fault, Port, Script
from registry.material import BASE, Pusher, read_head
from s3reg.errors import StoreUnavailable
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.registry import Registry
from s3reg.store.files import FilesStore


def test_a_version_s_record_that_is_garbled_once_on_its_way_changes_nothing_that_a_head_says(tmp_path):
    """The size of a template was what the other versions have, until its next change."""
    store = FilesStore(tmp_path, secret=bytes(32))
    Registry(store).prepare()
    node = Pusher(Registry(store), store)
    gone = [node.push(tag=tag, words=tag * 2).entry for tag in "ab"][1]
    size = read_head(store).size
    node.registry.revert(EVERYONE, BASE, operation="0" * 32)
    count = Script()
    Registry(Port(store, count)).restore(EVERYONE, BASE, versions=[gone.id], operation="1" * 32)
    at = next(n for n, call in enumerate(count.calls, start=1) if call.is_on("get", fmt.VERSIONS))
    node.registry.revert(EVERYONE, BASE, operation="2" * 32)
    cut = Script({at: Fault.CUT})

    Registry(Port(store, cut)).restore(EVERYONE, BASE, versions=[gone.id], operation="3" * 32)

    assert cut.struck
    assert read_head(store).size == size
    assert Registry(store).fsck().clean


def test_a_store_that_stops_answering_while_a_check_notes_what_is_bad_is_no_damage(tmp_path):
    """The check ended as if the store's format were damaged."""
    store = FilesStore(tmp_path, secret=bytes(32))
    Registry(store).prepare()
    Pusher(Registry(store), store).push()
    pack = next(tmp_path.glob("packs.d/*.d/*.d/*"))
    pack.write_bytes(bytes(pack.stat().st_size))
    count = Script()
    Registry(Port(store, count)).fsck(read_data=100, record=False)
    for fault in (Fault.FAILS, Fault.THROTTLED):
        gone = Script({len(count.calls) + 1: fault})
        with pytest.raises(StoreUnavailable):
            Registry(Port(store, gone)).fsck(read_data=100)
        assert gone.struck
