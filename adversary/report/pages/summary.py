"""The first screen: the verdict in words, three numbers, the worst picture."""

SECTION = r"""
{% from "macros" import shown, who %}
<section id="summary" aria-label="Summary">
<div class="verdict l{{ summary.level.value }}">
{% if not summary.images %}
<strong>No attack has finished yet.</strong> There is nothing to judge so far.
{% elif not summary.has_truth %}
<strong>Not measured: this run has no true images.</strong>
As in a real deployment, only what the attacker itself has is shown: its pictures and its own score. A low score does not prove that a picture is a patient.
{% elif summary.level.value >= 3 %}
<strong>The server could {{ "see" if summary.level.value == 4 else "single out" }} patients.</strong>
From {% if aggregate %}the mean of all clients’ updates{% else %}{{ summary.clients_seen }} of {{ summary.clients }} clients{% endif %}, in {{ summary.rounds_seen }} of {{ summary.rounds }} rounds, model updates alone gave away at least one patient{{ "’s X-ray" if summary.level.value == 4 }}. Worst: {{ who(summary.worst) }} of {{ summary.worst.client }} in round {{ summary.worst.round }}.
{% elif summary.level.value == 2 %}
<strong>Updates left traces of the patients, but no patient could be told from the pictures.</strong>
Some pictures showed more than the average public X-ray does, most of all {{ who(summary.worst) }} of {{ summary.worst.client }} in round {{ summary.worst.round }}.
{% elif summary.level.value == 1 %}
<strong>These attacks saw no more than any chest X-ray shows.</strong>
A stronger attack may see more.
{% else %}
<strong>Not measured.</strong> No figure could be had; the reasons are given below.
{% endif %}
</div>
{% if info.get("status") == "running" %}<p class="note">This run is still going on; the page shows what has been written so far.</p>
{% elif info.get("status") in ("failed", "stopped") %}<p class="note"><strong>This run {{ "failed" if info.status == "failed" else "was stopped" }}.</strong> {{ info.get("reason", "") }} What was written before is shown.</p>{% endif %}
{% if sensitive %}<p class="note"><strong>Made to be handed on.</strong> Pictures of patients, names of files and the words of errors are left out; X-rays are numbered.</p>{% endif %}
{% if data.get("synthetic") %}<p class="note"><strong>Synthetic images.</strong> They show no patients; the figures say how the attack works, not what leaks from real X-rays.</p>{% endif %}
{% if oracles %}<p class="note"><strong>Upper bound.</strong> The attacker was told more than a server knows: {{ oracles | join(", ") }}. A real server would have to guess it.</p>{% endif %}
{% if summary.images %}
<dl class="numbers">
{% if summary.has_truth %}
<div><dt>Worst patient</dt><dd class="big">{{ summary.worst.psnr | figure(1) }} dB</dd><dd>{{ who(summary.worst) }}<br>round {{ summary.worst.round }}, {{ summary.worst.client }}, attack {{ summary.worst.attack }}. From 20 dB a picture is close, from 30 dB it is a copy.</dd></div>
<div><dt>Patients re-identified</dt><dd class="big">{{ summary.reidentified | percent }}</dd><dd>{% if summary.chance %}of {{ summary.images }} reconstructions; by chance {{ summary.chance | percent }} (one of {{ summary.candidates }} candidates){% elif summary.reidentified is none %}no candidates to choose among{% else %}of {{ summary.images }} reconstructions{% endif %}</dd></div>
<div><dt>Bound for any attacker</dt><dd class="big">{{ summary.bound | figure(1) }}{{ " dB" if summary.bound is not none }}</dd><dd>{% if summary.bound is none %}not worked out in this run{% else %}for the least protected image: {{ summary.bound_meaning }}{% endif %}</dd></div>
{% else %}
<div><dt>Reconstructions</dt><dd class="big">{{ summary.images }}</dd><dd>pictures from {{ summary.clients }} clients in {{ summary.rounds }} rounds</dd></div>
<div><dt>Attacker’s best own score</dt><dd class="big">{{ summary.worst.score | figure(4) }}</dd><dd>round {{ summary.worst.round }}, {{ summary.worst.client }}, attack {{ summary.worst.attack }}; lower is a better fit to the update</dd></div>
<div><dt>Attacks that failed</dt><dd class="big">{{ summary.failed }}</dd><dd>reasons below</dd></div>
{% endif %}
</dl>
{% if summary.mean_psnr is not none %}<p>Over all {{ summary.images }} reconstructions the mean PSNR is {{ summary.mean_psnr | figure(1) }} dB{% if summary.mean_rdlv is not none %} and the mean RDLV, what they show beyond the mean public X-ray, is {{ summary.mean_rdlv | figure }}{% endif %}. {% if defence.get("name") %}Defence: {{ defence.name }}.{% endif %}</p>{% endif %}
{% if cards %}
<figure class="worst"><figcaption><strong>The worst picture: what the server saw</strong></figcaption>
{{ shown(cards[0]) }}
</figure>
{% endif %}
{% endif %}
</section>
"""
