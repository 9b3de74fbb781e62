import unicodedata

import pytest

from experiment.inputs.class_names import SameName, same_names


@pytest.mark.parametrize("name", [
    "Circle", "CIRCLE", " circle", "circle\t", "cir\u200bcle", "\ufeffcircle", "ｃｉｒｃｌｅ",
    "circ\u00adle", "circle\ufe0f", "circle\n", "\u00a0circle"])
def test_spellings_of_one_name_are_the_same_however_many_rows_they_have(name):
    assert same_names({"circle": 60, name: 40, "square": 50}) == [SameName(name, "circle", 40)]


def test_unicode_forms_white_space_and_case_that_is_longer():
    cafe = "café"
    apart = unicodedata.normalize("NFD", cafe)
    assert apart != cafe
    assert same_names({apart: 3, cafe: 9}) == [SameName(apart, cafe, 3)]
    assert same_names({"palm  tree": 3, "palm tree": 9})[0].suggested == "palm tree"
    assert same_names({"STRASSE": 3, "straße": 9})[0].suggested == "straße"


@pytest.mark.parametrize("name", ["circel", "cirle", "circcle", "cirkle", "circles", "xcircle",
                                  "Circel"])
def test_one_edit_in_a_class_of_few_rows(name):
    assert same_names({name: 2, "circle": 40, "square": 40}) == [SameName(name, "circle", 2)]


@pytest.mark.parametrize("rows", [
    {"cat": 1, "car": 500},  # short words
    {"class_1": 1, "class_2": 500},  # digits
    {"classroom1": 1, "classroom": 500},
    {"house": 40, "horse": 500},  # many rows
    {"house": 5, "horse": 49},  # not rare beside the other
    {"type a": 1, "type b": 500}, {"grade_a": 1, "grade_b": 500},
    {"circle": 1, "cirque": 500},  # two edits
    {"circle": 1, "crcile": 500},  # letters swapped that are no neighbours
    {"black-bird": 1, "blackbird": 500},  # no letter
    {"résumé": 30, "resume": 500},  # accents are seen
    {"": 2, "circle": 500}, {"circle": 40}, {}])
def test_other_words(rows):
    assert same_names(rows) == []


def test_a_misspelt_name_in_another_case_goes_to_the_commonest_spelling():
    found = same_names({"Circle": 10, "circle": 90, "CIRCEL": 1})
    assert [tuple(same) for same in found] == [("Circle", "circle", 10), ("CIRCEL", "circle", 1)]


def test_the_larger_of_two_possible_classes_is_suggested():
    assert same_names({"boxses": 1, "boxes": 20, "bosses": 200})[0].suggested == "bosses"


def test_thousands_of_classes():
    names = {f"word {'abcdefghij'[i % 10]}{i:05d} some longer name": i % 7 for i in range(2_000)}
    assert same_names(names) == []
