"""The page of lattices to verify in a real browser: keys, clicks, what is drawn, what is given back."""

import json
import time

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser import address, complaints, lacking, started
from ed2d.commandline import main
from ed2d.contactsheet import contact_sheet
from ed2d.emdatainfo import Document, lattice_element, read_lattice
from ed2d.lattice import Lattice
from searched import LATTICE, RUNNER_UP, SHAPE, Searched, points, write_project

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking())

BENT = Lattice(origin=(171.3, 148.4), a=(24.0, 7.0), b=(-6.0, 26.0), barrel=4e-6, spiral=-3e-6)
NODE = (3, -2)
TOLERANCE = 0.01  # px, of what is drawn
PATIENCE = 10  # s
REASONABLE = 10  # s, to show a thousand images; it takes one


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    directory = tmp_path_factory.mktemp("browser")
    driver = started(directory)
    driver.downloads = directory / "downloads"
    yield driver
    driver.quit()


class Page:
    """The page of a project in the browser."""

    def __init__(self, browser, project):
        self.browser, self.project = browser, project
        self.make()

    def make(self):
        """Makes the page anew and opens it."""
        output = self.project / "verify.html"
        contact_sheet(project=str(self.project), config={}, memory=None, output=str(output))
        self.browser.get(address(output))

    def keys(self, *keys):
        for key in keys:
            self.browser.switch_to.active_element.send_keys(key)

    def button(self, action):
        shown = [one for one in self.find(f'[data-action="{action}"]') if one.is_displayed()]
        assert len(shown) == 1, action
        shown[0].click()

    def find(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        (element,) = self.find(selector)
        return element.text

    def ask(self, expression):
        return self.browser.execute_script(f"return ed2d.{expression}")

    @property
    def current(self):
        return self.ask("current()")

    @property
    def lattice(self):
        """The lattice of the current image as it is shown."""
        return as_lattice(self.ask("state().lattice"))

    @property
    def drawn(self):
        """{(h, k): (x, y)} of the points drawn in the large view, px of the image."""
        return {(h, k): (x, y) for h, k, x, y in self.ask("drawn().points")}

    def click(self, position):
        """Clicks into the large view at a position of the image."""
        x, y = self.ask(f"screen([{position[0]}, {position[1]}])")
        actions = ActionChains(self.browser, duration=0)
        actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
        actions.click().perform()

    def decisions(self):
        return {one["image"]: one["decision"] for one in self.ask("decisions()")["decisions"]}


@pytest.fixture
def page(browser, tmp_path):
    """A function that opens the page of images {name: Searched}; at the end nobody must have complained."""

    def opened(images):
        return Page(browser, write_project(tmp_path / "project", images))

    browser.get("about:blank")  # the page before may complain when it is left
    complaints(browser)
    yield opened
    assert complaints(browser) == ([], [])


@pytest.fixture
def three(page):
    return page({f"A{n}": Searched(confidence=n / 10) for n in (1, 2, 3)})


@pytest.fixture
def bent(page):
    """One image of a bent lattice in the large view."""
    opened = page({"A1": Searched(BENT)})
    opened.keys(Keys.ENTER)
    return opened


def as_lattice(said):
    vectors = (tuple(map(float, said[name])) for name in ("offset", "first", "second"))
    return Lattice(*vectors, float(said["barrel"]), float(said["spiral"]))


def assert_drawn(page, lattice):
    """The points drawn are those that the library predicts; the origin and the arrows end where they should."""
    expected, drawn = points(lattice), page.drawn
    assert drawn.keys() == expected.keys() and len(drawn) > 50
    assert max(np.abs(np.subtract(drawn[index], expected[index])).max() for index in expected) < TOLERANCE
    ends = lattice.position([[0, 0], [1, 0], [0, 1]])
    assert np.array([page.ask(f"drawn().{name}") for name in ("origin", "a", "b")]) == pytest.approx(ends, abs=1e-9)


# ---- the lattice


def swapped(lattice):
    return Lattice(lattice.origin, lattice.b, lattice.a, lattice.barrel, lattice.spiral)


def negated(lattice):
    a, b = (tuple(-value for value in vector) for vector in (lattice.a, lattice.b))
    return Lattice(lattice.origin, a, b, lattice.barrel, lattice.spiral)


def moved(lattice, node, step=1e-4):
    """The straight lattice that fits a bent one at a node, by differences of positions."""

    def slope(direction):
        ahead, behind = (np.add(node, sign * step * np.array(direction)) for sign in (1, -1))
        return tuple((lattice.position([ahead])[0] - lattice.position([behind])[0]) / (2 * step))

    return Lattice(tuple(lattice.position([node])[0]), slope([1, 0]), slope([0, 1]))


INDEXING = {
    "": BENT,
    "s": swapped(BENT),
    "n": negated(BENT),
    "sn": negated(swapped(BENT)),
    "ss": BENT,
    "nn": BENT,
    "u": RUNNER_UP,
    "uu": BENT,
    "us": swapped(RUNNER_UP),
    "su": RUNNER_UP,
    "sz": BENT,
}


@pytest.mark.parametrize("keys", INDEXING)
def test_indexing_keeps_every_float_and_is_drawn_at_once(bent, keys):
    bent.keys(*keys)
    assert bent.lattice == INDEXING[keys]
    assert bent.lattice.digest() == INDEXING[keys].digest()
    assert_drawn(bent, INDEXING[keys])


def test_a_click_on_a_point_makes_it_the_origin(bent):
    bent.button("origin")
    bent.click(BENT.position([NODE])[0] + [2.0, -3.0])
    expected = moved(BENT, NODE)
    assert bent.lattice.origin == pytest.approx(expected.origin, abs=1e-9)
    assert np.array([bent.lattice.a, bent.lattice.b]) == pytest.approx(np.array([expected.a, expected.b]), abs=1e-6)
    assert (bent.lattice.barrel, bent.lattice.spiral) == (0.0, 0.0)
    assert_drawn(bent, bent.lattice)


def test_the_origin_moves_by_keys_alone(bent):
    bent.keys("o", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_LEFT, Keys.ENTER)
    assert bent.lattice.origin == pytest.approx(BENT.position([[1, 1]])[0], abs=1e-9)


def test_the_origin_stays_where_it_is_left(bent):
    bent.keys("o", Keys.ARROW_RIGHT, Keys.ESCAPE)
    assert bent.lattice == BENT and bent.find("#large")[0].is_displayed()
    bent.keys("o", Keys.ENTER)
    assert bent.lattice == BENT
    bent.button("origin")
    bent.click(BENT.origin)
    assert bent.lattice == BENT


def test_arrows_reach_every_point_of_a_turned_lattice(page):
    turned = Lattice(LATTICE.origin, (-25.0, 4.0), (3.0, -27.0))
    opened = page({"A1": Searched(turned)})
    opened.keys(Keys.ENTER, "o", Keys.ARROW_RIGHT, Keys.ARROW_UP, Keys.ENTER)
    assert opened.lattice.origin == (171.3 + 25.0 + 3.0, 148.4 - 4.0 - 27.0)


def test_a_straight_lattice_keeps_its_vectors_at_a_new_origin(page):
    opened = page({"A1": Searched(RUNNER_UP)})
    opened.keys(Keys.ENTER, "o", Keys.ARROW_RIGHT, Keys.ENTER)
    assert (opened.lattice.a, opened.lattice.b) == (RUNNER_UP.a, RUNNER_UP.b)
    assert opened.lattice.origin != RUNNER_UP.origin


def test_a_click_finds_its_point_in_a_moved_and_enlarged_picture(bent):
    bent.keys("+", "+", Keys.SHIFT + Keys.ARROW_LEFT, Keys.NULL)
    bent.keys("o")
    bent.click(BENT.position([[1, 2]])[0])
    assert bent.lattice.origin == pytest.approx(BENT.position([[1, 2]])[0], abs=1e-9)


def test_folded_lattices_are_drawn_as_they_are_predicted(page):
    folded = Lattice(LATTICE.origin, LATTICE.a, LATTICE.b, barrel=-2.5e-5, spiral=1e-6)
    opened = page({"A1": Searched(folded)})
    opened.keys(Keys.ENTER)
    assert len(points(folded)) < len(points(LATTICE))
    assert_drawn(opened, folded)


def test_a_lattice_of_a_million_points_is_not_drawn(page):
    dense = Lattice((170.0, 150.0), (1.0, 0.0), (1e4, 11.0))
    opened = page({"A1": Searched(dense)})
    opened.keys(Keys.ENTER)
    assert opened.drawn == {} and "too dense" in opened.text("#hint")


# ---- what is seen


def test_circles_and_picture_lie_where_they_should(bent):
    box = bent.browser.execute_script(
        "const {left, top, right, bottom} = document.getElementById('picture').getBoundingClientRect();"
        "return [left, top, right, bottom]"
    )
    corners = [*bent.ask("screen([-0.5, -0.5])"), *bent.ask(f"screen([{SHAPE[1] - 0.5}, {SHAPE[0] - 0.5}])")]
    assert box == pytest.approx(corners, abs=0.01)
    counts = bent.browser.execute_script(
        """const canvas = document.getElementById("drawing"), box = canvas.getBoundingClientRect();
        const ratio = canvas.width / canvas.clientWidth;
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const green = ([x, y], radius) => {
          let seen = 0;
          for (let turn = 0; turn < 24; turn++) {
            const column = Math.floor(ratio * (x - box.left + radius * Math.cos(turn / 12 * Math.PI)));
            const row = Math.floor(ratio * (y - box.top + radius * Math.sin(turn / 12 * Math.PI)));
            const [r, g, b, alpha] = data.subarray(4 * (row * canvas.width + column));
            seen += alpha > 60 && g > r && g > b;
          }
          return seen;
        };
        return ed2d.drawn().points.map(([, , x, y]) => green(ed2d.screen([x, y]), 10));"""
    )
    assert np.median(counts) >= 20


def test_peaks_lie_on_the_lattice_or_beside_it(bent):
    peaks = bent.ask("drawn().peaks")
    listed = json.loads(bent.find("script.image")[0].get_attribute("textContent"))["peaks"]
    assert [[*peak["at"], int(peak["on"])] for peak in peaks] == listed
    bent.keys("u")
    assert sum(peak["on"] for peak in bent.ask("drawn().peaks")) < 0.5 * len(peaks)


def test_residuals_are_magnified(bent):
    assert bent.ask("drawn().residuals") == []
    bent.keys("m")
    lines = np.array(bent.ask("drawn().residuals"))
    on = np.array([peak["at"] for peak in bent.ask("drawn().peaks") if peak["on"]])
    nodes = BENT.position(np.round(BENT.index(on)))
    assert lines[:, 0] == pytest.approx(nodes, abs=TOLERANCE)
    assert lines[:, 1] - lines[:, 0] == pytest.approx(15 * (on - nodes), abs=TOLERANCE)


def test_the_mask_is_outlined_and_the_overlay_can_be_hidden(bent):
    shape = [sorted(one) for one in bent.ask("drawn().outlines")]
    assert shape == [["nodes"], ["center", "radius"]]
    bent.keys("h")
    assert bent.drawn == {}
    bent.button("overlay")
    assert_drawn(bent, BENT)


def test_deviations_from_the_median_are_marked(page):
    far = Lattice(LATTICE.origin, tuple(1.05 * v for v in LATTICE.a), LATTICE.b)
    images = {f"A{n}": Searched(confidence=0.99, sure=True, reason="") for n in range(3)} | {"B1": Searched(far)}
    opened = page(images)
    opened.keys(Keys.ENTER)
    assert opened.current == "B1"
    assert [one.text for one in opened.find("#figures .far")] == ["▲ +5.0 %"]
    assert f"|a| {np.hypot(*far.a):.2f} px" in opened.text("#figures")
    opened.keys("j")
    assert opened.find("#figures .far") == []
    assert "sure" in opened.text("#verdict")


def test_wheel_and_drag_move_the_picture(bent):
    stage = bent.find("#stage")[0]
    before = bent.ask("screen([0, 0])")
    ActionChains(bent.browser, duration=0).drag_and_drop_by_offset(stage, 40, -25).perform()
    assert np.subtract(bent.ask("screen([0, 0])"), before) == pytest.approx([40, -25], abs=0.01)
    apart = np.subtract(bent.ask("screen([100, 0])"), bent.ask("screen([0, 0])"))[0]
    bent.browser.execute_script(
        "document.getElementById('stage').dispatchEvent(new WheelEvent('wheel', {deltaY: -200, cancelable: true}))"
    )
    assert np.subtract(bent.ask("screen([100, 0])"), bent.ask("screen([0, 0])"))[0] > 1.2 * apart
    bent.button("fit")
    assert bent.ask("screen([0, 0])") == pytest.approx(before, abs=0.01)


# ---- deciding


def test_deciding_goes_on_to_the_next_undecided(three):
    assert three.text("#progress") == "0 of 3 decided"
    three.keys("j", "a")
    assert three.current == "A3"
    assert three.text("#message") == "A2 accepted."
    three.keys("r")
    assert three.current == "A1"
    assert three.text("#progress") == "2 of 3 decided"
    three.keys("a")
    assert three.decisions() == {"A1": "accept", "A2": "accept", "A3": "reject"}
    assert "All are decided" in three.text("#message")
    three.keys("z", "z")
    assert three.decisions() == {"A2": "accept"}
    assert three.current == "A3"


def test_it_works_by_mouse_alone(three):
    cards = three.find(".card")
    cards[2].find_element(By.CSS_SELECTOR, "button").click()
    cards[0].click()
    for action in ("swap", "reject", "previous", "clear", "negate", "runnerUp", "undo", "accept"):
        three.button(action)
    assert three.decisions() == {"A1": "accept", "A3": "accept"}
    three.button("grid")
    assert not three.find("#large")[0].is_displayed()
    assert "accepted" in cards[0].get_attribute("class")
    chosen = {one["image"]: as_lattice(one["lattice"]) for one in three.ask("decisions()")["decisions"]}
    assert chosen == {"A1": negated(swapped(LATTICE)), "A3": LATTICE}


def test_focus_is_always_somewhere_and_seen(three):
    def focused():
        return three.browser.switch_to.active_element

    three.keys(Keys.ARROW_RIGHT)
    assert focused() == three.find(".card")[1]
    outline = focused().value_of_css_property("outline-style"), focused().value_of_css_property("outline-width")
    assert outline == ("solid", "2px")
    three.keys(Keys.ENTER)
    assert focused() == three.find("#stage")[0]
    reached = set()
    for _ in range(30):
        three.keys(Keys.TAB)
        reached.add(focused().get_attribute("data-action"))
    assert {"accept", "reject", "swap", "origin", "save", "help"} <= reached
    three.keys(Keys.ESCAPE)
    assert focused() == three.find(".card")[1]


def test_every_key_has_a_button_and_stands_in_the_help(three):
    three.keys(Keys.ENTER, "?")
    listed = {tuple(one.text.split("\n")) if "\n" in one.text else one.text for one in three.find("#keys li")}
    three.keys(Keys.ESCAPE)
    keys = [one.find_element(By.CSS_SELECTOR, "kbd").text for one in three.find("[data-action]")]
    assert len(keys) == len(set(keys)) == len(listed) - 1  # a card itself is opened by a click
    assert {*"arcsnouAzhmijk?S"} <= set(keys)
    assert all(one.is_displayed() and one.text for one in three.find("[data-action]"))


def test_all_sure_ones_are_accepted_after_one_question(page):
    images = {"A1": Searched(), "B1": Searched(None, runner_up=None)}
    images |= {f"S{n}": Searched(confidence=0.999, sure=True, reason="") for n in range(4)}
    images["S3"].extra.append(lattice_element("RejectedLattice", LATTICE))
    opened = page(images)
    opened.keys("j", "j", "A", Keys.TAB, Keys.ESCAPE)
    assert opened.decisions() == {"S3": "reject"}
    opened.keys("A", Keys.ENTER)
    assert opened.decisions() == {"S0": "accept", "S1": "accept", "S2": "accept", "S3": "reject"}
    assert opened.text("#progress") == "4 of 5 decided"
    opened.keys("z")
    assert opened.decisions() == {"S3": "reject"}


def test_without_a_lattice_nothing_can_be_accepted(page):
    opened = page({"A1": Searched(None, runner_up=None), "B1": Searched()})
    opened.keys("k", "a", "r", "s", "o", "u")
    assert opened.current == "A1" and opened.decisions() == {}
    opened.keys(Keys.ENTER, "a", "m", "j", "r")
    assert opened.decisions() == {"B1": "reject"}
    assert "no lattice was found" in opened.text("#notices") or "No lattice" in opened.text("#message")


def test_to_index_differently_takes_a_rejection_back(three):
    three.keys(Keys.ENTER, "r", "k", "s")
    assert three.decisions() == {}
    three.keys("a", "k", "n")
    assert three.decisions() == {"A1": "accept"}
    assert three.lattice == negated(swapped(LATTICE))


# ---- keeping and giving back


def test_decisions_survive_a_reload(three):
    three.keys("s", "a", "r")
    before = three.ask("decisions()")
    three.browser.refresh()
    assert three.ask("decisions()") == before
    assert three.text("#progress") == "2 of 3 decided" and three.current == "A3"
    assert three.ask("unsaved()")


def test_decisions_of_another_lattice_are_forgotten(three):
    three.keys("a", "a")
    path = three.project / "A1/info.xml"
    path.write_text(path.read_text().replace('value="171.3"', 'value="171.4"'))
    three.make()
    assert three.decisions() == {"A2": "accept"}


def test_spoilt_storage_is_no_matter(three):
    three.keys("a")
    for spoilt in ("{", "null", '{"kept": {"A1": {"searched": 3}, "A2": 7}}', '{"kept": {"A1": null}}'):
        script = "localStorage.setItem(`ed2d verify ${arguments[0]}`, arguments[1])"
        three.browser.execute_script(script, str(three.project), spoilt)
        three.browser.refresh()
        assert three.decisions() == {}


def leaving_asks(page):
    return page.browser.execute_script("return !window.dispatchEvent(new Event('beforeunload', {cancelable: true}))")


def saved(page):
    """Presses Save; the path of the file that arrives."""
    page.browser.downloads.mkdir(exist_ok=True)
    for old in page.browser.downloads.iterdir():
        old.unlink()
    page.keys("S")
    file, patience = page.browser.downloads / "verified.json", time.monotonic() + PATIENCE
    while not file.exists() and time.monotonic() < patience:
        time.sleep(0.02)
    assert "ed2d verify verified.json" in page.text("#saved")
    page.keys(Keys.ESCAPE)
    return file


def test_what_is_saved_is_what_is_written(page, capsys):
    odd = Lattice(origin=(1 / 3 + 170, 148.4), a=(24.0, -0.0), b=(-6.1e0 / 7, 26.0), barrel=1.1e-17, spiral=-5e-324)
    opened = page({name: Searched(odd, confidence=n / 10) for n, name in enumerate(("A1", "A2", "A3", "A4"))})
    assert not leaving_asks(opened)
    opened.keys("a", "s", "n", "a", "r")
    assert leaving_asks(opened)
    file = saved(opened)
    assert not leaving_asks(opened)
    assert main(["verify", str(file)]) == 0
    assert capsys.readouterr().out == "2 lattices verified, 1 rejected, 0 left alone\n"

    def written(name, tag):
        document = Document.read(opened.project / name / "info.xml")
        element = document.group(f"DiffProcessingResults/{tag}")
        return None if element is None else read_lattice(element, document)

    assert written("A1", "VerifiedLattice").digest() == odd.digest()
    assert written("A2", "VerifiedLattice") == negated(swapped(odd))
    assert written("A3", "RejectedLattice").digest() == odd.digest()
    assert written("A3", "VerifiedLattice") is written("A4", "VerifiedLattice") is None
    opened.make()
    assert opened.ask("names()") == ["A4", "A3"]
    assert opened.decisions() == {"A3": "reject"}


def test_nothing_is_saved_where_nothing_is_decided(three):
    three.keys("S")
    assert "Nothing is decided yet" in three.text("#message")


# ---- odd projects


def test_hostile_texts_are_shown_and_not_run(page):
    name, reason = "<img src=x onerror=hacked=1>", "</script><script>hacked = 1</script><b onclick=x>"
    opened = page({name: Searched(reason=reason), "A1": Searched(reason=reason)})
    (opened.project / "A1/tmp_search.tif").unlink()
    (opened.project / "A1").rename(opened.project / "<svg onload=hacked=1>")
    opened.make()
    opened.keys(Keys.ENTER)
    assert (opened.text("#image"), opened.text("#reason")) == (name, reason)
    opened.keys("a", Keys.ESCAPE)
    assert "<svg onload=hacked=1>" in opened.text("#notices")
    assert opened.find(".card .who")[0].text == name
    assert opened.browser.execute_script("return typeof hacked") == "undefined"
    assert opened.decisions() == {name: "accept"}


def test_a_project_in_which_nothing_waits(page):
    opened = page({"A1": Searched(extra=[lattice_element("VerifiedLattice", LATTICE)])})
    assert "No image waits" in opened.text("#notices")
    for key in "arcsnouAzhmijkS":
        opened.browser.find_element(By.TAG_NAME, "body").send_keys(key, Keys.ARROW_DOWN, Keys.ENTER)
    assert opened.decisions() == {}


def test_a_thousand_images_do_not_crawl(page):
    opened = page({f"ABC{n:07d}": Searched(confidence=n / 1000) for n in range(1000)})
    began = time.monotonic()
    opened.browser.refresh()
    opened.keys("a", "r", Keys.ARROW_DOWN)
    assert time.monotonic() - began < REASONABLE
    assert opened.text("#progress") == "2 of 1000 decided"
    time.sleep(0.3)
    assert 0 < len(opened.find(".card img")) < 60
    for _ in range(20):
        opened.keys(Keys.ARROW_DOWN)
    time.sleep(0.3)
    assert 0 < len(opened.find(".card img")) < 60
