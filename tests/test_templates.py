"""What a template may do, and what it says when it cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.templates import BadTemplate, context_of, expression, name_of, template, unknown_names

SHOE = {"sku": "S-1", "Image Src": "a.jpg", "2nd photo": "b.jpg", "Größe": "42", "title": "Boot"}


def poured(text: str, fields: dict[str, str] = SHOE) -> str:
    return template(text)(context_of(fields))


def test_columns_go_by_a_plain_name_or_by_their_own():
    assert (
        poured('{{ image_src }} {{ _2nd_photo }} {{ größe }} {{ row["Image Src"] }}')
        == "a.jpg b.jpg 42 a.jpg"
    )


def test_a_column_written_like_a_name_keeps_it():
    fields = {"Image Src": "one", "image_src": "two"}
    assert poured('{{ image_src }} {{ row["Image Src"] }}', fields) == "two one"
    assert poured("{{ Title }} {{ title }}", {"Title": "Boot"}) == "Boot Boot"


@given(st.text())
def test_a_value_is_data_and_is_never_rendered(text):
    assert poured("<{{ title }}>", {"title": text}) == f"<{text}>"


def test_a_value_that_looks_like_a_template_stays_as_it_is():
    assert poured("{{ title }}", {"title": "{{ 7*7 }} {% raw %}"}) == "{{ 7*7 }} {% raw %}"


def test_json_style_prompts_keep_their_single_braces():
    assert poured('{"subject": "{{ title }}"}') == '{"subject": "Boot"}'


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ title.__init__.__globals__ }}",
        "{{ row.__class__ }}",
        "{{ range(9) }}",
        "{{ titel }}",
        "{{ title | nofilter }}",
        "{{ title / 0 }}",
        "{{ title[0][9] }}",
        "{{ row['titel'] }}",
        "{% for x in %}",
        "{{",
    ],
)
def test_what_cannot_be_filled_is_one_kind_of_error(text):
    with pytest.raises(BadTemplate) as caught:
        poured(text)
    message = str(caught.value)
    assert message
    assert message[0] == message[0].lower()


def test_unknown_names_are_found_without_a_row():
    assert unknown_names("{{ title }} {{ colour }} {% for x in tags %}{{ x }}{% endfor %}", SHOE) == [
        "colour",
        "tags",
    ]
    assert unknown_names('{{ row["Image Src"] }} {{ row[sku] }} {{ image_src }}', SHOE) == []
    assert unknown_names('{{ row["Image Source"] }}', SHOE) == ["Image Source"]


def test_an_expression_compares_text():
    assert expression("sku == 'S-1' and title in ['Boot', 'Shoe']")(context_of(SHOE))
    assert not expression("sku != 'S-1' or title == ''")(context_of(SHOE))
    with pytest.raises(BadTemplate):
        expression("sku = 'S-1'")


@given(st.text(min_size=1) | st.sampled_from(["row", "NOT", "True", "self", "loop", "None"]))
def test_any_header_has_a_name_that_a_template_can_use(header):
    assert template("{{ " + name_of(header) + " }}")(context_of({header: "x"})) == "x"


@pytest.mark.parametrize(
    "plain",
    [
        "",
        "no names at all",
        "{{ title }}",
        "{{title}}{{ größe }}\n",
        "{# a remark #}Photo of {{ title }}",
        "{% raw %}{{ title }}{% endraw %} {{ title }}",
        "{{ row }}",
        "{{ dict }}",
        "  {{- title -}}  ",
    ],
)
def test_a_plain_template_is_filled_just_as_jinja_does(plain):
    """`| string` at its end sends the same words the long way."""
    assert poured(plain) == poured(plain + "{{ '' | string }}")
