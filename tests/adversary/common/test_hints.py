"""Names that somebody may have meant."""

from __future__ import annotations

import pytest

from adversary.common.hints import did_you_mean

KNOWN = ("local.lr", "local.batch-size", "data.name", "model.name", "clients", "adversary.clients")
SYNONYMS = {"local.lr": ("learning-rate", "eta"), "clients": ("hospitals",)}


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lr", "local.lr"),
        ("learning-rate", "local.lr"),
        ("Learning_Rate", "local.lr"),
        ("training.learning-rate", "local.lr"),
        ("batch_size", "local.batch-size"),
        ("local.batchsize", "local.batch-size"),
        ("hospitals", "clients"),
        ("data.nam", "data.name"),
    ],
)
def test_spelling_sections_and_synonyms_lead_to_the_name(word, meant):
    assert did_you_mean(word, KNOWN, SYNONYMS) == f"; did you mean {meant}?"


@pytest.mark.parametrize("word", ["zzz", "xyz.q", ""])
def test_what_is_near_nothing_is_no_hint(word):
    assert did_you_mean(word, KNOWN, SYNONYMS) == ""


def test_a_word_for_two_names_is_left_to_spelling():
    assert did_you_mean("clients", ("a.clients", "client"), {}) == "; did you mean a.clients?"
    assert did_you_mean("clients", ("a.clients", "b.clients", "client")) == "; did you mean client?"
