"""`/docs` in headless Chromium: a person presses "Try it out" and "Execute" of every operation."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, sync_playwright

from tests.clients.conftest import ROOT

PICTURE = ROOT / "demo/heldout/noto-v1--pizza.png"


@pytest.fixture(scope="module")
def browser():
    """Chromium of this machine; CHROMIUM names another one."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("NOT TESTED: /docs in a browser; there is no Chromium here (apt-get install chromium)")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root has none
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path, args=sandbox) as chromium:
        yield chromium


@dataclass
class DocsPage:
    """The page, and everything that it complained about or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def open(self, url: str) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(f"{url}/docs")
        self.page.locator(".opblock").first.wait_for()

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def operations(self) -> list[tuple[str, Locator]]:
        """Name of each operation, and its block, in the page's order."""
        blocks = self.page.locator(".opblock").all()
        return [((block.get_attribute("id") or "").rpartition("-")[2], block) for block in blocks]

    def press(self, block: Locator) -> list[int]:
        """The statuses of an operation as it stands: one, or one per example that it offers."""
        block.locator(".opblock-summary-control").click()
        block.get_by_role("button", name="Try it out").click()
        self._choose_files(block)
        examples = block.locator(".examples-select-element option").all()
        statuses = [self._execute(block, example.get_attribute("value")) for example in examples or [block]]
        block.locator(".opblock-summary-control").click()
        return statuses

    def _choose_files(self, block: Locator) -> None:
        row = block.locator('[data-property-name="file"]')
        if row.count():
            if not row.locator("input[type=file]").count():
                row.get_by_role("button", name="Add").click()
            row.locator("input[type=file]").set_input_files(PICTURE)

    def _execute(self, block: Locator, example: str | None) -> int:
        if example:
            block.locator(".examples-select-element").select_option(example)
        with self.page.expect_response(lambda response: "/docs/" not in response.url) as answered:
            block.get_by_role("button", name="Execute").click()
        status = answered.value.status
        block.locator(".live-responses-table .response-col_status", has_text=str(status)).first.wait_for()
        return status


@pytest.fixture
def docs(browser):
    page = browser.new_page()
    page.set_default_timeout(60_000)
    yield DocsPage(page)
    page.close()


def documented(url):
    paths = httpx.get(f"{url}/openapi.json").raise_for_status().json()["paths"]
    return {operation["operationId"] for item in paths.values() for operation in item.values()}


def test_every_operation_answers_as_it_stands(docs, url):
    """Status 200 for each, uploads with a chosen file; no error, no warning, and nothing asked of another host."""
    docs.open(url)
    statuses = {name: docs.press(block) for name, block in docs.operations()}
    assert statuses.keys() == documented(url)
    assert {name: found for name, found in statuses.items() if set(found) != {200}} == {}
    assert docs.complaints == []
    assert [asked for asked in docs.asked if not asked.startswith((f"{url}/", "data:", "blob:"))] == []
    print(f"/docs: {len(statuses)} operations, {sum(map(len, statuses.values()))} executions")  # noqa: T201 - with -s


def test_lists_of_a_form_are_sent_item_by_item(docs, url):
    """Two files and two texts, one with a comma: four vectors, as the page says."""
    docs.open(url)
    block = dict(docs.operations())["create_embeddings_of_files"]
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    for name in ("file", "file", "input"):
        block.locator(f'[data-property-name="{name}"]').get_by_role("button", name="Add").click()
    for chooser in block.locator("input[type=file]").all():
        chooser.set_input_files(PICTURE)
    block.locator('[data-property-name="input"] input[type=text]').last.fill("pizza, hot")
    with docs.page.expect_response("**/v1/embeddings/image") as answered:
        block.get_by_role("button", name="Execute").click()
    assert [item["index"] for item in answered.value.json()["data"]] == [0, 1, 2, 3]


def test_a_key_is_asked_for_where_there_is_a_lock(docs, locked_url):
    """With keys: an operation is 401 until the key is given under "Authorize"; health has no lock and needs none."""
    docs.open(locked_url)
    blocks = dict(docs.operations())
    assert docs.press(blocks["classify"]) == [401]
    docs.page.get_by_role("button", name="Authorize").click()
    docs.page.locator(".modal-ux input").fill("secret")
    docs.page.locator(".modal-ux").get_by_role("button", name="Apply credentials").click()
    docs.page.locator(".modal-ux").get_by_role("button", name="Close").last.click()
    assert docs.press(blocks["rank"]) == [200]
    assert docs.press(blocks["get_health"]) == [200]
    assert blocks["rank"].locator(".authorization__btn").count() == 1
    assert blocks["get_health"].locator(".authorization__btn").count() == 0
