"""Leakage by round and by client: charts, and tables that say the same."""

SECTION = r"""
{% from "macros" import badge, term, who %}
{% if worst or charts %}
<section id="leakage" aria-labelledby="h-leakage">
<h2 id="h-leakage">Leakage by round and client</h2>
{% if charts %}
<div class="charts">
{% for name, text, svg in charts %}<figure><figcaption>{{ name }}</figcaption><div role="img" aria-label="{{ text }}">{{ svg }}</div></figure>
{% endfor %}
</div>
<p class="small">By round, lines are means and faint marks single images (from 400 on a band from the least to the most); by client, marks are means and bars reach from the least to the most. The figures behind the charts are in the tables below.</p>
{% endif %}

{% if matrix.cells and summary.has_truth %}
<h3>Worst picture of each client in each round, PSNR in dB</h3>
<div class="scroll" tabindex="0" role="region" aria-label="Table: verdict by client and round"><table class="heat">
<thead><tr><th scope="col">Client, round</th>{% for number in matrix.rounds %}<th scope="col" class="n"><span class="unseen">Round </span>{{ number }}</th>{% endfor %}</tr></thead>
<tbody>{% for client in matrix.clients %}<tr><th scope="row">{{ client }}</th>{% for number in matrix.rounds %}{% set cell = matrix.cells.get((client, number)) %}{% if cell %}<td class="l{{ cell.level.value }}" title="{{ cell.level.label }}">{{ cell.best.psnr | figure(1) }}<span class="unseen"> dB, {{ cell.level.label }}</span></td>{% else %}<td>–</td>{% endif %}{% endfor %}</tr>
{% endfor %}</tbody></table></div>
<ul class="legend" aria-label="Colours">{% for level in levels %}<li>{{ badge(level) }}</li>{% endfor %}</ul>
{% if matrix.clients | length < by_client.of or matrix.rounds | length < summary.rounds %}<p class="small">The worst {{ matrix.clients | length }} of {{ by_client.of }} clients and the worst {{ matrix.rounds | length }} of {{ summary.rounds }} rounds.</p>{% endif %}
{% endif %}

{% if by_client.groups %}
<h3>By client</h3>
{% if named %}<p class="small">Verdicts by pictures alone; of whom an update names, <a href="#named">Who can be named</a> tells.</p>{% endif %}
<div class="scroll" tabindex="0" role="region" aria-label="Table: by client"><table class="stack">
<thead><tr><th scope="col">{{ term("hospital", "Client") }}</th><th scope="col">{{ term("verdict", "Verdict") }}</th><th scope="col">What it means</th><th scope="col" class="n">{{ term("update", "Updates") }}</th><th scope="col" class="n">{{ term("psnr", "Mean PSNR") }}</th><th scope="col" class="n">Re-identified{% if summary.chance %} (chance {{ summary.chance | percent }}){% endif %}</th></tr></thead>
<tbody>{% for group in by_client.groups %}<tr><th scope="row">{{ group.key }}</th><td>{{ badge(group.level) }}</td><td>{{ group.level.meaning }}{% if group.best.psnr is not none %} Best picture: {{ who(group.best) }} in round {{ group.best.round }}, {{ group.best.psnr | figure(1) }} dB by {{ group.best.attack }}{% if group.best.rank is not none %}; the true patient comes {{ "first" if group.best.rank == 1 else "as number %d" | format(group.best.rank) }} among {{ summary.candidates or "the" }} candidates{% endif %}.{% elif group.best.status != "ok" %} Every attack failed.{% endif %}</td><td class="n"><span class="on-phone">updates </span>{{ group.updates }}</td><td class="n"><span class="on-phone">mean </span>{{ group.mean_psnr | figure(1) }}<span class="on-phone"> dB</span></td><td class="n"><span class="on-phone">re-identified </span>{{ group.reidentified | percent }}</td></tr>
{% endfor %}</tbody></table></div>
{% if by_client.groups | length < by_client.of %}<p class="small">The worst {{ by_client.groups | length }} of {{ by_client.of }} clients.</p>{% endif %}
{% endif %}

{% if by_round %}
<h3>By round</h3>
<div class="scroll" tabindex="0" role="region" aria-label="Table: by round"><table class="dense">
<thead><tr><th scope="col" class="n">{{ term("round", "Round") }}</th><th scope="col">{{ term("verdict", "Verdict") }}</th><th scope="col">Worst picture</th><th scope="col" class="n">{{ term("psnr", "PSNR, dB") }}</th><th scope="col" class="n">{{ term("psnr", "Mean PSNR") }}</th><th scope="col" class="n">Re-identified{% if summary.chance %} (chance {{ summary.chance | percent }}){% endif %}</th><th scope="col" class="n">{{ term("update", "Updates attacked") }}</th></tr></thead>
<tbody>{% for number, training, group in by_round[-limit:] %}<tr><th scope="row" class="n">{{ number }}</th>{% if group %}<td>{{ badge(group.level) }}</td><td class="wrap">{% if group.images %}{{ who(group.best) }}, {{ group.best.client }}, {{ group.best.attack }}{% else %}Every attack failed.{% endif %}</td><td class="n">{{ group.best.psnr | figure(1) }}</td><td class="n">{{ group.mean_psnr | figure(1) }}</td><td class="n">{{ group.reidentified | percent }}</td><td class="n">{{ group.updates }}</td>{% else %}<td>not attacked</td><td>–</td><td class="n">–</td><td class="n">–</td><td class="n">–</td><td class="n">0</td>{% endif %}</tr>
{% endfor %}</tbody></table></div>
{% if trained %}
<h3>The model by round</h3>
<div class="scroll" tabindex="0" role="region" aria-label="Table: the model by round"><table class="dense">
<thead><tr><th scope="col" class="n">{{ term("round", "Round") }}</th><th scope="col" class="n">Loss</th><th scope="col" class="n">{{ term("auc", "AUC") }}</th><th scope="col" class="n">AUC with clients</th><th scope="col" class="n">{{ term("epsilon", "ε spent") }}</th><th scope="col" class="n">δ</th><th scope="col" class="n">Learning rate</th><th scope="col" class="n">Clients</th><th scope="col" class="n">Failed</th><th scope="col" class="n">Seconds</th></tr></thead>
<tbody>{% for number, training, group in by_round[-limit:] if training %}<tr><th scope="row" class="n">{{ number }}</th><td class="n">{{ training.loss | figure(3) }}</td><td class="n">{{ training.auc | figure(3) }}</td><td class="n">{{ training.client_auc | figure(3) }}</td><td class="n">{{ training.epsilon | epsilon }}</td><td class="n">{{ "–" if training.delta is none else "%.1e" | format(training.delta) }}</td><td class="n">{{ training.lr | figure(3) }}</td><td class="n">{{ "–" if training.clients is none else training.clients }}</td><td class="n">{{ "–" if training.clients_failed is none else training.clients_failed }}</td><td class="n">{{ training.seconds | figure(1) }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="small">Loss and AUC are those of the global model after the round{% if data.get("evaluated_on") %}, on {{ data.get(data.get("evaluated_on")) }} {{ data.get("evaluated_on") }} X-rays{% endif %}.{% if by_round | length > limit %} Shown are the last {{ limit }} of {{ by_round | length }} rounds; all are in rounds.csv.{% endif %}</p>
{% endif %}
{% endif %}
</section>
{% endif %}
"""
