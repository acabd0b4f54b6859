"""Every figure of the worst reconstructions, failures, missing values, and privacy accounts."""

SECTION = r"""
{% from "macros" import term %}
{% if worst %}
<section id="figures" aria-labelledby="h-figures">
<h2 id="h-figures">Figures, worst first</h2>
<p>{% if worst | length < all_rows %}The worst {{ worst | length }} of {{ all_rows }} rows. {% endif %}{% if sensitive %}All are in the run’s leakage.csv, which names files.{% else %}All are in <a href="leakage.csv">leakage.csv</a>.{% endif %}{% if worst | length > 12 %} <span class="on-paper">On paper the first 12 are printed.</span>{% endif %}</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table: figures"><table class="dense">
<thead><tr><th scope="col" class="n">{{ term("round", "Round") }}</th><th scope="col">{{ term("hospital", "Client") }}</th><th scope="col">Attack</th>{% if summary.has_truth %}<th scope="col">True image</th><th scope="col" class="n">MSE</th><th scope="col" class="n">{{ term("psnr", "PSNR") }}</th><th scope="col" class="n">{{ term("expected", "Expected") }}</th><th scope="col" class="n">{{ term("bound", "Bound") }}</th><th scope="col" class="n">{{ term("null", "Mean X-ray") }}</th><th scope="col" class="n">{{ term("null", "Null") }}</th><th scope="col" class="n">{{ term("ssim", "SSIM") }}</th><th scope="col" class="n">{{ term("lpips", "LPIPS") }}</th><th scope="col" class="n">{{ term("fft2d", "FFT-2D") }}</th><th scope="col" class="n">{{ term("rdlv", "RDLV") }}</th><th scope="col" class="n">{{ term("rank", "Rank") }}</th>{% else %}<th scope="col" class="n">{{ term("expected", "Expected PSNR") }}</th>{% endif %}<th scope="col">{{ term("certificate", "Certificate") }}</th><th scope="col">{{ "Label read" if sensitive or not summary.has_truth else "Label, true / read" }}</th><th scope="col" class="n">{{ term("score", "Own score") }}</th><th scope="col" class="n">Evaluations</th><th scope="col" class="n">Seconds</th></tr></thead>
<tbody>{% for row in worst %}<tr data-filtered="rows" data-round="{{ row.round }}" data-client="{{ row.client }}" data-attack="{{ row.attack }}"><td class="n">{{ row.round }}</td><th scope="row">{{ row.client }}</th><td>{{ row.attack }}</td>
{%- if row.status != "ok" %}<td colspan="{{ 17 if summary.has_truth else 6 }}">failed, see <a href="#failures">failures</a></td>
{%- else %}{% if summary.has_truth %}<td>{{ row.truth }}</td><td class="n">{{ row.mse | figure(5) }}</td><td class="n">{{ row.psnr | figure(1) }}</td><td class="n">{{ row.expected_psnr | figure(1) }}</td><td class="n">{{ row.bound_psnr | figure(1) }}</td><td class="n">{{ row.prior_psnr | figure(1) }}</td><td class="n">{{ row.null_psnr | figure(1) }}</td><td class="n">{{ row.ssim | figure(3) }}</td><td class="n">{{ row.lpips | figure(3) }}</td><td class="n">{{ row.fft2d | figure(3) }}</td><td class="n">{{ row.rdlv | figure }}</td><td class="n">{{ "–" if row.rank is none else row.rank }}{{ " (negative 1)" if row.negative }}</td>{% else %}<td class="n">{{ row.expected_psnr | figure(1) }}</td>{% endif %}<td>{{ row.certificate or "–" }}</td><td>{% if sensitive %}{{ "–" if row.label_true is none else ("right" if row.label_true == row.label_recovered else "wrong") }}{% else %}{% if summary.has_truth %}{{ row.label_true or "–" }} / {% endif %}{{ row.label_recovered or "–" }}{% endif %}</td><td class="n">{{ row.score | figure(4) }}</td><td class="n">{{ "–" if row.evaluations is none else row.evaluations }}</td><td class="n">{{ row.seconds | figure(1) }}</td>{% endif %}</tr>
{% endfor %}</tbody></table></div>
</section>
{% endif %}

{% if summary.flags %}
<section id="flags" aria-labelledby="h-flags">
<h2 id="h-flags">Flags</h2>
<p>A flag changes no figure; it says why one may not mean what it seems to. Each has a heading with an example in {{ flags_page }}.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table: flags"><table>
<thead><tr><th scope="col">{{ term("flag", "Flag") }}</th><th scope="col" class="n">Rows</th><th scope="col">What it means</th><th scope="col">What to do</th><th scope="col">More</th></tr></thead>
<tbody>{% for one in summary.flags %}<tr><th scope="row">{{ one.flag.title }}</th><td class="n">{{ one.count }} of {{ summary.images }}</td><td class="wrap">{{ one.flag.meaning }}</td><td class="wrap">{{ one.flag.action }}</td><td>{{ flags_page }}#{{ one.name }}</td></tr>
{% endfor %}</tbody></table></div>
</section>
{% endif %}

{% if members %}
<section id="members" aria-labelledby="h-members">
<h2 id="h-members">Members of the ensemble</h2>
<p>The next member runs only for what is not proved yet. Every run of one is in members.csv.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table: members of the ensemble"><table>
<thead><tr><th scope="col">Attack</th><th scope="col">Member</th><th scope="col" class="n">{{ term("update", "Updates") }}</th><th scope="col" class="n">Gave the images</th><th scope="col" class="n">Gave nothing</th><th scope="col" class="n">Seconds</th><th scope="col" class="n">Of the time</th></tr></thead>
<tbody>{% for one in members %}<tr><td>{{ one.attack }}</td><th scope="row">{{ one.member }}</th><td class="n">{{ one.ran }}</td><td class="n">{{ one.won }}</td><td class="n">{{ one.failed }}</td><td class="n">{{ one.seconds | figure(1) }}</td><td class="n">{{ one.share | percent }}</td></tr>
{% endfor %}</tbody></table></div>
</section>
{% endif %}

<section id="failures" aria-labelledby="h-failures">
<h2 id="h-failures">Failures and missing values</h2>
{% if failures %}
<div class="scroll" tabindex="0" role="region" aria-label="Table: failures"><table>
<thead><tr><th scope="col">{{ term("round", "Round") }}</th><th scope="col">{{ term("hospital", "Client") }}</th><th scope="col">Attack</th><th scope="col">Reason</th></tr></thead>
<tbody>{% for failure in failures[:limit] %}<tr><td>{{ failure.get("round", "–") }}</td><td>{{ failure.get("client", "–") }}</td><td>{{ failure.get("attack", "–") }}</td><td class="wrap">{{ failure.get("reason", "–") }}</td></tr>{% endfor %}</tbody></table></div>
<p>{% if failures | length > limit %}The first {{ limit }} of {{ failures | length }}; all are in run.json. {% endif %}An attack that failed says nothing about what a working one would see.</p>
{% else %}<p>No attack failed.</p>{% endif %}
{% if without_images %}<p>No image went into the update of {% for one in without_images[:limit] %}{{ one.get("client", "–") }} in round {{ one.get("round", "–") }}{{ ", " if not loop.last }}{% endfor %}{% if without_images | length > limit %} and {{ without_images | length - limit }} more{% endif %}: its random batches were empty, so there was nothing to reconstruct.</p>{% endif %}
{% if missing %}
<div class="scroll" tabindex="0" role="region" aria-label="Table: missing values"><table>
<thead><tr><th scope="col">Missing value</th><th scope="col">Rows</th><th scope="col">Why</th></tr></thead>
<tbody>{% for name, count, reason in missing %}<tr><th scope="row">{{ name }}</th><td>{{ count }}</td><td class="wrap">{{ reason }}</td></tr>{% endfor %}</tbody></table></div>
{% else %}<p>No value is missing.</p>{% endif %}
</section>

{% if accounts %}
<section id="privacy" aria-labelledby="h-privacy">
<h2 id="h-privacy">Privacy accounts</h2>
<p>What each client’s updates can tell, at most, about any one of the units named, whatever the attack: its probability of any outcome changes by a factor of at most e<sup>ε</sup> with one unit more or less, but for a chance of δ. The accounts add up over the rounds in which a client took part.</p>
{% if summary.refuting %}<p class="note"><strong>These figures are wrong.</strong> {{ summary.refuting.refutation }}</p>{% endif %}
<div class="scroll" tabindex="0" role="region" aria-label="Table: privacy accounts"><table>
<thead><tr><th scope="col">{{ term("hospital", "Client") }}</th><th scope="col" class="n">Rounds</th><th scope="col" class="n">{{ term("epsilon", "ε") }}</th><th scope="col" class="n">δ</th><th scope="col">Neighbours</th><th scope="col">Unit</th><th scope="col">Accountant</th><th scope="col">Protects against</th></tr></thead>
<tbody>{% for account in accounts[:limit] %}<tr><th scope="row">{{ account.client }}</th><td class="n">{{ account.rounds }}</td><td class="n">{{ account.epsilon | figure }}</td><td class="n">{{ "%.1e" | format(account.delta) }}</td><td>{{ account.neighbours }}</td><td>{{ account.unit }}</td><td>{{ account.accountant }}</td><td>{{ account.against }}</td></tr>
{% endfor %}</tbody></table></div>
{% if accounts | length > limit %}<p class="small">The {{ limit }} clients of {{ accounts | length }} that spent the most; all are in accounts.csv.</p>{% endif %}
</section>
{% endif %}
"""
