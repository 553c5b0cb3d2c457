"""What templates take on the store: counted as plain sets count it, and as a real sweep frees it."""

import random
import shutil
from dataclasses import replace

import pytest

from faults import Counting, Refuses
from registry.askers import guest, tenant
from registry.material import BASE, OTHER, Pusher, base, change_head, config, heads, read_head
from s3reg.errors import NameAmbiguous, RecordDamaged, StoreUnavailable, TemplateNotFound
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.model.packs import PackRef
from s3reg.model.template import Base, Entry, File, Head, MapRef, PackUse, Role, Version
from s3reg.registry import Limits, ProposedFile, Registry
from s3reg.store.files import FilesStore

SEEDS = range(5)
NO_TRASH = Limits(trash_seconds=0)
OPERATION = "0" * 32
THROWN = 1_000_000_000
"""When what lies in the trash went: long ago."""
LATER = 10_000_000_000
"""Until when it lies there where it should stay."""


class Made:
    """A store with templates of random versions that share packs at random, and plain sets of what each needs."""

    def __init__(self, store, seed):
        self.store = store
        self._dice = random.Random(seed)
        self._ids = (f"{number:032x}" for number in range(1, 1_000_000))
        self.sizes = {}
        self.needs = {}
        """Version's id to keys, each with the bytes of it that are used."""
        self.heads = []
        packs = {domain: [self._pack(domain) for _ in range(12)] for domain in ("main", "other")}
        for number in range(5):
            domain = self._dice.choice(["main", "main", "other"])
            self.heads.append(self._template(number, domain, packs[domain]))

    def _pack(self, domain):
        sid, sha256, size = next(self._ids), self._dice.randbytes(32).hex(), self._dice.randint(1, 5000)
        self._put(fmt.pack_key(domain, sid, sha256), size)
        return PackRef(sid, sha256, size)

    def _put(self, key, size):
        self.sizes[key] = size
        self.store.put(key, bytes(size))

    def _template(self, number, domain, packs):
        template = f"00000000-0000-4000-8000-{number:012d}"
        visible = self._dice.randint(0, 3)
        thrown = self._dice.randint(0, 2) if visible else self._dice.randint(1, 2)
        entries = [self._version(template, domain, packs, seq) for seq in range(visible + thrown)]
        self._dice.shuffle(entries)
        head = Head(
            template,
            f"template-{number}",
            domain,
            versions=tuple(sorted(entries[:visible], key=lambda entry: entry.seq)),
            removed=tuple(entry.gone(when=THROWN, by="me", keeps=0) for entry in entries[visible:]),
            deleted=not visible,
        )
        self.store.put(fmt.head_key(template), fmt.write_head(head))
        return head

    def _version(self, template, domain, packs, seq):
        vid = next(self._ids)
        files, needs = [], {}
        for number in range(self._dice.randint(1, 2)):
            sha256, size = self._dice.randbytes(32).hex(), self._dice.randint(1, 500)
            self._put(fmt.map_key(domain, vid, sha256), size)
            needs[fmt.map_key(domain, vid, sha256)] = size
            uses = [PackUse(one, self._dice.randint(1, one.size)) for one in self._dice.sample(packs, 3)]
            for use in uses:
                key = fmt.pack_key(domain, use.pack.sid, use.pack.sha256)
                needs[key] = min(use.pack.size, needs.get(key, 0) + use.live)
            ref = MapRef(vid, sha256, size)
            files.append(File(f"disk{number}", Role.IMAGE, 1, "0" * 64, drive=number, map=ref, packs=tuple(uses)))
        version = Version(vid, template, domain, vid, 1, {}, tuple(files))
        self.store.put(fmt.version_key(template, vid), fmt.write_version(version))
        self.needs[vid] = needs
        return Entry(vid, seq, f"v{seq}", "", 1, 1)

    # --- Plainly ---

    def keys(self, entries):
        """What versions need, together."""
        return {key for entry in entries for key in self.needs[entry.id]}

    def bytes(self, keys):
        return sum(self.sizes[key] for key in keys)

    def live(self, entries):
        most = {}
        for entry in entries:
            for key, live in self.needs[entry.id].items():
                most[key] = max(most.get(key, 0), live)
        return sum(most.values())

    def others(self, but, *, trash):
        """Every version but these."""
        gone = {entry.id for entry in but}
        there = [entry for head in self.heads for entry in (*head.versions, *(head.removed if trash else ()))]
        return [entry for entry in there if entry.id not in gone]

    def exclusive(self, entries):
        return self.bytes(self.keys(entries) - self.keys(self.others(entries, trash=True)))

    def frees(self, entries):
        return self.bytes(self.keys(entries) - self.keys(self.others(entries, trash=False)))

    def stored(self):
        """Bytes of packs and maps that are there."""
        return sum(stat.size for prefix in (fmt.PACKS, fmt.MAPS) for stat in self.store.list(prefix))


@pytest.fixture(params=SEEDS)
def made(request, store):
    return Made(store, request.param)


@pytest.fixture
def one_made(store):
    return Made(store, 3)


class TestCounts:
    def test_every_number_is_what_plain_sets_come_to(self, made, registry):
        usage = registry.usage(EVERYONE)
        assert {one.head.id for one in usage.templates} == {head.id for head in made.heads}
        for one in usage.templates:
            head = one.head
            assert [version.entry for version in one.versions] == list(head.versions)
            for version in one.versions:
                entry = version.entry
                assert version.exclusive == made.exclusive([entry])
                assert version.exclusive + version.shared == made.bytes(made.keys([entry]))
                assert version.frees == made.frees([entry])
                assert version.live == sum(made.needs[entry.id].values())
            assert one.exclusive == made.exclusive(head.versions)
            assert one.exclusive + one.shared == made.bytes(made.keys(head.versions))
            assert one.frees == made.frees(head.versions)
            assert one.live == made.live(head.versions)
            assert one.trash == made.exclusive(head.removed)
        visible = made.others((), trash=False)
        everything = made.keys(made.others((), trash=True))
        assert usage.stored == made.bytes(everything)
        assert usage.trash == made.bytes(everything - made.keys(visible))
        assert usage.live == made.live(visible)

    def test_of_one_template_it_is_the_same_with_sums_of_its_own(self, made, registry):
        everything = {one.head.id: one for one in registry.usage(EVERYONE).templates}
        for head in made.heads:
            if head.deleted:
                continue
            usage = registry.usage(EVERYONE, head.name)
            assert usage.templates == (everything[head.id],)
            assert usage.stored == made.bytes(made.keys((*head.versions, *head.removed)))
            assert usage.live == made.live(head.versions)
            needed = made.keys(made.others((), trash=False))
            assert usage.trash == made.bytes(made.keys(head.removed) - needed)

    def test_what_several_free_is_what_is_exclusive_to_them_together(self, made, registry):
        dice = random.Random(1)
        for _ in range(5):
            rows = [(head, entry) for head in made.heads for entry in head.versions if dice.random() < 0.5]
            going = [Base(head.id, entry.id) for head, entry in rows]
            assert registry.frees(EVERYONE, going) == made.frees([entry for _, entry in rows])

    def test_an_empty_store_takes_nothing(self, registry):
        usage = registry.usage(EVERYONE)
        assert (usage.templates, usage.stored, usage.live, usage.trash, usage.uploading) == ((), 0, 0, 0, 0)


@pytest.mark.parametrize("seed", range(2))
class TestASweepFreesJustThat:
    """Of a trash that keeps nothing, all goes with the first sweep; what goes besides is what was promised."""

    @pytest.fixture
    def frees(self, seed, store, tmp_path):
        """How much less there is after a sweep, if `act` was done before it."""
        made = Made(store, seed)

        def run(act):
            left = []
            for name in ("without", "with"):
                folder = tmp_path / name
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(tmp_path / "store", folder)
                copy = FilesStore(folder, secret=bytes(32))
                if name == "with":
                    act(Registry(copy, limits=NO_TRASH))
                Registry(copy).sweep()
                left.append(sum(stat.size for prefix in (fmt.PACKS, fmt.MAPS) for stat in copy.list(prefix)))
            return left[0] - left[1]

        run.made = made
        return run

    def test_of_a_tag(self, frees, registry):
        head = max(frees.made.heads, key=lambda head: len(head.versions))
        usage = registry.usage(EVERYONE, head.id)
        for one in usage.templates[0].versions:
            tag = one.entry.tag
            assert one.frees == frees(lambda it, tag=tag: it.untag(EVERYONE, head.id, tag=tag, operation=OPERATION))

    def test_of_a_template(self, frees, registry):
        for one in registry.usage(EVERYONE).templates:
            if one.head.deleted:
                continue
            head = one.head
            assert one.frees == frees(lambda it, head=head: it.delete(EVERYONE, head.id, operation=OPERATION))

    def test_of_what_nothing_else_holds_the_trash_included(self, frees, registry, store):
        # Purged at once, while the rest of the trash stays: what is exclusive goes, and no more.
        head = max(frees.made.heads, key=lambda head: len(head.versions))
        one = registry.usage(EVERYONE, head.id).templates[0].versions[0]
        registry.purge(EVERYONE, head.id, versions=[entry.id for entry in head.removed], operation=OPERATION)
        before = registry.usage(EVERYONE, head.id).templates[0].versions[0]
        assert one.exclusive <= before.exclusive <= before.frees
        for other in heads(store):
            kept = tuple(replace(entry, until=LATER) for entry in other.removed)
            change_head(store, other.id, removed=kept)
        registry.sweep()
        there = frees.made.stored()
        registry.untag(EVERYONE, head.id, tag=one.entry.tag, operation="1" * 32)
        registry.purge(EVERYONE, head.id, versions=[one.entry.id], operation="2" * 32)
        registry.sweep()
        assert there - frees.made.stored() == before.exclusive


class TestWhoAsks:
    def test_who_is_shown_one_domain_learns_nothing_of_the_other(self, one_made, registry):
        for domain in ("main", "other"):
            usage = registry.usage(tenant("t", domain))
            assert {one.head.domain for one in usage.templates} == {domain}
            whole = {one.head.id: one for one in registry.usage(EVERYONE).templates}
            assert all(one == whole[one.head.id] for one in usage.templates)

    def test_what_is_shared_with_a_hidden_template_counts_as_shared(self, one_made, registry):
        head = next(head for head in one_made.heads if head.versions and head.domain == "main")
        asker = guest(templates={head.id: "list"})
        usage = registry.usage(asker)
        assert [one.head.id for one in usage.templates] == [head.id]
        assert usage.templates == registry.usage(EVERYONE, head.id).templates
        assert usage.stored == one_made.bytes(one_made.keys((*head.versions, *head.removed)))

    def test_what_is_hidden_is_not_found_and_frees_nothing(self, one_made, registry):
        head = next(head for head in one_made.heads if head.versions)
        nobody = guest()
        with pytest.raises(TemplateNotFound):
            registry.usage(nobody, head.name)
        with pytest.raises(TemplateNotFound):
            registry.uses(nobody, head.id)
        assert registry.frees(nobody, [Base(head.id, head.versions[0].id)]) == 0
        assert registry.usage(nobody).templates == ()
        assert registry.uses(nobody).heads == ()

    def test_a_deleted_template_shows_to_who_may_see_its_trash(self, node, registry):
        pushed = node.push()
        registry.delete(EVERYONE, BASE, operation=OPERATION)
        (one,) = registry.usage(EVERYONE).templates
        assert (one.head.id, one.head.deleted, one.versions) == (BASE, True, ())
        assert one.trash == registry.usage(EVERYONE).stored >= pushed.stored
        assert registry.usage(guest(main="list")).templates == ()
        assert registry.usage(guest(main="list delete_revert")).templates == (one,)

    def test_pushes_under_way_count_for_who_may_know_of_them(self, node, registry):
        sid = node.open().session.id
        registry.sign_uploads(EVERYONE, sid, [("pack", "a" * 64, 5000)])
        assert registry.usage(EVERYONE).uploading == 5000
        assert registry.usage(tenant("t", "main")).uploading == 0

    def test_a_name_that_two_carry_is_refused(self, node, registry):
        node.push()
        node.push(OTHER, same_name=True)
        with pytest.raises(NameAmbiguous):
            registry.usage(EVERYONE, "sequoia")


class TestDamage:
    def test_a_version_that_cannot_be_read_is_named_and_counts_for_nothing(self, node, registry, store):
        first, second = node.push(tag="v1"), node.push(tag="v2", words=("c",))
        store.put(fmt.version_key(BASE, first.entry.id), b"{}")
        one, other = registry.usage(EVERYONE).templates[0].versions
        assert one.damaged
        assert (one.exclusive, one.shared, one.live, one.frees) == (0, 0, 0, 0)
        assert not other.damaged
        assert other.exclusive >= second.stored

    def test_a_head_that_cannot_be_read_whole_shows_and_the_others_are_counted(self, node, registry, store):
        node.push()
        node.push(OTHER, name="other", words=("c",))
        there = registry.usage(EVERYONE, OTHER).templates
        store.put(fmt.head_key(BASE), fmt.write_head(read_head(store)).replace(b'"removed":[]', b'"removed":7'))
        usage = registry.usage(EVERYONE)
        assert {one.head.name: bool(one.head.damaged) for one in usage.templates} == {"sequoia": True, "other": False}
        assert usage.templates[0] == there[0]
        with pytest.raises(RecordDamaged):
            registry.usage(EVERYONE, BASE)

    def test_a_version_that_the_store_withholds_counts_for_nothing_and_one_it_does_not_tell_of_ends_it(
        self, node, store
    ):
        node.push(tag="v1")
        node.push(tag="v2", words=("z",))
        rotten = fmt.version_key(BASE, read_head(store).versions[0].id)
        (template,) = Registry(Refuses(store, rotten, "get")).usage(EVERYONE).templates
        assert ["does not give it" in one.damaged for one in template.versions] == [True, False]
        assert template.versions[1].exclusive > 0
        with pytest.raises(StoreUnavailable):
            Registry(Refuses(store, rotten, "get", "stat")).usage(EVERYONE)

    def test_what_is_shared_with_a_head_that_does_not_tell_its_domain_is_shared(self, node, registry, store):
        opened = node.open(OTHER, bases=(base(node.push()),), name="other")
        theirs = next(file for file in opened.bases[0].files if file.map)
        kept = ProposedFile("disk", theirs.role, theirs.size, theirs.digest, drive=0, map=theirs.map)
        node.commit(opened.session, (kept, config()), name="other")
        there = registry.usage(EVERYONE, OTHER).templates
        store.put(fmt.head_key(BASE), fmt.write_head(read_head(store)).replace(b'"domain":"main"', b'"domain":7'))
        assert registry.usage(EVERYONE, OTHER).templates == there
        assert (there[0].exclusive, there[0].shared > 0) == (0, True)


class TestCost:
    def test_what_a_version_needs_is_read_once(self, one_made, store):
        counting = Counting(store)
        registry = Registry(counting)
        first = registry.usage(EVERYONE)
        counting.calls.clear()
        assert registry.usage(EVERYONE) == first
        assert counting.count("get", fmt.VERSIONS) == 0

    def test_only_the_domains_that_are_asked_for_are_read(self, one_made, store):
        counting = Counting(store)
        Registry(counting).usage(tenant("t", "other"))
        read = {call.keys[0].split("/")[1] for call in counting.calls if call.is_on("get", fmt.VERSIONS)}
        assert read == {head.id for head in one_made.heads if head.domain == "other"}


def test_a_forced_push_frees_in_the_end_what_the_trash_holds_meanwhile(node, registry):
    node.push(tag="v1")
    opened = node.open(tag="v1", force=True)
    same = tuple(opened.bases[0].files)
    files = [
        ProposedFile(one.name, one.role, one.size, one.digest, drive=one.drive, map=one.map) for one in same if one.map
    ]
    node.commit(opened.session, (*files, config(b"name: vm\nother: 1\n")), "v1", force=True)
    (one,) = registry.usage(EVERYONE).templates[0].versions
    assert one.exclusive == 0
    assert one.frees == one.shared > 0


def test_when_versions_were_used_is_told_with_the_registrys_time(node, store):
    registry = Registry(store, clock=lambda: 1_234_567.8)
    pushed = node.push()
    uses = registry.uses(EVERYONE)
    assert (uses.now, uses.last_pulls) == (1_234_567, {})
    registry.pulled(EVERYONE, BASE, pushed.entry.id)
    pulled = registry.uses(EVERYONE, "sequoia").last_pulls
    assert pulled == {base(pushed).version: int(store.stat(fmt.pull_key(BASE, pushed.entry.id)).modified)}
    assert Pusher(registry, store).registry.uses(EVERYONE, BASE).heads == (read_head(store),)
