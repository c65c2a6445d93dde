"""The page in a real browser: nothing goes wrong, and what one does has its effect."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from effcomp.report.schema import Report

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright, of the extra [dev]", exc_type=ImportError
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield found
        found.close()


class Opened:
    """A page, and everything that went wrong on it."""

    def __init__(self, browser: sync_api.Browser, path: Path, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
        self.wrong: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.details = self.page.locator("#details")

    def node(self, title: str) -> sync_api.Locator:
        """The first node of the drawing that says this."""
        return self.page.locator(".node", has_text=title).first

    def transform(self) -> tuple[float, ...]:
        text = self.page.locator(".scene").first.get_attribute("transform")
        return tuple(map(float, re.findall(r"-?[\d.]+", text or "")))


@pytest.fixture(scope="module")
def path(gpu_report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpu_report.to_html(tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def opened(browser: sync_api.Browser, path: Path) -> Iterator[Opened]:
    one = Opened(browser, path)
    yield one
    one.page.close()
    assert one.wrong == []
    # A scheme the page does not leave: no network, no second file.
    assert [url for url in one.requests if not url.startswith("data:")] == [path.as_uri()]


def test_the_page_shows_every_section(opened: Opened) -> None:
    titles = opened.page.locator("article:not([hidden]) h2").all_inner_texts()
    assert titles[1:] == [
        "Graph", "Hot spots", "Roofline", "Memory", "Passes", "Refusals", "Kernels",
    ]  # fmt: skip
    assert "captured ops run as" in titles[0]
    assert opened.node("layer_norm").is_visible()


def test_a_node_leads_to_its_triton_source_and_its_model_line(opened: Opened) -> None:
    assert opened.details.is_hidden()
    opened.node("linear \N{MIDDLE DOT} gelu").click()
    text = opened.details.inner_text()
    for said in ("@triton.jit", "def linear_gelu_kernel", "stacked.py:", "num_warps"):
        assert said in text
    assert "fused.matmul(" in text
    opened.details.get_by_role("button", name="Triton source").click()
    sync_api.expect(opened.details.locator("pre", has_text="@triton.jit")).to_be_in_viewport()
    assert "nn.functional.gelu(self.up(self.norm(x)))" in text
    assert opened.page.locator(".edge.on").count() >= 2
    assert opened.page.url.endswith(f"#g0-n{opened.node('gelu').get_attribute('data-node')}")
    opened.page.keyboard.press("Escape")
    assert opened.details.is_hidden()


def test_a_link_to_a_node_opens_it(browser: sync_api.Browser, path: Path) -> None:
    page = browser.new_page()
    page.goto(f"{path.as_uri()}#g0-n2")
    title = page.locator('.node[data-node="2"] .title').inner_html()
    assert page.locator("#details h2").inner_html() == title
    page.close()


def test_search_marks_what_it_finds_and_steps_through_it(opened: Opened) -> None:
    opened.page.keyboard.press("/")
    opened.page.keyboard.type("gelu")
    hits = opened.page.locator(".node.hit")
    assert hits.count() >= 1
    assert opened.page.locator("#found").inner_text() == str(hits.count())
    for text in hits.all_text_contents():
        assert "gelu" in text
    shown = opened.page.locator('[data-section="kernels"] details:visible')
    assert all("gelu" in text for text in shown.all_inner_texts())
    opened.page.keyboard.press("Enter")
    assert opened.details.is_visible()
    assert opened.page.locator("#found").inner_text().startswith("1/")
    opened.page.keyboard.press("Escape")
    assert hits.count() == 0


def test_zooming_and_moving(opened: Opened) -> None:
    scale = opened.transform()[2]
    opened.page.get_by_label("Zoom in").click()
    assert opened.transform()[2] == pytest.approx(scale * 1.25)
    opened.page.get_by_label("Zoom out").click()
    assert opened.transform()[2] == pytest.approx(scale)
    canvas = opened.page.locator(".canvas").first
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + 30, max(60, box["y"]) + 100
    before = opened.transform()
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    opened.page.mouse.move(x + 50, y + 20)
    opened.page.mouse.up()
    after = opened.transform()
    assert (after[0] - before[0], after[1] - before[1]) == (50, 20)
    opened.page.keyboard.down("Control")
    opened.page.mouse.wheel(0, -100)
    opened.page.keyboard.up("Control")
    assert opened.transform()[2] > scale
    canvas.focus()
    opened.page.keyboard.press("0")
    fitted = opened.page.locator(".scene").first.bounding_box()
    assert fitted is not None
    assert fitted["height"] <= box["height"]


def test_the_keyboard_is_enough(opened: Opened) -> None:
    opened.node("softmax").focus()
    opened.page.keyboard.press("Enter")
    assert "softmax_kernel" in opened.details.inner_text()
    opened.page.get_by_label("Close details").focus()
    opened.page.keyboard.press("Enter")
    assert opened.details.is_hidden()
    opened.page.locator(".chart circle.pick").first.focus()
    opened.page.keyboard.press("Enter")
    assert opened.details.is_visible()


def test_a_dot_of_the_roofline_selects_its_step(opened: Opened) -> None:
    dot = opened.page.locator(".chart circle.pick").first
    dot.hover()
    tip = opened.page.locator("#tip").inner_text()
    assert "FLOP/byte" in tip
    dot.click()
    assert opened.page.locator("#details h2").inner_text() in tip
    assert opened.page.locator(".node.selected").count() == 1
    assert opened.page.locator("tr.selected").count() >= 1


def test_a_pass_opens_to_what_it_changed(opened: Opened) -> None:
    stage = opened.page.locator("details[data-stage]", has_text="fuse-rowwise")
    stage.locator("summary").click()
    sync_api.expect(stage.locator(".row.add").first).to_contain_text("fused.rowwise(")
    sync_api.expect(stage.locator(".row.cut").first).to_contain_text("nn.layer_norm(")


def test_a_kernel_opens_to_its_source(opened: Opened) -> None:
    kernel = opened.page.locator("details[data-kernel]", has_text="softmax_kernel")
    kernel.locator("summary").click()
    sync_api.expect(kernel.locator("pre")).to_contain_text("tl.exp")


def test_the_page_is_dark_where_the_reader_is(browser: sync_api.Browser, path: Path) -> None:
    def ground(scheme: str) -> int:
        one = Opened(browser, path, scheme)
        colour = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
        one.page.close()
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert ground("dark") < 200 < 600 < ground("light")


def test_two_graphs_are_chosen_between(
    browser: sync_api.Browser, cpu_report: Report, gpu_report: Report, tmp_path: Path
) -> None:
    both = Report(graphs=(*cpu_report.graphs, *gpu_report.graphs), title="both")
    one = Opened(browser, both.to_html(tmp_path / "both.html"))
    shown = one.page.locator("article:not([hidden])")
    assert "cpu" in (shown.get_attribute("aria-label") or "")
    one.page.locator("#picker").select_option("1")
    assert "cuda:90" in (shown.get_attribute("aria-label") or "")
    shown.locator(".node", has_text="gelu").first.click()
    assert "@triton.jit" in one.details.inner_text()
    assert one.wrong == []
    one.page.close()


def test_what_a_model_says_runs_nothing(
    browser: sync_api.Browser, gpu_report: Report, tmp_path: Path
) -> None:
    text = gpu_report.to_json()
    evil = "<img src=x onerror=alert(1)><script>alert(1)</script>"
    hostile = Report.from_json(text.replace("stacked.py", evil).replace("gelu", evil))
    one = Opened(browser, hostile.to_html(tmp_path / "evil.html"))
    one.page.on("dialog", lambda dialog: one.wrong.append(dialog.message))
    one.node("<img").click()
    for stage in one.page.locator("details").all():
        stage.evaluate("element => element.open = true")
    one.page.wait_for_timeout(100)
    assert evil in one.details.inner_text()
    assert one.page.locator("img").count() == 0
    assert one.wrong == []
    one.page.close()
