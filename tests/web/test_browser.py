"""The pages in a real browser (Debian's chromium): by keyboard alone, by mouse, by finger. `make browser` runs them."""

import contextlib
import time
from pathlib import Path

import pytest

from plaudit.feedback.records import Role
from plaudit.web.label.project import demo_project
from tests.web.browser import CHROMIUM, SCREENSHOTS, project, served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium"),
    # Playwright leaves its event loop to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Opens a link as a new person, and fails where the page complains (a script's error, a broken policy)."""
    with contextlib.ExitStack() as stack:
        complaints = []

        def act(link, expect="#task", **options):
            context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda m: m.type == "error" and "status of" not in m.text and complaints.append(m.text))
            page.goto(link)
            page.wait_for_selector(expect)
            return page

        yield act
        assert [text for text in complaints if "ERR_FAILED" not in text] == []


def press(page, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)


def shown(page) -> list[str]:
    """The answers' texts in the order shown."""
    return page.locator(".answer [data-view=html]").all_inner_texts()


def sent(page, count: int) -> None:
    page.wait_for_function("n => document.getElementById('progress').textContent.includes(`${n} sent`)", arg=count)


def places(page) -> list[str]:
    return page.eval_on_selector_all(".answer select", "all => all.map(each => each.value)")


def test_a_whole_ranking_by_keyboard_alone(visit, tmp_path):
    with served(project(tmp_path)) as site:
        page = visit(site.invite("ann"))
        assert page.url == site.address + "/"  # the token left the address bar
        texts = shown(page)
        press(page, "c 1 a 2 b =")  # C best; A second; B tied with the one above it, which is A
        assert places(page) == ["2", "2", "1"]
        assert "C > A = B" in page.inner_text("#live")
        press(page, "/")
        page.keyboard.type("clear enough; s and u are letters here")
        press(page, "Control+Enter")
        sent(page, 1)
        assert site.ranks() == [{texts[2]: 1, texts[0]: 2, texts[1]: 2}]
        (one,) = site.store.all_submissions()
        assert one.judgement.comment == "clear enough; s and u are letters here"
        press(page, "ArrowRight ArrowUp ArrowRight ArrowDown ArrowUp ArrowRight Shift+Digit1 Enter")
        sent(page, 2)
        assert sorted(site.ranks()[1].values()) == [1, 2, 3]
        press(page, "s")
        page.keyboard.type("don't know")
        press(page, "Enter")
        page.wait_for_selector("#idle:not([hidden])")
        assert [skip.reason for skip in site.store.skips()] == ["don't know"]


def test_undo_and_reopen(visit, tmp_path):
    with served(project(tmp_path, ["P"])) as site:
        page = visit(site.invite("ann"))
        press(page, "a 1 b 2 c 3 c 1 u")
        assert places(page) == ["1", "2", "3"]
        press(page, "u u")
        assert places(page) == ["1", "", ""]
        press(page, "Enter")  # not complete: nothing goes
        assert site.store.all_submissions() == []
        press(page, "b 2 c 3 x Enter")
        page.wait_for_selector("#idle:not([hidden])")
        press(page, "Backspace")
        page.wait_for_selector("#task:not([hidden])")
        assert places(page) == ["1", "2", "3"] and page.is_checked("#none")
        press(page, "a 3 c 1 x Enter")
        page.wait_for_selector("#idle:not([hidden])")
        old, new = site.store.all_submissions(superseded=True)
        assert (old.counts, new.counts, new.judgement.none_acceptable) == (False, True, False)


def test_drag_and_drop(visit, tmp_path):
    with served(project(tmp_path)) as site:
        page = visit(site.invite("ann"))
        page.drag_and_drop(".chip[data-index='0']", ".slot[data-place='1']")
        page.drag_and_drop(".chip[data-index='1']", ".slot[data-place='1']")  # onto the first: a tie
        page.drag_and_drop(".answer[data-index='2'] .grip", ".slot[data-place='2']")  # from the card itself
        assert places(page) == ["1", "1", "2"]
        page.drag_and_drop(".chip[data-index='2']", ".gap[data-place='1']")  # before the first
        assert places(page) == ["2", "2", "1"]
        page.drag_and_drop(".chip[data-index='2']", ".tray")
        assert places(page) == ["2", "2", ""]
        page.click(".slot[data-place='3']")  # the picked one goes where one clicks
        page.click("#send")
        sent(page, 1)
        assert sorted(site.ranks()[0].values()) == [1, 1, 3]


def touch(finger, page, *selectors: str, until: str) -> None:
    """Down on the first, over the others, up: one selector is a tap. Of taps right after a drag Chromium's emulation
    makes no click now and then, on a bare page without a script of ours as well; then, like a person, once more."""
    middle = "box => { const r = box.getBoundingClientRect(); return {x: r.x + r.width / 2, y: r.y + r.height / 2} }"
    for _ in range(5):
        for selector in selectors:
            kind = "touchStart" if selector == selectors[0] else "touchMove"
            at = page.eval_on_selector(selector, middle)
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [at]})
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        for _ in range(20):
            if page.evaluate(until):
                return
            page.wait_for_timeout(100)
    raise AssertionError(f"touching {selectors} did not make it true: {until}")


def test_by_finger_on_a_phone(visit, tmp_path):
    with served(project(tmp_path)) as site:
        page = visit(site.invite("ann"), **PHONE)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        finger = page.context.new_cdp_session(page)
        value = "document.querySelectorAll('.answer select')[{}].value === '{}'"
        touch(finger, page, ".chip[data-index='0']", until="document.querySelector('.chip.picked') !== null")
        touch(finger, page, ".slot[data-place='2']", until=value.format(0, 2))
        touch(finger, page, ".chip[data-index='1']", ".slot[data-place='1']", until=value.format(1, 1))
        touch(finger, page, ".chip[data-index='2']", ".slot[data-place='3']", until=value.format(2, 3))
        height = "all => all.map(each => each.getBoundingClientRect().height)"
        boxes = page.eval_on_selector_all(".tools button, .chip", height)
        assert min(boxes) >= 32  # a finger's size
        touch(finger, page, "#send", until="document.getElementById('progress').textContent.includes('1 sent')")
        assert site.ranks()[0] == dict(zip(site_order(site), (2, 1, 3), strict=True))


def site_order(site) -> list[str]:
    """The answers of the only judgement in the order shown."""
    (one,) = site.store.all_submissions()
    answers = site.store.task(one.task_id).answers
    return [answers[index].text for index in one.order]


def test_a_reload_in_the_middle_loses_nothing(visit, tmp_path):
    with served(project(tmp_path)) as site:
        page = visit(site.invite("ann"))
        texts = shown(page)
        press(page, "a 1 b 2 /")
        page.keyboard.type("half a thought")
        page.reload()
        page.wait_for_selector("#task:not([hidden])")
        assert shown(page) == texts
        assert (places(page), page.input_value("#comment")) == (["1", "2", ""], "half a thought")
        press(page, "u")
        assert places(page) == ["1", "", ""] and page.input_value("#comment") == "half a thought"


def test_two_labellers_at_once(visit, tmp_path):
    with served(project(tmp_path)) as site:
        ann, bob = visit(site.invite("ann")), visit(site.invite("bob"))
        assert ann.inner_text("#prompt") != bob.inner_text("#prompt")
        for page in (ann, bob):
            press(page, "a 1 b 1 c 1 Enter")
        sent(ann, 1), sent(bob, 1)
        assert {one.person for one in site.store.all_submissions()} == {"ann", "bob"}


def test_a_revoked_link(visit, tmp_path):
    with served(project(tmp_path)) as site:
        page = visit(site.invite("ann"))
        site.store.revoke("ann")
        press(page, "a 1 b 2 c 3 Enter")
        page.wait_for_selector("#notice:not([hidden])")
        assert "not valid" in page.inner_text("#notice")
        page.goto(site.address)
        assert "Prompt" not in page.content() and "not valid" in page.inner_text("main")
        assert site.store.all_submissions() == []


def test_a_send_that_fails_is_sent_again_as_the_same(visit, tmp_path):
    with served(project(tmp_path)) as site:
        page = visit(site.invite("ann"))
        tries = []

        def unreliable(route):
            tries.append(route.request.post_data_json["key"])
            if len(tries) == 1:
                route.fetch()  # it arrives, but the answer gets lost
                route.abort()
            else:
                route.continue_()

        page.route("**/api/submit", unreliable)
        press(page, "a 1 b 2 c 3 Enter")
        page.wait_for_selector("#notice:not([hidden])")
        sent(page, 1)
        assert len(tries) == 2 and len(set(tries)) == 1
        assert len(site.store.all_submissions(superseded=True)) == 1


def test_a_link_on_another_site_works(visit, tmp_path):
    """The cookie is Strict: it isn't sent along a redirect that began elsewhere, such as in a web mail."""
    with served(project(tmp_path)) as site:
        page = visit("data:text/html,<a href='" + site.invite("ann") + "'>link</a>", expect="a")
        page.click("a")
        page.wait_for_selector("#task:not([hidden])")
        assert page.url == site.address + "/"


HOSTILE = ("<script>document.title='in'</script><img src=x onerror=\"document.title='in'\">", "x" * 1_000_000)


def test_hostile_answers_are_text(visit, tmp_path):
    with served(project(tmp_path, answers=(*HOSTILE, "[a](javascript:alert(1)) \u202eevil"))) as site:
        page = visit(site.invite("ann"))
        begin = time.monotonic()
        press(page, "a 1 b 2 c 3 v w v Enter")
        sent(page, 1)
        assert time.monotonic() - begin < 40
        assert page.title() != "in" and page.query_selector("main img, main a[href^=javascript]") is None


def test_the_other_modes(visit, tmp_path):
    for mode, keys, ranks, step in (("two", "b", [2, 1], 0), ("two", "=", [1, 1], 0), ("eight_step", "7", [2, 1], 7)):
        folder = tmp_path / f"{mode}{keys}"
        folder.mkdir()
        with served(project(folder, ["P"], ("one", "two"), mode=mode)) as site:
            page = visit(site.invite("ann"))
            first = shown(page)[0]
            press(page, f"{keys} Enter")
            page.wait_for_selector("#idle:not([hidden])")
            (one,) = site.store.all_submissions()
            by_text = site.ranks()[0]
            assert [by_text[first], by_text[{"one": "two", "two": "one"}[first]]] == ranks
            assert one.judgement.step in (step, 9 - step if step else 0)


def test_none_is_acceptable_takes_the_step_back_and_a_step_takes_that_back(visit, tmp_path):
    with served(project(tmp_path, ["P", "Q"], ("one", "two"), mode="eight_step")) as site:
        page = visit(site.invite("ann"))
        press(page, "7 x")
        assert page.is_checked("#none") and page.locator("[data-choice][aria-pressed=true]").count() == 0
        press(page, "Enter")
        sent(page, 1)
        press(page, "x 2 Enter")
        sent(page, 2)
        said = [one.judgement for one in site.store.all_submissions()]
        assert [(one.none_acceptable, one.step > 0, bool(one.page_version)) for one in said] == [
            (True, False, True), (False, True, True),
        ]  # fmt: skip


def test_numbers_and_flags_by_keyboard(visit, tmp_path):
    with served(project(tmp_path, ["P"], scalar=True, flags=("harmful", "off topic"))) as site:
        page = visit(site.invite("ann"))
        press(page, "a 1 z 7 t 2 b 2 z 3 c 3 Enter")
        page.wait_for_selector("#idle:not([hidden])")
        (one,) = site.store.all_submissions()
        numbers = [one.judgement.scalar[index] for index in one.order]
        flags = {name: [values[index] for index in one.order] for name, values in one.judgement.flags.items()}
        assert numbers == [7, 3, None]
        assert flags == {"harmful": [False] * 3, "off topic": [True, False, False]}


def test_a_lead_adjudicates(visit, tmp_path):
    with served(project(tmp_path, ["P"], overlap=2)) as site:
        for name, keys in (("ann", "one"), ("bob", "two")):
            page = visit(site.invite(name))
            best = shown(page).index(keys)
            press(page, " ".join(f"{'abc'[i]} {1 if i == best else 2}" for i in range(3)) + " Enter")
            page.wait_for_selector("#idle:not([hidden])")
        lead = visit(site.invite("boss", Role.LEAD), expect="#invite")
        lead.click("a[href='/lead/disagreements']")
        lead.click(".differing .button")
        lead.wait_for_selector("#task:not([hidden])")
        press(lead, "a 1 b 2 c 3 Enter")
        lead.wait_for_selector(".badge.good")
        assert "A > B > C (boss)" in lead.inner_text(".badge.good")


def test_nothing_with_the_focus_hides_behind_the_bars(visit, tmp_path):
    """By Tab alone, on a low screen: each place that gets the focus is seen, and shows that it has it."""
    answers = [f"answer {i}: " + "word " * 300 for i in range(3)]
    with served(project(tmp_path, ["P"], answers, scalar=True, flags=("harmful",))) as site:
        page = visit(site.invite("ann"), viewport={"width": 900, "height": 520})
        hidden = """() => { const e = document.activeElement, r = e.getBoundingClientRect();
          const at = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
          const style = getComputedStyle(e);
          return [e.outerHTML.slice(0, 80), e === document.body || (e.contains(at) || at?.contains(e)),
            style.outlineStyle !== 'none' || style.boxShadow !== 'none' || e === document.body] }"""
        seen = []
        for _ in range(60):
            press(page, "Tab")
            what, visible, marked = page.evaluate(hidden)
            assert visible and marked, what
            seen.append(what)
        assert any('id="comment"' in what for what in seen) and any('data-part="scale"' in what for what in seen)


def test_a_correction_says_that_it_is_one_and_leads_back_to_the_list(visit, tmp_path):
    with served(project(tmp_path)) as site:
        page = visit(site.invite("ann"))
        assert page.is_hidden("#notice") and "ann" in page.inner_text("header")
        press(page, "a 1 b 2 c 3 Enter")
        sent(page, 1)
        page.goto(site.address + "/sent")
        page.click("a.button")
        page.wait_for_selector("#notice:not([hidden])")
        assert "sent this one before" in page.inner_text("#notice") and places(page) == ["1", "2", "3"]
        page.route("**/sent", lambda route: (time.sleep(1.5), route.continue_()))  # meanwhile the page's clock goes on
        press(page, "a 3 c 1 Enter")
        page.wait_for_url("**/sent")
        assert "C > B > A" in page.inner_text("main")
        kept = page.evaluate("Object.keys(localStorage).filter(name => name.startsWith('plaudit-draft'))")
        assert len(kept) == 1  # the next task's: what was sent is no draft any more
        assert [one.counts for one in site.store.all_submissions(superseded=True)] == [False, True]


def test_on_a_slow_network_the_page_says_that_it_is_sending(visit, tmp_path):
    with served(project(tmp_path)) as site:
        page = visit(site.invite("ann"), **PHONE)
        held = []
        page.route("**/api/submit", lambda route: held.append(route))
        for letter, place in zip("abc", "123", strict=True):
            press(page, f"{letter} {place}")
        page.click("#send")
        page.click("#send", force=True)  # an impatient finger
        page.wait_for_function("() => document.getElementById('notice').textContent.includes('Sending')")
        (only,) = held
        only.continue_()
        sent(page, 1)
        assert page.is_hidden("#notice") and len(site.store.all_submissions(superseded=True)) == 1


def test_the_pages_seldom_seen_have_theirs(visit, tmp_path):
    """Two answers on eight steps, with numbers and flags; nothing left to do; no link; a lead's decision."""
    folder = Path(SCREENSHOTS or tmp_path)
    wide = {"viewport": {"width": 1280, "height": 640}}
    asked = {"mode": "eight_step", "scalar": True, "flags": ("unsafe", "off topic"), "guidelines": "**Short** is good."}
    words = ("A rainbow is sunlight, split by drops of rain.", "Colours in the sky.")
    (tmp_path / "eight").mkdir()
    with served(project(tmp_path / "eight", ["What is a rainbow?"], words, **asked)) as site:
        page = visit(site.invite("you"), **wide)
        press(page, "3")
        page.screenshot(path=folder / "label-eight-steps.png")
        visit(site.address, expect="main", **wide).screenshot(path=folder / "label-no-link.png")
    with served(project(tmp_path, ["What is a rainbow?"], words, mode="two", overlap=2)) as site:
        for name, key in (("Ann", "a"), ("Ben", "b")):
            page = visit(site.invite(name), **wide)
            press(page, f"{key} Enter")
            page.wait_for_selector("#idle:visible")
        page.screenshot(path=folder / "label-nothing-left.png")
        (task,) = site.store.tasks()
        lead = visit(site.invite("lead", Role.LEAD), expect="#invite", **wide)
        lead.goto(f"{site.address}/label?adjudicate={task.id}")
        lead.wait_for_selector("#task")
        lead.screenshot(path=folder / "label-decision.png")


def test_every_page_has_its_picture(visit, tmp_path):
    folder = Path(SCREENSHOTS or tmp_path)
    with served(demo_project(tmp_path / "demo.db")) as site:
        page = visit(site.invite("you"))
        press(page, "a 1 b 2 c 2 d 4")
        page.wait_for_timeout(600)  # it scrolls smoothly
        page.screenshot(path=folder / "label-rank.png")
        press(page, "v")
        assert page.locator("mark").count() > 0
        press(page, "? Escape Enter")
        sent(page, 1)
        dark = visit(site.invite("Zhou") + "?lang=zh", color_scheme="dark", **PHONE)
        press(dark, "b 1 a 2")
        dark.wait_for_timeout(600)
        dark.screenshot(path=folder / "label-phone.png")
        page.goto(site.address + "/sent")
        page.screenshot(path=folder / "label-sent.png")
        lead = visit(site.invite("lead", Role.LEAD), expect="#invite")
        lead.screenshot(path=folder / "label-lead.png", full_page=True)
        lead.goto(site.address + "/lead/disagreements")
        lead.screenshot(path=folder / "label-disagreements.png")
        assert lead.evaluate("document.documentElement.scrollWidth <= innerWidth")
