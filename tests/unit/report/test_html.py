"""The building blocks of a page: what is escaped, what is left out."""

from html.parser import HTMLParser

from simclr_jax.report import html

NASTY = "<b>\"a\" & 'b'</b>"


class Reader(HTMLParser):
    """Tags with their attributes, and the text, as a browser sees them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def test_a_page_has_its_parts_in_order_and_loads_nothing():
    text = html.page(NASTY, "what & why", ["<section>1</section>", "<p>2</p>"])
    read = Reader(text)
    shown = "".join(read.text)
    assert shown.index(NASTY) < shown.index("what & why") < shown.index("\n1")
    assert text.index("<section>1</section>") < text.index("<p>2</p>")
    assert not [x for _, x in read.tags if {"src", "href"} & set(x)]
    assert "default-src 'none'" in text  # a reader's browser forbids it too


def test_a_section_with_nothing_to_show_is_left_out():
    assert html.section("Views", "") == ""
    assert Reader(html.section("Views", "x")).text == ["Views", "\nx"]
    assert html.large_figure("") == ""
    assert html.large_figure("", NASTY) == ""
    assert html.large_figure("<svg/>").count("<svg/>") == 1
    assert Reader(html.large_figure("<svg/>", NASTY)).text == [NASTY]


def test_the_first_words_are_a_paragraph_for_each_line():
    assert html.lead("") == ""
    assert Reader(html.lead(f"one\n{NASTY}")).text == ["one", NASTY]


def test_parts_stand_beside_each_other_if_there_are_two():
    assert html.beside("", "") == ""
    assert html.beside("", "<p>a</p>") == "<p>a</p>"
    read = Reader(html.beside("<p>a</p>", "", "<p>b</p>"))
    assert read.tags[0] == ("div", {"class": "beside"})
    assert read.text == ["a", "b"]


def test_code_is_text_behind_a_button():
    read = Reader(html.snippet(NASTY))
    assert [tag for tag, _ in read.tags] == ["div", "button", "pre"]
    assert read.text == ["Copy", NASTY]


def test_a_table_holds_text_as_it_is():
    cells = [html.bar(0.256), html.cell(NASTY, "probe.layers.z"), html.cell("")]
    rows = [html.row(NASTY, cells), html.row("b", [], baseline=True)]
    read = Reader(html.results_table(["row", NASTY], rows))
    assert read.text == ["row", NASTY, NASTY, NASTY, "b"]
    assert [tag for tag, _ in read.tags].count("tr") == 3
    found = dict(read.tags)
    assert found["table"] == {"class": "results"}
    assert found["i"] == {"style": "width:25.6%"}
    assert [x for tag, x in read.tags if tag == "td"] == [
        {"class": "bar"},
        {"data-result": "probe.layers.z"},
        {},
    ]
    assert [x for tag, x in read.tags if tag == "tr"] == [{}, {}, {"class": "baseline"}]
    assert [x["scope"] for tag, x in read.tags if tag == "th"] == ["col"] * 2 + [
        "row"
    ] * 2


def test_provenance_lists_what_there_is():
    facts = {"commit": NASTY, "device": None, "cpus": 0, "training time": ""}
    recipe = {"lr": 0.1, "name": NASTY, "path": None}
    read = Reader(html.provenance(facts, {"jax": "1", "numpy": "2"}, "All", recipe))
    shown = [x for x in read.text if x.strip()]
    assert shown == [
        *("commit", NASTY, "cpus", "0", "versions", "jax 1, numpy 2", "All"),
        'lr = 0.1\nname = "<b>\\"a\\" & \'b\'</b>"',
    ]
