"""The first page: five questions answered, the worst picture, and room to sign it."""

SIGN = r"""
<table class="sign"><tr><th scope="row">Read and judged by</th><td></td><th scope="row">Date</th><td></td><th scope="row">Signature</th><td></td></tr></table>
"""
"""Printed only, at the foot of the first page."""

SECTION = r"""
{% from "macros" import shown, who, sentences %}
<section id="summary" aria-labelledby="h-summary">
<h2 id="h-summary" class="unseen">The verdict</h2>
<div class="first{{ " alone" if not worst_card }}">
<div class="verdict l{{ summary.level.value }}">
<p class="headline">{{ headline }}</p>
{% for answer in answers[:2] %}<h3>{{ answer.question }}</h3>
<p>{{ sentences(answer.sentences) }}</p>
{% endfor %}
</div>
{% if worst_card %}
<figure class="worst"><figcaption>{{ "The X-ray that gave away the most" if summary.has_truth else "The picture of the best own score" }}{% if mean_xray %}, and what needs no update at all{% endif %}</figcaption>
{{ shown(worst_card) }}
{% if mean_xray %}<div class="thumb"><img src="{{ mean_xray }}" alt="The mean public X-ray"><span>mean public X-ray{% if summary.worst.prior_psnr is not none %} ({{ summary.worst.prior_psnr | figure(1) }} dB){% endif %}</span></div>{% endif %}
</figure>
{% endif %}
</div>
<div class="answers">
{% for answer in answers[2:] %}
<div><h3>{{ answer.question }}</h3>
{% if answer.slug == "next" %}<ol>{% for sentence in answer.sentences %}<li>{{ sentence | linked }}</li>{% endfor %}</ol>
{% if steps %}<p class="small"><a href="#next">Why, and by which command</a></p>{% endif %}
{% else %}{% for sentence in answer.sentences %}<p>{{ sentence | linked }}</p>
{% endfor %}{% endif %}</div>
{% endfor %}
</div>
{% if info.get("status") == "running" %}<p class="note"><strong>Written while the run went on</strong>{{ written }}: what came later is not here. <code>fl-sim report {{ folder }}</code> writes this page anew, and says whether the run still lives.</p>
{% elif info.get("status") in ("failed", "stopped") %}<p class="note"><strong>This run {{ "failed" if info.status == "failed" else "was stopped" }}.</strong> {{ info.get("reason", "") }} What was written before is shown.</p>{% endif %}
{% if sensitive %}<p class="note"><strong>Made to be handed on.</strong> Pictures of patients, names of files and the words of errors are left out; X-rays are numbered.</p>{% endif %}
{% if data.get("synthetic") %}<p class="note"><strong>Synthetic images.</strong> They show no patients; the figures say how the attack works, not what leaks from real X-rays.</p>{% endif %}
{% if oracles %}<p class="note"><strong>Upper bound on this attack: an oracle was used.</strong> The attacker was told more than a server knows: {{ oracles | join(", ") }}. A real server would have to guess it.</p>{% endif %}
{% if summary.refuting %}<p class="note"><strong>The privacy account is wrong.</strong> {{ summary.refuting.refutation }}</p>{% endif %}
{% if summary.flags %}<p class="note"><strong>Before figures are believed:</strong> {% for one in summary.flags %}{{ one.flag.title | lower }} ({{ one.count }}){{ ", " if not loop.last }}{% endfor %}. <a href="#flags">What these flags mean</a></p>{% endif %}
</section>
"""
