"""The worst reconstructions, with filters, and how the worst came about."""

SECTION = r"""
{% from "macros" import badge, shown, who %}
{% macro filters(label) %}
<form class="filters" hidden aria-label="{{ label }}">
{% for name, values in choices.items() %}<label>{{ name | capitalize }}<select name="{{ name }}"><option value="">all</option>{% for value in values %}<option value="{{ value }}">{{ value }}</option>{% endfor %}</select></label>
{% endfor %}<button type="reset">Show all</button><output aria-live="polite"></output>
</form>
{% endmacro %}
{% if worst %}{{ filters("Show pictures and figures of") }}{% endif %}
{% if cards %}
<section id="gallery" aria-labelledby="h-gallery">
<h2 id="h-gallery">Pictures, worst first</h2>
{% if cards | length < summary.images %}<p>{{ cards | length }} of {{ summary.images }} reconstructions, first the worst of each update; the others are in the folder images/.</p>{% endif %}{% if cards | length > 15 %}<p class="on-paper">On paper the first 15 are printed.</p>{% endif %}
{% if summary.has_truth %}<p class="small">Absolute error: 0 <img class="bar" src="{{ colour_bar }}" alt="from black over purple and orange to yellow"> {{ error_scale }} or more (of a range from 0 to 1); the same scale everywhere, so that a black square is a copy.</p>{% endif %}
<div class="grids">
{% for card in cards %}
<figure class="grid" data-filtered="pictures" data-round="{{ card.row.round }}" data-client="{{ card.row.client }}" data-attack="{{ card.row.attack }}">
<figcaption><strong>{{ card.row.client }} · round {{ card.row.round }} · {{ card.row.attack }}</strong>{% if summary.has_truth %}{{ badge(card.row.level) }}{% endif %}</figcaption>
<div class="row">{{ shown(card, all=true) }}</div>
<p class="small">{{ who(card.row) }}: {% if card.row.psnr is not none %}{{ card.row.psnr | figure(1) }} dB{% if card.row.bound_psnr is not none %} (bound {{ card.row.bound_psnr | figure(1) }} dB){% endif %}{% if card.row.expected_psnr is not none %}, expected {{ card.row.expected_psnr | figure(1) }} dB{% endif %}{% if card.row.null_psnr is not none %}, beside strangers {{ card.row.null_psnr | figure(1) }} dB{% endif %}, SSIM {{ card.row.ssim | figure }}, RDLV {{ card.row.rdlv | figure }}{% if card.row.rank is not none %}, rank {{ card.row.rank }}{% if summary.candidates %} of {{ summary.candidates }}{% endif %}{% endif %}{% if card.row.negative %}, the negative is rank 1{% endif %}{% else %}attacker’s own score {{ card.row.score | figure(4) }}{% if card.row.expected_psnr is not none %}, expected {{ card.row.expected_psnr | figure(1) }} dB{% endif %}{% if card.row.label_recovered is not none %}, label read from the update: {{ card.row.label_recovered }}{% endif %}{% endif %}</p>
{% if card.row.certificate or card.row.member %}<p class="small">{% if card.row.certificate %}Certificate: {{ card.row.certificate }}{{ "; " if card.row.member }}{% endif %}{% if card.row.member %}found by {{ card.row.member }}{% endif %}.</p>{% endif %}
{% if card.row.note %}<p class="small">The attacker notes: {{ card.row.note }}.</p>{% endif %}
</figure>
{% endfor %}
</div>
{% if strips %}
<div class="screen-only">
<h3>How they came about</h3>
{% for strip in strips %}
<p>{{ who(strip.row) }} from the update of {{ strip.row.client }} in round {{ strip.row.round }}, by {{ strip.row.attack }}, from step 0 to step {{ strip.steps }}{{ ", and the truth" if strip.row.psnr is not none }}. All trials: <a href="{{ strip.place }}/">{{ strip.place }}/</a></p>
<div class="scroll process" tabindex="0" role="region" aria-label="Process of {{ who(strip.row) }}"><img src="{{ strip.picture }}" alt="The reconstruction of {{ who(strip.row) }} by {{ strip.row.attack }}, from its start on the left to its result after {{ strip.steps }} steps on the right"></div>
{% endfor %}
</div>
{% endif %}
</section>
{% endif %}
"""
