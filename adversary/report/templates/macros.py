"""What several sections share."""

MACROS = r"""
{% macro badge(level) %}<span class="badge l{{ level.value }}">{{ level.label }}</span>{% endmacro %}
{% macro thumb(uri, label, alt) %}
<div class="thumb">{% if uri %}<img src="{{ uri }}" alt="{{ alt }}">{% else %}<span class="none">no picture</span>{% endif %}<span>{{ label }}</span></div>
{% endmacro %}
{% macro pairs(entries) %}
<table class="pairs">{% for key, value in entries %}<tr><th scope="row">{{ key }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% endmacro %}
{% macro who(row) %}{{ row.truth or "image %d" | format(row.image) }}{% endmacro %}
{% macro shown(card) %}
{% set patient = who(card.row) %}
{% if card.truth %}{{ thumb(card.truth, "truth", "True X-ray " ~ patient) }}{% endif %}
{{ thumb(card.reconstruction, "reconstruction", "Reconstruction of " ~ patient ~ " from the update of " ~ card.row.client ~ " by " ~ card.row.attack) }}
{% if card.truth %}{{ thumb(card.error, "error" if card.worst_pixel is none else "error: none" if card.worst_pixel == 0 else "error, at most %.2g" | format(card.worst_pixel), "Absolute error of the reconstruction of " ~ patient) }}{% endif %}
{% if card.bound %}{{ thumb(card.bound, "least error of any attacker", "Least standard deviation by pixel of any reconstruction of " ~ patient ~ ", brightest where it is largest") }}{% endif %}
{% endmacro %}
"""
