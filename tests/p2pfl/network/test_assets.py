"""The page's files: their types and headers, what they ask for, and that it is from the node alone."""

from __future__ import annotations

import re

import pytest

from p2pfl.clock import Clock
from p2pfl.network import assets
from p2pfl.network.gate import Gate
from p2pfl.network.security import Security
from tests.p2pfl.network.certified import TOKEN
from tests.p2pfl.network.sites import Site, app_of, call

FILES = sorted(assets.contents())


def scripts() -> dict[str, str]:
    return {name: assets.contents()[name].decode() for name in FILES if name.endswith(".js")}


@pytest.mark.parametrize("path", ["/", *(f"/web/{name}" for name in FILES)])
async def test_each_file_has_its_type_and_the_policy(path: str) -> None:
    app = app_of(Site())
    answer = await call(app, "GET", path)
    suffix = path.rpartition(".")[2] if "." in path else "html"
    assert (answer.status, answer.headers["content-type"]) == (200, assets.MEDIA_TYPES[suffix])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    again = await call(app, "GET", path, headers=[("if-none-match", answer.headers["etag"])])
    assert (again.status, again.body) == (304, b"")
    head = await call(app, "HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("name", ["nothing.js", "__init__.py", "..", "%2e%2e%2fapp.py"])
async def test_there_are_no_other_files(name: str) -> None:
    site = Site()
    assert (await call(app_of(site), "GET", f"/web/{name}")).status == 404
    assert site.reasons == ["no-such-route"]


async def test_the_page_needs_no_token_and_what_it_shows_does() -> None:
    app = Gate(app_of(Site()), Security(token=TOKEN), Clock())
    for path in ("/", "/web/main.js", "/web/style.css"):
        assert (await call(app, "GET", path)).status == 200
    for path in ("/v1/status", "/v1/history", "/v1/events", "/v1/model.safetensors", "/web"):
        assert (await call(app, "GET", path)).status == 401
    for path in ("/", "/web/main.js", "/v1/predict"):
        assert (await call(app, "POST", path)).status == 401


@pytest.mark.parametrize(("page", "script"), [(assets.INDEX, "main.js"), (assets.TASKS, "tasks.js")])
def test_nothing_is_fetched_from_elsewhere_and_nothing_is_inline(page: str, script: str) -> None:
    page = assets.contents()[page].decode()
    assert re.findall(r"<script[^>]*>", page) == [f'<script type="module" src="web/{script}">']
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    for name, found in assets.contents().items():
        text = found.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(?:https?:)?//[\w-]+\.\w", re.sub(r"(?m)^\s*//.*$", "", text)), name


def test_addresses_are_relative_since_a_node_may_live_below_another_path() -> None:
    for name in (assets.INDEX, assets.TASKS):
        assert not re.search(r'(?:src|href)="/', assets.contents()[name].decode())
    for name, text in scripts().items():
        assert not re.search(r"""(?:ask|getJson|postJson|fetch)\(["'`]/""", text), name


def test_what_peers_say_is_never_taken_for_html() -> None:
    for name, text in scripts().items():
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert way not in text, f"{name}: {way}"


def test_every_module_that_is_imported_and_every_element_that_is_looked_for_is_there() -> None:
    for name, text in scripts().items():
        page = assets.contents()[assets.TASKS if name == "tasks.js" else assets.INDEX].decode()
        for module in re.findall(r'from "\./([\w.]+)"', text):
            assert module in assets.contents(), f"{name} imports {module}"
        for identity in re.findall(r'(?:\$|\btext)\("([\w-]+)"', text):
            assert f'id="{identity}"' in page, f"{name} looks for {identity}"


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio of two colours #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_curves_stand_out(theme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", assets.contents()["style.css"].decode(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[theme]))
    for ink in ("ink", "muted", "good", "warn", "bad", "accent"):
        assert contrast(colours[ink], colours["card"]) >= 4.5, ink
    for ink in ("ink", "muted"):
        assert contrast(colours[ink], colours["page"]) >= 4.5, ink
    assert contrast(colours["ink"], colours["soft"]) >= 4.5
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    for line in ("own", "second", "peer", "field"):
        assert contrast(colours[line], colours["card"]) >= 3, line
