"""Finding nodes on a local network: what is announced, what is believed, and how it begins and ends."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from p2pfl.errors import SetupError
from p2pfl.network import discovery
from p2pfl.network.discovery import (
    MOST_ADDRESSES,
    MOST_HEARD,
    MOST_KNOWN,
    REMIND,
    TYPE,
    Heard,
    Presence,
    Service,
    ZeroconfLan,
    check_installed,
    join,
    presence,
    urls_of,
)
from tests.p2pfl.network.certified import OTHER, SECRET, TOKEN

from . import multicast

INTERFACES = ("127.0.0.1", "::1", "192.168.1.5", "10.0.0.7", "fd00::7", "fe80::1")
TASK, LAYOUT = "0123456789abcdef" * 2, "fedcba9876543210" * 2


def at(listens: str, announced: str = "", interfaces: tuple[str, ...] = INTERFACES) -> Presence:
    return presence(
        listens, announced or listens, id="me", version=1, task=TASK, layout=LAYOUT, interfaces=interfaces
    )


OWN = at("http://0.0.0.0:8470", "http://:8470")


def other(id: str = "you", *addresses: str, port: int = 8471, **text: str) -> Service:
    """A service of our task."""
    return Service(
        f"{id}.{TYPE}", addresses or ("192.168.1.6",), port, {**OWN.service.text, "id": id, **text}
    )


# -- a network with a token


def test_only_who_has_the_token_is_believed_where_there_is_one() -> None:
    """Else anybody on the local network could have the token sent to an address of his own."""
    own = replace(OWN, token=TOKEN)
    member = replace(OWN, id="you", addresses=("192.168.1.6", "fd00::9"), port=8471, token=TOKEN).service
    assert urls_of(member, own) == ("you", ["http://192.168.1.6:8471", "http://[fd00::9]:8471"])
    stranger = other("you")
    assert urls_of(stranger, OWN)[1]
    assert urls_of(stranger, own) == ("you", [])
    of_another_network = replace(OWN, id="you", addresses=("192.168.1.6",), token=OTHER).service
    assert urls_of(of_another_network, own) == ("you", [])


@pytest.mark.parametrize(
    "changed",
    [{"addresses": ("192.168.1.66",)}, {"port": 8472}, {"id": "eve"}, {"scheme": "https"}, {"proofs": ""}],
    ids=lambda changed: next(iter(changed)),
)
def test_a_proof_that_was_heard_is_good_for_no_other_address(changed: dict[str, object]) -> None:
    own = replace(OWN, token=TOKEN)
    heard = replace(OWN, id="you", addresses=("192.168.1.6",), port=8471, token=TOKEN).service
    text = {
        **heard.text,
        **{key: str(value) for key, value in changed.items() if key not in ("addresses", "port")},
    }
    fields = {key: value for key, value in changed.items() if key in ("addresses", "port")}
    assert urls_of(replace(heard, text=text, **fields), own)[1] == []  # type: ignore[arg-type]


def test_the_token_itself_is_not_announced() -> None:
    assert SECRET not in str(replace(OWN, token=TOKEN).service) + repr(replace(OWN, token=TOKEN))


# -- what is announced


@pytest.mark.parametrize(
    ("listens", "announced", "addresses", "port", "speaks_on"),
    [
        ("http://0.0.0.0:8470", "http://:8470", ("192.168.1.5", "10.0.0.7"), 8470, ()),
        ("http://[::]:8470", "http://:8470", ("fd00::7",), 8470, ()),
        ("http://192.168.1.5:8470", "http://192.168.1.5:8470", ("192.168.1.5",), 8470, ("192.168.1.5",)),
        ("http://127.0.0.1:8470", "http://127.0.0.1:8470", ("127.0.0.1",), 8470, ("127.0.0.1",)),
        ("http://[::1]:8470", "http://[::1]:8470", ("::1",), 8470, ("127.0.0.1",)),
        ("http://127.3.2.1:8470", "http://127.3.2.1:8470", ("127.3.2.1",), 8470, ("127.3.2.1",)),
        # behind a proxy of this machine, behind a router, and by a name
        ("http://127.0.0.1:8471", "http://192.168.1.5:8470", ("192.168.1.5",), 8470, ("192.168.1.5",)),
        ("http://0.0.0.0:8470", "http://203.0.113.9:80", ("203.0.113.9",), 80, ()),
        ("https://0.0.0.0:1", "https://node.example:443", ("192.168.1.5", "10.0.0.7", "fd00::7"), 443, ()),
    ],
)
def test_a_node_announces_where_it_is_called(
    listens: str, announced: str, addresses: tuple[str, ...], port: int, speaks_on: tuple[str, ...]
) -> None:
    own = at(listens, announced)
    assert (own.addresses, own.port, own.speaks_on) == (addresses, port, speaks_on)
    assert own.scheme == listens.partition(":")[0]
    assert own.on_loopback == addresses[0].startswith(("127.", "::1"))


def test_without_a_network_a_wildcard_is_the_loopback() -> None:
    assert at("http://0.0.0.0:8470", "http://:8470", ("127.0.0.1", "::1")).addresses == ("127.0.0.1",)


def test_nothing_but_what_anybody_may_know_is_announced() -> None:
    assert dict(OWN.service.text) == {
        "v": "1", "id": "me", "scheme": "http", "task": TASK[:16], "layout": LAYOUT[:16],
    }  # fmt: skip
    assert OWN.service.name == f"me.{TYPE}"
    assert at("http://0.0.0.0:1", "http://:1").service.port == 1


def test_one_of_several_nodes_behind_a_port_announces_its_path() -> None:
    own = at("http://0.0.0.0:8470/tasks/digits", "http://:8470/tasks/digits")
    assert own.service.text["path"] == "/tasks/digits"
    assert at("http://0.0.0.0:8470/tasks/digits", "").path == "/tasks/digits"
    member = replace(own, id="you", addresses=("192.168.1.6",), token=TOKEN).service
    url = "http://192.168.1.6:8470/tasks/digits"
    assert urls_of(member, replace(OWN, token=TOKEN)) == ("you", [url])
    moved = Service(member.name, member.addresses, member.port, {**member.text, "path": "/tasks/other"})
    assert urls_of(moved, replace(OWN, token=TOKEN)) == ("you", [])


@pytest.mark.parametrize(
    "path", ["/", "/tasks/", "/tasks/a/b", "/tasks/..", "/admin", "@evil:80", "/tasks/A"]
)
def test_no_other_path_is_believed(path: str) -> None:
    assert urls_of(other("you", path=path), OWN) == ("you", [])


# -- what is believed


def test_a_service_of_our_task_is_called_at_all_its_addresses() -> None:
    service = other("you", "192.168.1.6", "fd00::8")
    assert urls_of(service, OWN) == ("you", ["http://192.168.1.6:8471", "http://[fd00::8]:8471"])
    assert urls_of(other(scheme="https"), OWN)[1] == ["https://192.168.1.6:8471"]


@pytest.mark.parametrize(
    "service",
    [
        other("me"),
        other(v="2"),
        other(task="0" * 16),
        other(layout="0" * 16),
        other(scheme="ftp"),
        other(""),
        other("a b"),
        other("x" * 65),
        other("you\n"),
        other(port=0),
        other(port=70_000),
        other("you", "127.0.0.1"),
        other("you", "fe80::1"),
        other("you", "0.0.0.0", "224.0.0.251", "::", "ff02::fb"),
        other("you", "evil.example", "192.168.1.6/admin", ""),
        Service(f"you.{TYPE}", ("192.168.1.6",), 8471, {}),
    ],
    ids=lambda service: f"{service.name[:12]!r} {service.addresses} {service.port}",
)
def test_what_is_not_one_of_us_is_not_called(service: Service) -> None:
    assert urls_of(service, OWN)[1] == []


def test_on_loopback_nodes_of_this_machine_are_found() -> None:
    own = at("http://127.0.0.1:8470")
    assert urls_of(other("you", "127.0.0.1"), own)[1] == ["http://127.0.0.1:8471"]


def test_a_liar_has_no_more_addresses_than_others() -> None:
    many = other("you", *(f"10.0.1.{i}" for i in range(1, 200)))
    assert len(urls_of(many, OWN)[1]) == MOST_ADDRESSES


# -- how it begins and ends


class FakeLan:
    """A local network in memory. As with zeroconf, what is heard comes from another thread."""

    def __init__(self, *services: Service, fails: str = "") -> None:
        self.services = {service.name: service for service in services}
        self.announced: list[Service] = []
        self.looked_up: list[str] = []
        self.closed = 0
        self._fails = fails
        self._heard: Heard = lambda name, is_there: None

    def open(self, own: Presence) -> FakeLan:
        if self._fails == "open":
            raise OSError("no multicast here")
        return self

    def announce(self, service: Service) -> None:
        if self._fails == "announce":
            raise OSError("nobody may speak here")
        self.announced.append(service)

    def browse(self, heard: Heard) -> None:
        self._heard = heard
        self.say(*self.services)

    def say(self, *names: str, is_there: bool = True) -> None:
        def run() -> None:
            for name in names:
                self._heard(name, is_there)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    def look_up(self, name: str) -> Service | None:
        self.looked_up.append(name)
        return self.services.get(name)

    def close(self) -> None:
        self.closed += 1


Finds = list[tuple[str, str]]


async def joined(lan: FakeLan, during: Callable[[Finds], object] = lambda found: None) -> Finds:
    """join() until nothing moves any more; then it is cancelled."""
    found: Finds = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(join, OWN, lambda id, url: found.append((id, url)), lan.open)
        await still()
        during(found)
        await still()
        nursery.cancel_scope.cancel()
    return found


async def still() -> None:
    """Until all tasks wait, also after what worker threads had to do."""
    for _ in range(20):
        await trio.to_thread.run_sync(lambda: None)
        await wait_all_tasks_blocked(0.005)


async def test_a_node_announces_itself_finds_others_and_says_goodbye() -> None:
    lan = FakeLan(other(), OWN.service)
    assert await joined(lan) == [("you", "http://192.168.1.6:8471")]
    assert lan.announced == [OWN.service]
    assert lan.closed == 1


async def test_who_comes_later_is_found_too() -> None:
    lan = FakeLan()

    def come(found: Finds) -> None:
        assert found == []
        lan.services = {f"late.{TYPE}": other("late")}
        lan.say(f"late.{TYPE}", f"gone before it was asked.{TYPE}")

    assert await joined(lan, come) == [("late", "http://192.168.1.6:8471")]


@pytest.mark.parametrize("fails", ["open", "announce"])
async def test_a_network_that_cannot_be_used_is_a_warning(
    fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    lan = FakeLan(fails=fails)
    assert await joined(lan) == []
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "discovery=mdns cannot be used on this network: no" in record.getMessage()
    assert lan.closed == (fails == "announce")


async def test_a_flood_of_services_is_bounded() -> None:
    lan = FakeLan()
    many = {f"n{i}.{TYPE}": other(f"n{i}") for i in range(10 * MOST_HEARD)}

    def flood(found: Finds) -> None:
        lan.services = many
        lan.say(*many)

    assert len(await joined(lan, flood)) <= 2 * MOST_HEARD


@pytest.mark.virtual
async def test_services_that_are_still_there_are_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In virtual time, where calls in threads return at once."""

    async def at_once(function: Callable[..., object], *arguments: object) -> object:
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    lan = FakeLan(other("a"), other("b"))
    found: Finds = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(join, OWN, lambda id, url: found.append((id, url)), lan.open)
        await trio.sleep(REMIND / 2)
        assert [id for id, _ in found] == ["a", "b"]
        lan.say(f"a.{TYPE}", is_there=False)
        await trio.sleep(REMIND)  # a goodbye, which puts no reminder off
        assert [id for id, _ in found] == ["a", "b", "b"]
        for i in range(MOST_KNOWN + 50):
            lan.services[f"n{i}.{TYPE}"] = other(f"n{i}")
            lan.say(f"n{i}.{TYPE}")
            await trio.testing.wait_all_tasks_blocked()
        lan.looked_up.clear()
        await trio.sleep(1.5 * REMIND)
        assert len(lan.looked_up) == MOST_KNOWN
        nursery.cancel_scope.cancel()
    assert lan.closed == 1


async def test_what_is_heard_after_the_end_is_nobodys() -> None:
    lan = FakeLan()
    await joined(lan)
    lan.say(f"late.{TYPE}")
    await still()
    assert lan.looked_up == []


# -- zeroconf itself


def test_without_zeroconf_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        SetupError, match=r"^--discover mdns needs zeroconf: pip install 'p2pfl-gossip\[lan\]'$"
    ):
        check_installed()


@multicast.needed
async def test_two_nodes_of_one_machine_find_each_other_and_say_goodbye() -> None:
    """By real multicast on the loopback interface."""
    # A task of our own: other tests of this machine may be running.
    here = replace(at("http://127.0.0.1:8470"), task=f"{os.getpid():016x}", id=f"me-{os.getpid()}")
    there = replace(here, port=8471, id=f"you-{os.getpid()}")
    gone, heard = threading.Event(), trio.Event()
    found: dict[str, Finds] = {"here": [], "there": []}
    witness = ZeroconfLan(here)
    witness.browse(lambda name, is_there: gone.set() if name == there.service.name and not is_there else None)

    def note(who: str) -> discovery.Found:
        def add(id: str, url: str) -> None:
            found[who].append((id, url))
            if all(found.values()):
                heard.set()

        return add

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(join, here, note("here"), ZeroconfLan)
            nursery.start_soon(join, there, note("there"), ZeroconfLan)
            with trio.fail_after(60):
                await heard.wait()
            nursery.cancel_scope.cancel()
        assert found["here"][0] == (there.id, "http://127.0.0.1:8471")
        assert found["there"][0] == (here.id, "http://127.0.0.1:8470")
        assert await trio.to_thread.run_sync(gone.wait, 60)
    finally:
        witness.close()


@multicast.needed
def test_a_name_that_is_none_is_not_looked_up() -> None:
    lan = ZeroconfLan(at("http://127.0.0.1:8470"))
    try:
        assert lan.look_up("nonsense") is None
    finally:
        lan.close()
