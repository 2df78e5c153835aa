"""The page in a real browser: Chromium, headless, driven by Playwright."""

from __future__ import annotations

import base64
import io
import shutil
from contextlib import contextmanager, suppress
from urllib.parse import urljoin

import numpy as np
import pytest

import minicnn as mc
from benchmarks.hostile_pictures import encoded
from benchmarks.serving import Server
from minicnn.prediction import predict_image

for name in ("starlette", "uvicorn", "python_multipart"):
    pytest.importorskip(name)
Image = pytest.importorskip("PIL.Image")
playwright = pytest.importorskip("playwright.sync_api")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATH = next(filter(None, map(shutil.which, BROWSERS)), None)
if PATH is None:
    pytest.skip(f"no browser: none of {', '.join(BROWSERS)}", allow_module_level=True)

MOST = 1 << 20  # bytes of an upload: the page has to heed what its server takes
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def server(model_file):
    with Server(model_file, body=MOST) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PATH, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def usual(browser):
    """The context of most pages: one of its own takes a browser longer than a page."""
    return browser.new_context(reduced_motion="reduce")


@pytest.fixture
def opened(browser, usual, server):
    """Opens pages; at the end nothing may have gone wrong in them, or been asked of others."""
    home = f"http://127.0.0.1:{server.port}"
    problems, asked, pages = [], [], []

    def open_page(path="/", **options):
        options = {"reduced_motion": "reduce"} | options
        page = browser.new_page(**options) if len(options) > 1 else usual.new_page()
        pages.append(page)
        page.set_default_timeout(20_000)
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(home + path)
        return page

    yield open_page
    for page in pages:
        page.close()  # and the context that it has to itself
    elsewhere = [url for url in asked if not url.startswith((home, "data:", f"blob:{home}"))]
    refused = "Failed to load resource: the server responded with a status of "
    expected = (f"{refused}415", f"{refused}404", f"{refused}503")  # the browser says so itself
    assert [text for text in problems if not text.startswith(expected)] == []
    assert elsewhere == []


@contextmanager
def answered(page):
    """Do something, and wait for the answer to it."""
    with page.expect_response("**/api/predict") as response:
        yield response
    page.locator("#status", has_text="It says").wait_for(state="attached")


def hand_over(page, kind, files, text=""):
    """Drop or paste: give the page the event that a browser would."""
    page.evaluate(
        """([kind, files, text]) => {
            const data = new DataTransfer();
            for (const [name, type, base64] of files) {
                const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
                data.items.add(new File([bytes], name, {type}));
            }
            if (text) data.setData(text.startsWith("http") ? "text/uri-list" : "text/plain", text);
            const init = {bubbles: true, cancelable: true};
            const event = kind === "paste"
                ? new ClipboardEvent("paste", {...init, clipboardData: data})
                : new DragEvent(kind, {...init, dataTransfer: data});
            document.body.dispatchEvent(event);
        }""",
        [kind, [(n, t, base64.b64encode(d).decode()) for n, t, d in files], text],
    )


def is_seen(page, selector):
    """Whether a picture is there to be seen: shown, loaded, and of some size."""
    image = page.locator(selector)
    return image.is_visible() and image.evaluate("i => i.complete && i.naturalWidth > 0")


def file(data, name="a.png", kind="image/png"):
    return {"name": name, "mimeType": kind, "buffer": data}


def check_answer(page, model, picture):
    """What is shown is what the model says."""
    expected = predict_image(model, picture).top(10)
    assert page.locator("#top-name").inner_text() == expected[0][0]
    assert page.locator("#bars .name").all_inner_texts() == [name for name, _ in expected]
    assert page.locator("#unsure").is_visible() == (expected[0][1] < 0.5)
    for selector in ("#given", "#seen", "#looked"):
        assert is_seen(page, selector)
    track = page.locator("#bars svg").first.bounding_box()["width"]
    for i, (_, share) in enumerate(expected):
        width = page.locator("#bars rect").nth(i).bounding_box()["width"]
        assert width == pytest.approx(share * track, abs=1)


def test_upload(opened, model):
    page, picture = opened(), encoded("JPEG", (120, 90))
    assert page.locator("#status").inner_text() == "The answer will appear here."
    with answered(page) as response:
        page.set_input_files("#file", file(picture, "<img src=x onerror=alert(1)>.jpg"))
    assert response.value.status == 200
    check_answer(page, model, picture)


def test_drop(opened, model):
    page, picture = opened(), encoded("PNG")
    hand_over(page, "dragenter", [("a.png", "image/png", picture)])
    assert "dropping" in page.locator("body").get_attribute("class")
    with answered(page):
        hand_over(page, "drop", [("a.png", "image/png", picture)])
    assert "dropping" not in (page.locator("body").get_attribute("class") or "")
    check_answer(page, model, picture)


def test_paste(opened, model):
    page, picture = opened(), encoded("PNG", (33, 70))
    with answered(page):
        hand_over(page, "paste", [("image.png", "image/png", picture)])
    check_answer(page, model, picture)


def test_samples(opened, model):
    page = opened()
    links = page.locator(".samples a")
    assert links.count() == 10 and links.nth(5).locator("img").get_attribute("alt") == "star"
    with answered(page):
        links.nth(5).click()
    assert is_seen(page, "#seen") and links.nth(5).get_attribute("aria-current") == "true"
    assert page.url.endswith("/")  # no other page was loaded


@pytest.mark.parametrize(
    ("way", "data"),
    [
        ("upload", b"<svg onload='alert(1)'>"),
        ("drop", encoded("PNG")[:900]),
        ("paste", b"<svg onload='alert(1)'>"),
    ],
)
def test_bad_files_are_one_clear_line(opened, way, data):
    page = opened()
    with page.expect_response("**/api/predict") as response:
        if way == "upload":
            page.set_input_files("#file", file(data))
        else:
            hand_over(page, way, [("a.png", "image/png", data)])
    assert response.value.status == 415
    problem = page.get_by_role("alert")
    problem.wait_for()
    assert "can't be used" in problem.inner_text() and "\n" not in problem.inner_text()
    assert not page.locator("#top").is_visible() and page.locator("#bars li").count() == 0
    with answered(page):  # and a good one takes it away
        page.set_input_files("#file", file(encoded("PNG")))
    assert not problem.is_visible() and page.locator("#top").is_visible()


@pytest.mark.parametrize(
    ("way", "text", "said"),
    [
        ("paste", "some words", "no picture on the clipboard"),
        ("drop", "http://example.invalid/a.png", "link"),
        ("drop", "some words", "no file"),
    ],
)
def test_what_is_no_file_is_said(opened, way, text, said):
    page = opened()
    hand_over(page, way, [], text)
    assert said in page.get_by_role("alert").inner_text()


def test_what_is_no_file_ends_what_is_on_its_way(opened):
    """An answer that came after it would stand below the complaint."""
    page, held = opened(), []
    page.route("**/api/predict", lambda route: held.append(route))
    with page.expect_request("**/api/predict"):
        page.set_input_files("#file", file(encoded("PNG")))
    with page.expect_event("requestfailed"):
        hand_over(page, "paste", [], "some words")
    assert "no picture" in page.get_by_role("alert").inner_text()
    assert not page.locator("#top").is_visible()


def test_a_folder_is_said(opened, tmp_path):
    page = opened()
    where = {"x": 200, "y": 200, "data": {"items": [], "files": [str(tmp_path)],
                                          "dragOperationsMask": 1}}  # fmt: skip
    driver = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        driver.send("Input.dispatchDragEvent", {"type": kind, **where})
    page.get_by_role("alert").wait_for()
    assert "can\u2019t be read. Is it a folder" in page.get_by_role("alert").inner_text()


def test_an_empty_file_is_said(opened):
    page = opened()
    page.set_input_files("#file", file(b""))
    page.get_by_role("alert").wait_for()
    assert page.get_by_role("alert").inner_text() == "This file is empty."


def turned():
    """A large photograph that lies on its side, by its EXIF data: left is bright."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 90, (1000, 1500, 3), dtype=np.uint8)
    pixels[500:] += 160  # below; turned by 90 degrees to the right it is on the left
    image, taken = Image.fromarray(pixels), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(taken, "JPEG", quality=98, exif=exif)
    return taken.getvalue()


def test_a_large_photograph_is_shrunk_and_turned_here(opened):
    page, picture = opened(), turned()
    assert len(picture) > MOST
    with answered(page) as response:
        page.set_input_files("#file", file(picture, "a.jpg", "image/jpeg"))
    assert response.value.status == 200
    assert "sent as a JPEG of 683 \u00d7 1024" in page.locator("#note").inner_text()
    seen = response.value.json()["picture"].partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(seen))) as image:
        grey = np.asarray(image.convert("L"), float)
    assert grey[:, :12].mean() > grey[:, 20:].mean() + 60


def test_what_only_the_browser_knows_is_converted_here(opened):
    """As HEIC is in Safari."""
    page = opened()
    drawing = b"<svg xmlns='http://www.w3.org/2000/svg' width='90' height='60'/>"
    with answered(page) as response:
        page.set_input_files("#file", file(drawing, "a.svg", "image/svg+xml"))
    assert response.value.status == 200  # the server knows no SVG
    assert "a JPEG of 90 \u00d7 60" in page.locator("#note").inner_text()


def test_a_large_file_that_is_no_picture_is_not_sent(opened):
    page = opened()
    sent = []
    page.on("request", lambda request: sent.append(request.method))
    page.set_input_files("#file", file(b"x" * (MOST + 1)))
    page.get_by_role("alert").wait_for()
    assert "larger than 1 MB," in page.get_by_role("alert").inner_text()
    assert "POST" not in sent


def test_only_the_last_of_several_is_shown(opened, model):
    """The first one's answer comes after the second's."""
    page, held = opened(), []
    page.route("**/api/predict", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request("**/api/predict"):
        hand_over(page, "paste", [("a.png", "image/png", encoded("PNG", (40, 40)))])
    with answered(page):
        hand_over(page, "paste", [("b.png", "image/png", encoded("PNG", (43, 20)))])
    seen = page.locator("#seen").get_attribute("src")
    with suppress(playwright.Error):  # it was given up
        held[0].continue_()
    page.wait_for_timeout(500)
    assert page.locator("#seen").get_attribute("src") == seen
    assert page.locator("#given").evaluate("i => i.naturalWidth") == 43
    assert page.locator("#bars li").count() == 10


def test_only_the_last_of_several_samples_is_shown(opened):
    """The first one's picture comes late."""
    page, held = opened(), []
    page.route("**/samples/1.png", lambda route: held.append(route))
    links = page.locator(".samples a")
    with page.expect_request("**/samples/1.png"), page.expect_event("requestfailed"):
        links.nth(1).click()
        with answered(page):
            links.nth(2).click()
    assert links.nth(1).get_attribute("aria-current") is None
    assert links.nth(2).get_attribute("aria-current") == "true"


def test_a_busy_server_is_asked_again(opened):
    page, asked = opened(), []

    def busy(route):
        asked.append(1)
        if len(asked) > 1:
            route.continue_()
            return
        body = '{"error": "busy"}'
        route.fulfill(status=503, headers={"Retry-After": "0.1"}, body=body)

    page.route("**/api/predict", busy)
    page.set_input_files("#file", file(encoded("PNG")))
    page.locator("#status", has_text="It says").wait_for(state="attached")
    assert len(asked) == 2 and page.locator("#top").is_visible()


def test_keyboard_alone(opened):
    page = opened()
    page.on("filechooser", lambda chooser: None)  # from now on: it takes a while to take effect
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            """() => {
                const e = document.activeElement, shown = e.closest("label") ?? e;
                if (e === document.body) return [null];
                const style = getComputedStyle(shown), box = shown.getBoundingClientRect();
                return [e.id || e.textContent.trim() || e.querySelector("img")?.alt,
                        style.outlineStyle, parseFloat(style.outlineWidth) >= 2,
                        box.width > 0 && box.height > 0];
            }"""
        )
        if focus[0] in reached or focus[0] is None:
            break
        reached.append(focus[0])
        assert focus[1:] == ["solid", True, True], focus
    assert reached[:4] == ["minicnn", "Try it", "This network", "file"]
    assert reached[4:] == list(mc.data.synthetic.CLASSES)
    page.locator(".samples a").nth(2).focus()
    with answered(page):
        page.keyboard.press("Enter")
    assert page.locator("#top").is_visible()
    page.locator("#file").focus()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    with answered(page):
        chooser.value.set_files(file(encoded("PNG")))


def test_everything_has_a_name(opened):
    page = opened()
    with answered(page):
        page.locator(".samples a").first.click()
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.get_by_label("Choose a picture").count() == 1
    assert page.get_by_role("main").count() == page.get_by_role("navigation").count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.locator("img:not([alt])").count() == 0
    assert page.get_by_role("list", name="Classes and their probabilities").count() == 1
    assert page.locator("#status").get_attribute("role") == "status"
    assert page.locator("#problem").get_attribute("role") == "alert"


CONTRAST = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (e) => {
        for (; e; e = e.parentElement) {
            const color = parse(getComputedStyle(e).backgroundColor);
            if (color.length === 3 || color[3] > 0) return color;
        }
        return [255, 255, 255];
    };
    const weak = [];
    for (const e of document.querySelectorAll("body *")) {
        const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!own || !e.checkVisibility() || e.closest("noscript")) continue;
        const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) weak.push([e.tagName, e.textContent.trim(), ratio]);
    }
    return weak;
}"""


def test_contrast(opened):
    """4.5 to 1 everywhere (WCAG 2.2, level AA), by day and by night."""
    page = opened()

    def check():
        for scheme, ground in (("light", "rgb(245, 246, 248)"), ("dark", "rgb(16, 21, 28)")):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
            assert page.evaluate(CONTRAST) == [], scheme

    with answered(page):
        page.locator(".samples a").first.click()
    check()
    with page.expect_response("**/api/predict"):
        page.set_input_files("#file", file(b"x"))
    page.get_by_role("alert").wait_for()
    check()
    page.goto(urljoin(page.url, "/about"))
    check()


def test_reduced_motion(opened):
    page = opened()
    moving = "e => getComputedStyle(e).transitionDuration"
    assert page.locator(".samples a").first.evaluate(moving) == "0s"
    page.emulate_media(reduced_motion="no-preference")
    assert page.locator(".samples a").first.evaluate(moving) != "0s"


def test_phone(opened):
    page = opened(**PHONE)
    assert page.get_by_text("Take a photo").is_visible()
    assert page.locator("#photo").get_attribute("capture") == "environment"
    with answered(page):
        page.set_input_files("#photo", file(encoded("PNG")))
    assert is_seen(page, "#looked")
    assert page.locator("#top").evaluate("e => e.getBoundingClientRect().top < innerHeight")
    for path in ("", "/about", "/samples/4", "/nothing"):
        if path:
            page.goto(urljoin(page.url, path))
        for width in (320, 375):
            page.set_viewport_size({"width": width, "height": 700})
            sizes = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert sizes == [width, width], path


def test_without_scripts(opened, model, server):
    page, picture = opened(java_script_enabled=False), encoded("PNG")
    assert not page.get_by_text("Drop a picture here").is_visible()
    assert page.locator("input[name=picture]").bounding_box()["width"] > 100
    page.set_input_files("input[name=picture]", file(picture))
    page.get_by_role("button", name="Look at it").click()
    page.wait_for_url("**/result")
    expected = predict_image(model, picture).top(10)
    assert page.locator("#top-name").inner_text() == expected[0][0]
    assert page.locator("#bars li").count() == 10 and page.locator("#looked").is_visible()
    page.set_input_files("input[name=picture]", file(b"no picture"))
    page.get_by_role("button", name="Look at it").click()
    assert "can't be used" in page.get_by_role("alert").inner_text()
    page.locator(".samples a").nth(3).click()
    page.wait_for_url("**/samples/3")
    assert page.locator("#seen").is_visible()


def test_about(opened):
    page = opened("/about")
    assert page.get_by_text(
        "trained on 10 classes at 32\xa0\u00d7 32".replace(" 32", "\xa032")
    ).count()
    assert page.locator(".chips li").count() == 10
    page.get_by_text("Layer by layer").click()
    assert page.get_by_text("conv2d").or_(page.get_by_text("Conv2D")).first.is_visible()


def test_a_server_that_has_ended_is_said(browser, server):
    page = browser.new_page()
    page.route("**/api/predict", lambda route: route.abort("connectionrefused"))
    page.goto(f"http://127.0.0.1:{server.port}")
    page.set_input_files("#file", file(encoded("PNG")))
    page.get_by_role("alert").wait_for()
    assert "can\u2019t be reached" in page.get_by_role("alert").inner_text()
    page.close()
