"""The verdict in figures."""

SECTION = r"""
{% from "macros" import who, term %}
{% macro proved() %}
<div><dt>{{ term("certificate", "Proved by the attacker itself") }}</dt><dd class="big">{{ summary.certified }}</dd><dd>reconstructions, without the truth{% for name, count in summary.certificates.items() if name != "proved" %}; {{ count }} {{ "tell nothing beyond the prior" if name == "nothing" else name }}{% endfor %}{% if summary.expected_psnr is not none %}. It expected {{ summary.expected_psnr | figure(1) }} dB on average{% if summary.expected < summary.images %}, of the {{ summary.expected }} of which it expected anything{% endif %}{% endif %}</dd></div>
{% endmacro %}
{% if summary.images %}
<section id="numbers" aria-labelledby="h-numbers">
<h2 id="h-numbers">The verdict in figures</h2>
<dl class="numbers">
{% if summary.has_truth %}
<div><dt>{{ term("psnr", "Worst X-ray") }}</dt><dd class="big">{{ summary.worst.psnr | figure(1) }} dB</dd><dd>{% if summary.worst.expected_psnr is not none %}The attacker itself expected {{ summary.worst.expected_psnr | figure(1) }} dB. {% endif %}{{ who(summary.worst) }}<br>round {{ summary.worst.round }}, {{ summary.worst.client }}, attack {{ summary.worst.attack }}. From 20 dB a picture is close, from 30 dB it is a copy.</dd></div>
<div><dt>{{ term("rank", "Patients re-identified") }}</dt><dd class="big">{{ summary.reidentified | percent }}</dd><dd>{% if summary.chance %}of {{ summary.images }} reconstructions; by chance {{ summary.chance | percent }} (one of {{ summary.candidates }} candidates){% elif summary.reidentified is none %}no candidates to choose among{% else %}of {{ summary.images }} reconstructions; by chance not known{% endif %}{% if summary.negatives %}; {{ summary.negatives }} by the negative{% endif %}</dd></div>
{% if summary.beyond_null %}<div><dt>{{ term("null", "Beyond the null") }}</dt><dd class="big">{{ summary.beyond_null }}</dd><dd>reconstructions at least {{ null_margin | figure(0) }} dB nearer to their patient than to strangers{% if summary.beyond_null.count < summary.beyond_null.of %}; the others show any chest X-ray{% endif %}</dd></div>{% endif %}
{% if summary.certified %}{{ proved() }}{% endif %}
<div><dt>{{ term("bound", "Bound for any attacker") }}</dt><dd class="big">{{ summary.bound | figure(1) }}{{ " dB" if summary.bound is not none }}</dd><dd>{% if summary.bound is none %}not worked out in this run{% else %}of the image that leaks most: {{ summary.bound_meaning }}{% endif %}</dd></div>
{% else %}
<div><dt>Reconstructions</dt><dd class="big">{{ summary.images }}</dd><dd>pictures from {{ summary.clients }} clients in {{ summary.rounds }} rounds</dd></div>
<div><dt>{{ term("score", "Attacker’s best own score") }}</dt><dd class="big">{{ summary.worst.score | figure(4) }}</dd><dd>round {{ summary.worst.round }}, {{ summary.worst.client }}, attack {{ summary.worst.attack }}; lower is a better fit to the update</dd></div>
{% if summary.certified %}{{ proved() }}{% endif %}
<div><dt>Attacks that failed</dt><dd class="big">{{ summary.failed }}</dd><dd>reasons below</dd></div>
{% endif %}
</dl>
{% if summary.mean_psnr is not none %}<p>Over all {{ summary.images }} reconstructions the mean {{ term("psnr", "PSNR") }} is {{ summary.mean_psnr | figure(1) }} dB{% if summary.mean_rdlv is not none %} and the mean {{ term("rdlv", "RDLV") }}, what they show beyond the mean public X-ray, is {{ summary.mean_rdlv | figure }}{% endif %}.{% if summary.expected_psnr is not none and summary.expected == summary.images %} The attacker expected {{ summary.expected_psnr | figure(1) }} dB.{% endif %}{% if summary.mean_prior_psnr is not none %} The mean public X-ray alone has {{ summary.mean_prior_psnr | figure(1) }} dB.{% endif %}{% if summary.mean_null_psnr is not none %} Beside strangers the reconstructions have {{ summary.mean_null_psnr | figure(1) }} dB.{% endif %} {% if defence.get("name") %}Defence: {{ defence.name }}.{% endif %}</p>{% endif %}
</section>
{% endif %}
"""
