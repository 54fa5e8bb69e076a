"""The page with a server behind it: what it asks for, what it shows, what it does with errors."""

from dataclasses import replace

import pytest

BUSY = "the server is busy"
QUESTION = "Is there a purple cube?"


@pytest.fixture
def live(visit, serve, sample):
    """A function that opens the page of a server; also the server."""

    def opened(*bundles, **options):
        server = serve(*(bundles or (sample,)))
        here = visit(server.address, **options)
        return here, server

    return opened


def settled(here, text):
    """Waits for the answer, whose name repeats what the server was sent."""
    here.page.locator(".best strong", has_text=text).wait_for()


def test_a_question_is_answered(live):
    here, server = live()
    here.go(view="ask")
    here.page.fill("#question", QUESTION)
    here.page.click("#image-3")
    assert not server.requests
    here.page.press("#question", "Enter")
    settled(here, QUESTION)
    assert here.text("#answer .bars .value >> nth=0") == "0.600"
    assert "6 of 13 answers" in here.text("#answer")
    assert "distance 0.125" in here.text(".nearest") and "?" in here.text(".nearest li >> nth=0")
    (body,) = server.requests
    codes = sample_codes(here)
    assert codes[body["condition"]] == 3
    assert body == {
        "network": 0,
        "condition": body["condition"],
        "text": QUESTION,
        "terms": [],
        "edits": [],
    }
    assert here.state["question"] == QUESTION
    here.page.click("#image-5")
    here.page.locator(".live:not(.stale) .best").wait_for()
    assert codes[server.requests[-1]["condition"]] == 5 and len(server.requests) == 2
    here.page.reload()
    settled(here, QUESTION)
    assert server.requests[-1] == server.requests[-2]


@pytest.mark.parametrize(
    "state",
    [
        {"view": "parameters"},
        {"mode": "one", "site": "block 1", "feature": "26", "color": "question", "words": "front"},
        {"mode": "all", "selected": "0-9"},
        {"view": "projection", "projection": "1"},
    ],
    ids=str,
)
def test_a_permalink_shows_the_same_pixels_with_and_without_a_server(live, visit, sample, state):
    here, server = live()
    static = visit().go(**state)
    assert here.go(**state).pixels() == static.pixels()
    assert here.state == static.state and not server.requests


def sample_codes(here):
    return here.page.evaluate(
        "JSON.parse(document.getElementById('data').textContent)"
        ".bundles[0].content.thumbnails.codes"
    )


def test_a_question_is_marked_among_the_conditions(live):
    here, server = live()
    here.go(mode="one", site="block 1", feature="26")
    plain = here.pixels()
    here.go(view="ask", mode="one", site="block 1", feature="26", question=QUESTION)
    settled(here, QUESTION)
    here.page.click("#show-marked")
    assert QUESTION in here.text("#marked") and QUESTION in here.text(".explanation")
    marked = here.pixels()
    assert marked != plain and len(server.requests) == 1
    here.page.reload()
    here.page.locator(".explanation", has_text=QUESTION).wait_for()
    assert here.pixels() == marked
    for mode in "each", "all":
        here.page.click(f"#mode-{mode}")
        assert QUESTION in here.text("#marked")
    here.page.click("#unmark")
    assert here.page.locator("#marked").count() == 0
    here.page.click("#mode-one")
    assert here.pixels() == plain


def test_conditions_without_texts_are_chosen(live, sample):
    labels = [each for each in sample.content.labels if each.kind != "text"]
    here, server = live(replace(sample, content=replace(sample.content, labels=labels)))
    here.go(view="ask")
    assert here.page.locator("#question").count() == 0
    here.page.select_option("#condition", "7")
    settled(here, "1*7")
    assert server.requests[-1]["text"] is None


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        ((422, "text: no word of the text is known"), "No answer: text: no word of the text is"),
        ((503, BUSY), "No answer now: the server is busy. Try again in 2 s."),
        (None, "cannot be reached"),
    ],
    ids=["unknown", "busy", "offline"],
)
def test_an_error_is_text_and_nothing_is_lost(live, problem, shown):
    here, server = live()
    here.go(view="ask", question=QUESTION)
    settled(here, QUESTION)
    server.problem = problem
    if problem is None:
        here.page.route("**/answer", lambda route: route.abort())
    here.page.fill("#question", "Wug?")
    here.page.click("#ask")
    alert = here.page.locator("[role=alert]", has_text=shown)
    alert.wait_for()
    assert here.page.input_value("#question") == "Wug?"
    assert here.page.locator(".best").count() == 0  # no answer to another question
    server.problem = None
    here.page.unroute("**/answer")
    retry = here.page.locator("#try-again")
    assert retry.count() == (problem is None or problem[0] == 503)
    (retry if retry.count() else here.page.locator("#ask")).click()
    settled(here, "Wug?")
    assert alert.count() == 0
    # The browser itself notes a failed request.
    assert [fault for fault in here.faults if "Failed to load resource" not in fault] == []
    here.faults.clear()


def test_a_point_is_dragged_freely(live):
    here, server = live()
    here.go(view="feature", grid="0")
    here.page.wait_for_selector(".best")
    box = here.page.locator("#plane").bounding_box()
    here.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    here.page.mouse.down()
    for step in range(30):
        x = box["x"] + (0.3 + 0.01 * step) * box["width"]
        here.page.mouse.move(x, box["y"] + 0.4 * box["height"])
    here.page.mouse.up()
    at = here.page.locator("#at-across").input_value(), here.page.locator("#at-up").input_value()
    settled(here, f"gamma={float(at[0]):g} beta={float(at[1]):g}")
    assert len(server.requests) < 20  # of 30 movements
    body = server.requests[-1]
    assert body["condition"] == 3 and body["terms"] == [{"condition": 3, "weight": 1}]
    assert body["edits"][0]["site"] == "block 2" and body["edits"][0]["feature"] == 26
    here.page.wait_for_url("**at=*")
    assert here.state["at"] == ",".join(f"{float(each):g}" for each in at)
    before = here.page.locator("#plane").get_attribute("data-at")
    here.page.reload()
    settled(here, f"gamma={float(at[0]):g}")
    assert here.page.locator("#plane").get_attribute("data-at") == before
    here.page.focus("#plane")
    here.page.keyboard.press("ArrowRight")
    moved = float(here.page.locator("#at-across").input_value())
    assert moved > float(at[0])
    settled(here, f"gamma={moved:g}")
    assert f"γ = {moved:.3g}" in here.text("[aria-live]").replace("−", "-")
    here.page.fill("#at-up", "0.5")
    here.page.press("#at-up", "Enter")
    settled(here, f"gamma={moved:g} beta=0.5")


def test_a_value_being_typed_is_kept_while_the_point_moves(live):
    """The page keeps the point in its address, and answers, while the reader types."""
    here, _ = live()
    here.go(view="feature", grid="0")
    here.page.wait_for_selector(".best")
    here.page.focus("#plane")
    here.page.keyboard.press("ArrowRight")
    moved = float(here.page.locator("#at-across").input_value())
    here.page.evaluate("document.querySelector('#at-up').focus()")
    here.page.keyboard.press("Control+a")
    here.page.keyboard.type("0.")
    here.page.wait_for_url("**at=*")
    settled(here, f"gamma={moved:g}")
    here.page.keyboard.type("5")
    assert here.page.locator("#at-up").input_value() == "0.5"
    here.page.keyboard.press("Enter")
    settled(here, f"gamma={moved:g} beta=0.5")
    here.page.keyboard.type("7")
    here.page.keyboard.press("Backspace")
    here.page.focus("#plane")
    here.page.keyboard.press("ArrowUp")
    assert float(here.page.locator("#at-up").input_value()) > 0.5


def test_any_feature_of_any_condition_is_moved(live):
    here, server = live()
    here.go(view="feature")
    here.page.select_option("#grid", "own")
    here.page.select_option("#site", "block 3")
    here.page.select_option("#feature", "12")
    here.page.fill("#condition-search", "metal")
    here.page.press("#condition-search", "Enter")
    here.page.wait_for_url("**on=*")
    condition = int(here.state["on"])
    settled(here, f"1*{condition} gamma=")
    edit = server.requests[-1]["edits"][0]
    assert (edit["site"], edit["feature"], server.requests[-1]["condition"]) == (
        "block 3",
        12,
        condition,
    )


def test_the_latest_answer_wins(live):
    here, server = live()
    here.go(view="feature", grid="0", at="1,1")
    settled(here, "gamma=1 beta=1")
    slow = 0.7
    server.delay = lambda body: slow if body["edits"][0]["value"] == 1.5 else 0
    count = len(server.requests)
    here.page.fill("#at-across", "1.5")
    here.page.press("#at-across", "Enter")
    while len(server.requests) == count:
        here.page.wait_for_timeout(20)
    here.page.fill("#at-across", "2")
    here.page.press("#at-across", "Enter")
    settled(here, "gamma=2 beta=1")
    here.page.wait_for_timeout(1000 * slow)
    assert "gamma=2 beta=1" in here.text(".best")
    assert here.page.locator(".stale").count() == 0


def test_any_two_conditions_with_any_weight(live):
    here, server = live()
    here.go(view="interpolation")
    assert not server.requests
    here.page.select_option("#pair", "own")
    here.page.select_option("#choose-a", "10")
    here.page.select_option("#choose-b", "20")
    settled(here, "0.5*10 0.5*20")
    here.page.focus("#weight")
    for _ in range(7):
        here.page.keyboard.press("ArrowRight")
    settled(here, "0.43*10 0.57*20")
    assert server.requests[-1]["condition"] == 10
    here.page.wait_for_url("**weight=0.57*")
    here.page.reload()
    settled(here, "0.43*10 0.57*20")
    assert here.page.input_value("#choose-a") == "10"
    here.page.select_option("#pair", "1")
    assert here.page.locator("#step").count() == 1


def test_any_three_conditions(live):
    here, _ = live()
    here.go(view="arithmetic")
    here.page.click("#own-sum")
    for key, condition in ("a", 4), ("b", 8), ("c", 15):
        here.page.select_option(f"#choose-{key}", str(condition))
    settled(here, "1*4 1*8 -1*15")
    assert here.text("#formula") == "A + B − C"
    here.page.reload()
    settled(here, "1*4 1*8 -1*15")
    here.page.click("#listed")
    assert "1 of 3" in here.text("main h3 >> nth=0")


def test_what_the_page_does_not_hold_is_still_computed(live, sample):
    empty = replace(sample.content, interpolations=[], arithmetic=[], grids=[], thumbnails=None)
    here, _ = live(replace(sample, content=empty))
    for view, sent in (
        ("interpolation", "0.5*0 0.5*1"),
        ("arithmetic", "1*0 1*1 -1*2"),
        ("feature", "1*0 gamma="),
    ):
        here.go(view=view)
        settled(here, sent)
    here.go(view="ask", question=QUESTION)
    settled(here, QUESTION)


def test_broken_addresses_are_survived(live):
    here, server = live()
    for state, sent in (
        ({"view": "interpolation", "pair": "own", "a": "-1", "weight": "9"}, "0.5*"),
        ({"view": "arithmetic", "sum": "own", "b": "x", "weight": "nan"}, "-1*"),
        ({"view": "feature", "grid": "own", "at": "1e999,0", "on": "999999"}, "1*0 gamma="),
        ({"view": "ask", "question": "x" * 600, "on": "-0"}, "x" * 500),
        ({"view": "parameters", "marked": "1", "question": ""}, None),
    ):
        here.go(**state)
        if sent:
            settled(here, sent)
        assert all(0 <= term["condition"] < 256 for term in server.requests[-1]["terms"])


def test_a_second_network_answers_for_itself(live, sample, make):
    here, server = live(sample, make.bundle(seed=1, name="FiLM without β"))
    here.go(view="ask", question=QUESTION)
    settled(here, QUESTION)
    here.page.select_option("#model", "1")
    here.page.locator(".live:not(.stale) .best").wait_for()
    assert [each["network"] for each in server.requests] == [0, 1]


LIVE_STATES = (
    {"view": "interpolation", "pair": "own"},
    {"view": "ask", "question": QUESTION},
    {"view": "feature", "grid": "own"},
    {"view": "arithmetic", "sum": "own"},
    {"view": "parameters", "mode": "one", "marked": "1", "question": QUESTION},
)


@pytest.mark.parametrize(
    ("scheme", "states"),
    [("light", LIVE_STATES), ("dark", LIVE_STATES[1:3])],
    ids=["light", "dark"],
)
def test_no_rule_of_accessibility_is_broken(live, small, scheme, states):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    here, server = live(small, color_scheme=scheme)
    for state in states:
        here.go(**state)
        here.page.wait_for_timeout(150)
        found = axe.Axe().run(here.page).response["violations"]
        assert not found, (state, [(each["id"], each["nodes"][0]["html"]) for each in found])
    server.problem = 422, "text: no word of the text is known"
    here.page.click("#go-ask")
    here.page.fill("#question", "Wug?")
    here.page.press("#question", "Enter")
    here.page.wait_for_selector("[role=alert]")
    assert not axe.Axe().run(here.page).response["violations"]
    here.faults[:] = [each for each in here.faults if "Failed to load resource" not in each]


def test_a_phone_needs_no_sideways_scroll(live, small):
    here, _ = live(small, viewport={"width": 375, "height": 812}, has_touch=True, is_mobile=True)
    for state in LIVE_STATES:
        here.go(**state)
        here.page.wait_for_timeout(100)
        assert here.page.evaluate("document.documentElement.scrollWidth") <= 375, state
        small = here.page.evaluate(
            "[...document.querySelectorAll('main button, main select, main input')]"
            ".filter(e => { const r = e.getBoundingClientRect();"
            " return r.width && r.height < 39.5; }).map(e => e.outerHTML.slice(0, 120))"
        )
        assert not small or "checkbox" in small[0], (state, small)
