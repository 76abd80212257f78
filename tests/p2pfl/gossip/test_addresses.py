import pytest

from p2pfl.config import is_task_path, split_path
from p2pfl.gossip.addresses import callable_url, complete, presented
from tests.p2pfl.odd_paths import ODD_PATHS


@pytest.mark.parametrize(
    ("url", "source", "completed"),
    [
        ("", "10.0.0.7", ""),
        ("http://:8470", "10.0.0.7", "http://10.0.0.7:8470"),
        ("https://:8470", "fd00::7", "https://[fd00::7]:8470"),
        ("http://a.example:1", "10.0.0.7", "http://a.example:1"),
        ("http://a.example:1/", "10.0.0.7", "http://a.example:1"),
        ("http://:8470/tasks/digits", "fd00::7", "http://[fd00::7]:8470/tasks/digits"),
        ("http://a.example:1/tasks/digits", "10.0.0.7", "http://a.example:1/tasks/digits"),
    ],
)
def test_the_receiver_fills_in_an_empty_host(url, source, completed):
    assert complete(url, source) == completed


def test_a_wildcard_is_left_for_the_receiver_to_fill_in():
    assert presented(None, "http://0.0.0.0:8470") == "http://:8470"
    assert presented(None, "https://[::]:8470/tasks/digits") == "https://:8470/tasks/digits"
    assert presented("none", "http://0.0.0.0:8470") == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.3:8470",
        "http://10.0.0.3:8470/tasks/x-rays-2",
        "https://node.example:443",
        "http://[fd00::3]:8470",
        "http://192.168.1.4:80",
    ],
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
        "http://10.0.0.3:8470?",
        "http://10.0.0.3:8470#",
        "HTTP://10.0.0.3:8470",
        "http://10.0.0.3:84\n70",
        "http://10.0.0.3:8470/tasks/a\tb",
        "http://127.0.0.1:22/tasks/digits",
        "http://169.254.169.254:80/tasks/digits",
        *(f"http://10.0.0.3:8470{path}" for path in ODD_PATHS),
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


@pytest.mark.parametrize("path", ODD_PATHS)
def test_no_other_path_is_a_tasks(path):
    assert not is_task_path(path)


def test_a_tasks_name_and_the_rest_of_a_path():
    assert is_task_path("/tasks/" + "a" * 32)
    assert split_path("/tasks/digits/v1/status") == ("digits", "/v1/status")
    assert split_path("/tasks/digits/") == ("digits", "/")
    assert split_path("/tasks/a/tasks/b/x") == ("a", "/tasks/b/x")
    assert split_path("/tasks/digits") is None
    assert split_path("/tasks/A/v1/status") is None
    assert split_path("/v1/status") is None
