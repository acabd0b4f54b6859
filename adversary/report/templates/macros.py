"""What several sections share."""

MACROS = r"""
{% macro badge(level) %}<span class="badge l{{ level.value }}">{{ level.label }}</span>{% endmacro %}
{% macro term(slug, text) %}<a class="term" href="#term-{{ slug }}">{{ text }}</a>{% endmacro %}
{% macro sentences(all) %}{% for one in all %}{{ one | linked }}{{ " " if not loop.last }}{% endfor %}{% endmacro %}
{% macro thumb(uri, label, alt) %}
<div class="thumb">{% if uri %}<img src="{{ uri }}" alt="{{ alt }}">{% else %}<span class="none">no picture</span>{% endif %}<span>{{ label }}</span></div>
{% endmacro %}
{% macro pairs(entries) %}
<table class="pairs">{% for key, value in entries %}<tr><th scope="row">{{ key }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% endmacro %}
{% macro who(row) %}{{ row.truth or "image %d" | format(row.image) }}{% endmacro %}
{% macro shown(card, all=false) %}
{% set patient = who(card.row) %}
{% if card.truth %}{{ thumb(card.truth, "truth", "True X-ray " ~ patient) }}{% endif %}
{{ thumb(card.reconstruction, "reconstruction" if all or card.row.psnr is none else "reconstruction (%s dB)" | format(card.row.psnr | figure(1)), "Reconstruction of " ~ patient ~ " from the update of " ~ card.row.client ~ " by " ~ card.row.attack) }}
{% if all and card.truth %}{{ thumb(card.error, "error" if card.worst_pixel is none else "error: none" if card.worst_pixel == 0 else "error, at most %.2g" | format(card.worst_pixel), "Absolute error of the reconstruction of " ~ patient) }}{% endif %}
{% if all and card.bound %}{{ thumb(card.bound, "least error of any attacker", "Least standard deviation by pixel of any reconstruction of " ~ patient ~ ", brightest where it is largest") }}{% endif %}
{% endmacro %}
{% macro glossary(terms) %}
<dl class="words">
{% for slug, one in terms.items() %}<dt id="term-{{ slug }}">{{ one.words }}</dt><dd>{{ one.meaning }}</dd>
{% endfor %}
</dl>
{% endmacro %}
{% macro ruler_of(ruler) %}
<figure class="ruler"><figcaption>A ruler for the eye: one public X-ray, not of this run, at several {{ term("psnr", "PSNRs") }}. The errors of attacks may be noise, as here, or blur.</figcaption>
<div class="row">{{ thumb(ruler.truth, "the X-ray itself", "A public X-ray") }}{{ thumb(ruler.mean, "mean of others: %.0f dB" | format(ruler.mean_psnr), "The mean of fifteen other public X-rays") }}{% for mark, picture in ruler.marks.items() %}{{ thumb(picture, "%d dB" | format(mark), "The same X-ray with noise, at %d dB" | format(mark)) }}{% endfor %}</div>
<p class="small">{{ ruler.attribution }}</p></figure>
{% endmacro %}
"""
