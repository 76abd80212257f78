import pytest

from p2pfl.gossip.addresses import callable_url, complete


@pytest.mark.parametrize(
    ("url", "source", "completed"),
    [
        ("", "10.0.0.7", ""),
        ("http://:8470", "10.0.0.7", "http://10.0.0.7:8470"),
        ("https://:8470", "fd00::7", "https://[fd00::7]:8470"),
        ("http://a.example:1", "10.0.0.7", "http://a.example:1"),
        ("http://a.example:1/", "10.0.0.7", "http://a.example:1"),
    ],
)
def test_the_receiver_fills_in_an_empty_host(url, source, completed):
    assert complete(url, source) == completed


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.3:8470", "https://node.example:443", "http://[fd00::3]:8470", "http://192.168.1.4:80"],
)
def test_ordinary_addresses_are_callable(url):
    assert callable_url(url, "10.0.0.7")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://10.0.0.3:21",
        "file:///etc/passwd",
        "http://10.0.0.3",
        "http://10.0.0.3:0",
        "http://10.0.0.3:99999",
        "http://10.0.0.3:8470/admin",
        "http://10.0.0.3:8470?x=1",
        "http://10.0.0.3:8470#x",
        "http://user:pw@10.0.0.3:8470",
        "http://0.0.0.0:8470",
        "http://[::]:8470",
        "http://169.254.169.254:80",
        "http://[fe80::1]:80",
        "http://224.0.0.1:80",
        "http://255.255.255.255:80",
        "http://127.0.0.1:22",
        "http://[::1]:22",
        "http://localhost:22",
        "http://[::ffff:127.0.0.1]:22",
        "http://2130706433:22",
        "http://127.1:22",
        "http://[not-an-address:80",
    ],
)
def test_odd_addresses_are_never_called(url):
    assert not callable_url(url, "10.0.0.7")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8471", "http://localhost:8471", "http://127.9.9.9:1"])
def test_loopback_may_be_named_by_loopback(url):
    assert callable_url(url, "127.0.0.1")
