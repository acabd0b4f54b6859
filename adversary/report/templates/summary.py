"""The first screen: the verdict in words, three numbers, the worst picture."""

SECTION = r"""
{% from "macros" import shown, who %}
{% macro more_may_be_there() %}
This is no evidence of safety: a stronger attack may see more{% if summary.bound is not none %}, up to {{ summary.bound | figure(1) }} dB {{ average }}{% else %}, and no bound says how much{% endif %}.
{% endmacro %}
{% macro proved() %}
<div><dt>Proved by the attacker itself</dt><dd class="big">{{ summary.certified }}</dd><dd>reconstructions, without the truth{% for name, count in summary.certificates.items() if name != "proved" %}; {{ count }} {{ "tell nothing beyond the prior" if name == "nothing" else name }}{% endfor %}{% if summary.expected_psnr is not none %}. It expected {{ summary.expected_psnr | figure(1) }} dB on average{% endif %}</dd></div>
{% endmacro %}
<section id="summary" aria-label="Summary">
<div class="verdict l{{ summary.level.value }}">
{% if not summary.images %}
<strong>No attack has finished yet.</strong> There is nothing to judge so far.
{% elif not summary.has_truth %}
<strong>Not measured: this run has no true images.</strong>
As in a real deployment, only what the attacker itself has is shown: its pictures, its own score, and what it can prove. A low score does not prove that a picture is a patient{% if summary.certified %}; a certificate does: {{ summary.certified }} reconstructions are proved{% endif %}.
{% elif summary.named_alone %}
<strong>{{ summary.level.label }}. The server could tell who was in the training.</strong>
Pictures gave little; yet of candidates at hand it can name patients. {{ more_may_be_there() }}
{% elif summary.level.slug in ("visible", "identifiable") %}
<strong>{{ summary.level.label }}. The server could {{ "see" if summary.level.slug == "visible" else "single out" }} patients.</strong>
From {% if aggregate %}the mean of all clients’ updates{% else %}{{ summary.clients_seen }} of {{ summary.clients }} clients{% endif %}, in {{ summary.rounds_seen }} of {{ summary.rounds }} rounds, model updates alone gave away at least one patient{{ "’s X-ray" if summary.level.slug == "visible" }}. Worst: {{ who(summary.worst) }} of {{ summary.worst.client }} in round {{ summary.worst.round }}.{% if summary.level.slug != "visible" %} A stronger attack may see more.{% endif %}
{% elif summary.level.slug == "traces" %}
<strong>{{ summary.level.label }}. Updates gave away more than any chest X-ray shows.</strong>
Most of all of {{ who(summary.worst) }} of {{ summary.worst.client }} in round {{ summary.worst.round }}. {{ more_may_be_there() }}
{% elif summary.level.slug == "open" %}
<strong>{{ summary.level.label }}. These attacks got little; what the updates hold is not settled.</strong>
{{ more_may_be_there() }}
{% elif summary.level.slug == "protected" %}
<strong>{{ summary.level.label }}. What was examined gives nobody more than chance.</strong>
{% if summary.bound is not none %}No attacker is expected to exceed {{ summary.bound | figure(1) }} dB, about what the mean public X-ray reaches. The bound says so, not an attack that failed. It holds {{ average }}.{% else %}The attacker’s posterior is what it knew before: the updates tell it nothing. No bound was worked out in this run.{% endif %}

{% else %}
<strong>Not measured.</strong> No figure could be had; the reasons are given below.
{% endif %}
{% if summary.named %}<span class="named">The server can name {{ summary.named.words }}. <a href="#named">Who can be named</a></span>{% endif %}
{% if summary.images %}<span class="examined">Examined: {{ summary.examined | join(", ") }}. The verdict is on these alone.</span>{% endif %}
</div>
{% if info.get("status") == "running" %}<p class="note">This run is still going on; the page shows what has been written so far.</p>
{% elif info.get("status") in ("failed", "stopped") %}<p class="note"><strong>This run {{ "failed" if info.status == "failed" else "was stopped" }}.</strong> {{ info.get("reason", "") }} What was written before is shown.</p>{% endif %}
{% if sensitive %}<p class="note"><strong>Made to be handed on.</strong> Pictures of patients, names of files and the words of errors are left out; X-rays are numbered.</p>{% endif %}
{% if data.get("synthetic") %}<p class="note"><strong>Synthetic images.</strong> They show no patients; the figures say how the attack works, not what leaks from real X-rays.</p>{% endif %}
{% if oracles %}<p class="note"><strong>Upper bound on this attack: an oracle was used.</strong> The attacker was told more than a server knows: {{ oracles | join(", ") }}. A real server would have to guess it.</p>{% endif %}
{% if summary.flags %}<p class="note"><strong>Look at this first:</strong> {% for one in summary.flags %}{{ one.flag.title | lower }} ({{ one.count }}){{ ", " if not loop.last }}{% endfor %}. <a href="#flags">What these flags mean</a></p>{% endif %}
{% if summary.images %}
<dl class="numbers">
{% if summary.has_truth %}
<div><dt>Worst patient</dt><dd class="big">{{ summary.worst.psnr | figure(1) }} dB</dd><dd>{% if summary.worst.expected_psnr is not none %}The attacker itself expected {{ summary.worst.expected_psnr | figure(1) }} dB. {% endif %}{{ who(summary.worst) }}<br>round {{ summary.worst.round }}, {{ summary.worst.client }}, attack {{ summary.worst.attack }}. From 20 dB a picture is close, from 30 dB it is a copy.</dd></div>
<div><dt>Patients re-identified</dt><dd class="big">{{ summary.reidentified | percent }}</dd><dd>{% if summary.chance %}of {{ summary.images }} reconstructions; by chance {{ summary.chance | percent }} (one of {{ summary.candidates }} candidates){% elif summary.reidentified is none %}no candidates to choose among{% else %}of {{ summary.images }} reconstructions; by chance not known{% endif %}{% if summary.negatives %}; {{ summary.negatives }} by the negative{% endif %}</dd></div>
{% if summary.beyond_null %}<div><dt>Beyond the null</dt><dd class="big">{{ summary.beyond_null }}</dd><dd>reconstructions at least {{ null_margin | figure(0) }} dB nearer to their patient than to strangers{% if summary.beyond_null.count < summary.beyond_null.of %}; the others show any chest X-ray{% endif %}</dd></div>{% endif %}
{% if summary.certified %}{{ proved() }}{% endif %}
<div><dt>Bound for any attacker</dt><dd class="big">{{ summary.bound | figure(1) }}{{ " dB" if summary.bound is not none }}</dd><dd>{% if summary.bound is none %}not worked out in this run{% else %}of the image that leaks most: {{ summary.bound_meaning }}{% endif %}</dd></div>
{% else %}
<div><dt>Reconstructions</dt><dd class="big">{{ summary.images }}</dd><dd>pictures from {{ summary.clients }} clients in {{ summary.rounds }} rounds</dd></div>
<div><dt>Attacker’s best own score</dt><dd class="big">{{ summary.worst.score | figure(4) }}</dd><dd>round {{ summary.worst.round }}, {{ summary.worst.client }}, attack {{ summary.worst.attack }}; lower is a better fit to the update</dd></div>
{% if summary.certified %}{{ proved() }}{% endif %}
<div><dt>Attacks that failed</dt><dd class="big">{{ summary.failed }}</dd><dd>reasons below</dd></div>
{% endif %}
</dl>
{% if summary.mean_psnr is not none %}<p>Over all {{ summary.images }} reconstructions the mean PSNR is {{ summary.mean_psnr | figure(1) }} dB{% if summary.mean_rdlv is not none %} and the mean RDLV, what they show beyond the mean public X-ray, is {{ summary.mean_rdlv | figure }}{% endif %}.{% if summary.expected_psnr is not none %} The attacker expected {{ summary.expected_psnr | figure(1) }} dB.{% endif %}{% if summary.mean_prior_psnr is not none %} The mean public X-ray alone has {{ summary.mean_prior_psnr | figure(1) }} dB.{% endif %}{% if summary.mean_null_psnr is not none %} Beside strangers the reconstructions have {{ summary.mean_null_psnr | figure(1) }} dB.{% endif %} {% if defence.get("name") %}Defence: {{ defence.name }}.{% endif %}</p>{% endif %}
{% if cards %}
<figure class="worst"><figcaption><strong>The worst picture: what the server saw</strong></figcaption>
{{ shown(cards[0]) }}
</figure>
{% endif %}
{% endif %}
</section>
"""
