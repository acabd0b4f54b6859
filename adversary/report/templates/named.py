"""Who can be named: members told from non-members, where pictures fail."""

SECTION = r"""
{% from "macros" import term %}
{% if named %}
<section id="named" aria-labelledby="h-named">
<h2 id="h-named">Who can be named</h2>
<p>Where no picture can be had, an update may still tell whether a given person was in the training. The server has candidates with their X-rays, and asks of each what it would have added to the update. A share counts members above all but one in a hundred non-members; the interval is exact, of 95 %. <em>Under control</em> is the share named while at most one in twenty of all who are named is wrong.</p>
{% if ladder %}
<h3>How far each update gives its patients away</h3>
<div class="scroll" tabindex="0" role="region" aria-label="Table: ladder by client and round"><table class="dense">
<thead><tr><th scope="col">{{ term("hospital", "Hospital") }}</th>{% for round in ladder.rounds %}<th scope="col">{{ "all rounds" if round is none else "round %d" | format(round) }}</th>{% endfor %}</tr></thead>
<tbody>{% for client, rungs in ladder.clients %}<tr><th scope="row">{{ client }}</th>{% for rung in rungs %}<td>{{ "–" if rung is none else rung.words }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
<p class="small">The rungs, most first: a copy of an X-ray; a picture that points to its patient; patients named among candidates; members told from others; nothing beyond chance. What is reached by chance once in all lines does not count. The last rung is what this attacker got, and no evidence of safety.</p>
{% endif %}
{% if roc %}<div class="charts"><figure><figcaption>Named against false alarms</figcaption><div role="img" aria-label="{{ roc_text }}">{{ roc }}</div></figure></div>
<p class="small">Rounds of a hospital joined, of those with most named. Dashed: the most that the privacy account allows any attacker, where there is one.</p>{% endif %}
<div class="scroll" tabindex="0" role="region" aria-label="Table: who can be named"><table class="stack">
<thead><tr><th scope="col">{{ term("hospital", "Hospital") }}</th><th scope="col">Rounds</th><th scope="col" class="n">Patients</th><th scope="col" class="n">Candidates</th><th scope="col" class="n">{{ term("named", "Named, 1 in 100") }}</th><th scope="col" class="n">Interval</th><th scope="col" class="n">1 in 1,000</th><th scope="col" class="n">Under control</th><th scope="col" class="n">AUC</th><th scope="col" class="n">The account allows</th></tr></thead>
<tbody>{% for one in named %}<tr><th scope="row">{{ one.row.client }}</th><td>{{ one.row.round if one.row.round is not none else "all" }}</td><td class="n"><span class="on-phone">patients </span>{{ one.row.members }}</td><td class="n"><span class="on-phone">candidates </span>{{ one.row.candidates }}</td><td class="n"><span class="on-phone">named </span>{{ one.row.tpr_1 | percent }}</td><td class="n">{{ one.low | percent }} to {{ one.high | percent }}</td><td class="n"><span class="on-phone">1 in 1,000 </span>{{ one.row.tpr_01 | percent }}</td><td class="n"><span class="on-phone">under control </span>{{ one.row.named | percent }}</td><td class="n"><span class="on-phone">AUC </span>{{ one.row.auc | figure(3) }}</td><td class="n">{{ one.row.ceiling_tpr_1 | percent if one.row.ceiling_tpr_1 is not none else "–" }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="small">A person whose X-ray is at hand can be looked for; one who is not among the candidates cannot. Non-members are the patients of the other hospitals and those held out for testing. The last column is the most that any attacker reaches under the privacy account, where there is one.</p>
</section>
{% elif not_named %}
<section id="named" aria-labelledby="h-named">
<h2 id="h-named">Who can be named</h2>
<p class="note">Nobody was looked for: {{ not_named }}. Whether patients can be named is not known.</p>
</section>
{% endif %}
"""
