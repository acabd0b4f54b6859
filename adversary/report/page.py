"""The report's page, a Jinja template, and the style of all pages.

A module and not a file of its own, because Flower's bundle leaves out most kinds of files.
"""

STYLE = r"""
:root { --ink: #1b2430; --soft: #4a5563; --line: #d9dee5; --panel: #f5f7fa; --link: #1f5a96; color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main, header > div, nav > div { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem; }
header { background: #14243a; color: #fff; padding: 2rem 0 1.75rem; }
header p { margin: .25rem 0 0; color: #cfd9e6; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.35rem; margin: 2.75rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
a { color: var(--link); }
nav { border-bottom: 1px solid var(--line); background: var(--panel); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0; padding: .6rem 0; }
.verdict { font-size: 1.2rem; margin: 1.75rem 0 1.25rem; padding: 1rem 1.25rem; border-left: .4rem solid; background: var(--panel); }
.verdict strong { display: block; font-size: 1.45rem; line-height: 1.25; margin-bottom: .25rem; }
.verdict.l4, .verdict.l3 { border-color: #a31621; } .verdict.l2 { border-color: #9a5b00; } .verdict.l1 { border-color: #1d6b3c; } .verdict.l0 { border-color: #5c6670; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem; margin: 0; padding: 0; }
.numbers > div { border: 1px solid var(--line); border-radius: .5rem; padding: 1rem 1.25rem; }
.numbers dt { color: var(--soft); font-weight: 600; }
.numbers dd { margin: 0; } .numbers .big { font-size: 2rem; font-weight: 650; line-height: 1.25; }
.note { background: #fff6e0; border: 1px solid #e2c26b; border-radius: .5rem; padding: .75rem 1rem; margin: 1rem 0; }
.badge { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; font-size: .85rem; font-weight: 600; line-height: 1.5; white-space: nowrap; }
.badge.l4 { background: #a31621; color: #fff; } .badge.l3 { background: #fbdcd5; color: #7c1210; }
.badge.l2 { background: #fdeccb; color: #6b4000; } .badge.l1 { background: #d9efe0; color: #124c2a; } .badge.l0 { background: #e6e9ed; color: #39424d; }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible { outline: 3px solid var(--link); }
table { border-collapse: collapse; font-size: .92rem; margin: .5rem 0; }
th, td { text-align: left; padding: .4rem .75rem; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody th { white-space: nowrap; }
thead th { background: var(--panel); white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.dense { font-size: .82rem; } .dense thead th { white-space: normal; vertical-align: bottom; } .dense th, .dense td { padding: .35rem .45rem; }
.pairs th { font-weight: 600; white-space: nowrap; } .pairs td, .wrap { overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } .charts figcaption { font-weight: 600; } .charts svg { width: 100%; height: auto; display: block; }
.grids { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem; align-items: start; }
.grid { border: 1px solid var(--line); border-radius: .5rem; padding: .85rem; }
.grid figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .25rem .5rem; margin-bottom: .5rem; }
.grid .row { display: grid; grid-template-columns: repeat(3, 1fr); gap: .4rem; margin-top: .6rem; }
.grid .row.alone { grid-template-columns: 1fr 1fr; }
.thumb { font-size: .78rem; color: var(--soft); text-align: center; }
.thumb img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: #000; border-radius: .2rem; }
.thumb .none { display: grid; place-items: center; aspect-ratio: 1; background: var(--panel); border-radius: .2rem; }
.small { font-size: .87rem; color: var(--soft); margin: .35rem 0 0; overflow-wrap: anywhere; }
.bar { vertical-align: middle; width: 8rem; height: .7rem; margin: 0 .3rem; }
dl.words dt { font-weight: 600; margin-top: .6rem; } dl.words dd { margin: 0; }
footer { margin: 3rem 0 2rem; color: var(--soft); font-size: .87rem; }
@media (max-width: 40rem) { h1 { font-size: 1.4rem; } .verdict strong { font-size: 1.2rem; } .verdict { font-size: 1.05rem; } .badge { white-space: normal; } .stack thead { position: absolute; left: -100vw; } .stack tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0; } .stack th, .stack td { display: block; border: 0; padding: .15rem 0; } }
@media print { nav { display: none; } .grid, .numbers > div { break-inside: avoid; } header { background: #fff; color: #000; } header p { color: #333; } }
"""
"""What all pages look like."""

PAGE = (
    r"""{% macro badge(level) %}<span class="badge l{{ level.value }}">{{ level.label }}</span>{% endmacro %}
{% macro thumb(uri, label, alt) %}
<div class="thumb">{% if uri %}<img src="{{ uri }}" alt="{{ alt }}">{% else %}<span class="none">no picture</span>{% endif %}<span>{{ label }}</span></div>
{% endmacro %}
{% macro pairs(entries) %}
<table class="pairs">{% for key, value in entries %}<tr><th scope="row">{{ key }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Leakage report: {{ title }}</title>
<style>"""
    + STYLE
    + r"""</style>
</head>
<body>
<header><div>
<h1>What the server could see of the patients</h1>
<p>Leakage report of the run “{{ title }}”{% if info.get("started") %}, {{ info.started[:16] | replace("T", " ") }} UTC{% endif %}, status: {{ info.get("status", "unknown") }}</p>
</div></header>
<nav aria-label="Sections"><div><ul>
<li><a href="#summary">Summary</a></li>
{% for round in rounds %}<li><a href="#round-{{ round.number }}">Round {{ round.number }}</a></li>{% endfor %}
{% if accounts %}<li><a href="#privacy">Privacy accounts</a></li>{% endif %}<li><a href="#threat">Threat model</a></li><li><a href="#reading">How to read it</a></li><li><a href="#run">The run</a></li>
</ul></div></nav>
<main>

<section id="summary" aria-label="Summary">
<div class="verdict l{{ summary.level.value }}">
{% if not summary.images %}
<strong>No attack has finished yet.</strong> There is nothing to judge so far.
{% elif not summary.has_truth %}
<strong>Not measured: this run has no true images.</strong>
As in a real deployment, only what the attacker itself has is shown: its pictures and its own score. A low score does not prove that a picture is a patient.
{% elif summary.level.value >= 3 %}
<strong>The server could {{ "see" if summary.level.value == 4 else "single out" }} patients.</strong>
From {% if aggregate %}the mean of all clients’ updates{% else %}{{ summary.clients_seen }} of {{ summary.clients }} clients{% endif %}, in {{ summary.rounds_seen }} of {{ summary.rounds }} rounds, model updates alone gave away at least one patient{{ "’s X-ray" if summary.level.value == 4 }}.
{% elif summary.level.value == 2 %}
<strong>Updates left traces of the patients, but no patient could be told from the pictures.</strong>
Some pictures showed more than the average public X-ray does.
{% elif summary.level.value == 1 %}
<strong>These attacks saw no more than any chest X-ray shows.</strong>
A stronger attack may see more.
{% else %}
<strong>Not measured.</strong> No figure could be had; the reasons are given below.
{% endif %}
</div>
{% if info.get("status") == "running" %}<p class="note">This run is still going on; the page shows what has been written so far.</p>
{% elif info.get("status") in ("failed", "stopped") %}<p class="note"><strong>This run {{ "failed" if info.status == "failed" else "was stopped" }}.</strong> {{ info.get("reason", "") }} What was written before is shown.</p>{% endif %}
{% if data.get("synthetic") %}<p class="note"><strong>Synthetic images.</strong> They show no patients; the figures say how the attack works, not what leaks from real X-rays.</p>{% endif %}
{% if oracles %}<p class="note"><strong>Upper bound.</strong> The attacker was told more than a server knows: {{ oracles | join(", ") }}. A real server would have to guess it.</p>{% endif %}
{% if summary.images %}
<dl class="numbers">
{% if summary.has_truth %}
<div><dt>Worst patient</dt><dd class="big">{{ summary.worst.psnr | figure(1) }} dB</dd><dd>{{ summary.worst.truth }}<br>round {{ summary.worst.round }}, {{ summary.worst.client }}, attack {{ summary.worst.attack }}</dd></div>
<div><dt>Patients re-identified</dt><dd class="big">{{ summary.reidentified | percent }}</dd><dd>{% if summary.chance %}of {{ summary.images }} reconstructions; by chance {{ summary.chance | percent }} (one of {{ summary.candidates }} candidates){% elif summary.reidentified is none %}no candidates to choose among{% else %}of {{ summary.images }} reconstructions{% endif %}</dd></div>
<div><dt>Mean likeness</dt><dd class="big">{{ summary.mean_psnr | figure(1) }} dB</dd><dd>PSNR over all reconstructions; beyond the mean public X-ray (RDLV): {{ summary.mean_rdlv | figure }}</dd></div>
{% else %}
<div><dt>Reconstructions</dt><dd class="big">{{ summary.images }}</dd><dd>pictures from {{ summary.clients }} clients in {{ summary.rounds }} rounds</dd></div>
<div><dt>Attacker’s best own score</dt><dd class="big">{{ summary.worst.score | figure(4) }}</dd><dd>round {{ summary.worst.round }}, {{ summary.worst.client }}, attack {{ summary.worst.attack }}; lower is a better fit to the update</dd></div>
<div><dt>Attacks that failed</dt><dd class="big">{{ summary.failed }}</dd><dd>reasons below</dd></div>
{% endif %}
</dl>
{% endif %}

{% if charts %}
<h2>Leakage by round</h2>
<div class="charts">
{% for name, text, svg in charts %}<figure role="img" aria-label="{{ text }}"><figcaption>{{ name }}</figcaption>{{ svg }}</figure>
{% endfor %}
</div>
<p class="small">Faint marks are single images, lines are means. The figures behind the charts are in the tables of each round and in leakage.csv and rounds.csv.</p>
{% endif %}

{% if matrix and summary.has_truth %}
<h2>Verdict by client and round</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Verdict by client and round"><table>
<thead><tr><th scope="col">Client</th>{% for round in rounds %}<th scope="col">Round {{ round.number }}</th>{% endfor %}</tr></thead>
<tbody>{% for client, cells in matrix.items() %}<tr><th scope="row">{{ client }}</th>{% for round in rounds %}<td>{% if round.number in cells %}{{ badge(cells[round.number].level) }}<br><span class="small">{{ cells[round.number].best.psnr | figure(1) }} dB</span>{% else %}–{% endif %}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endif %}
</section>

{% for round in rounds %}
<section id="round-{{ round.number }}" aria-labelledby="h-round-{{ round.number }}">
<h2 id="h-round-{{ round.number }}">Round {{ round.number }}</h2>
{% if round.training %}<p>Global model after this round: loss {{ round.training.loss | figure(3) }}, AUC {{ round.training.auc | figure(3) }}{% if data.get("evaluated_on") %} on {{ data.get(data.get("evaluated_on")) }} {{ data.get("evaluated_on") }} X-rays{% endif %}.{% if round.training.epsilon is not none %} Privacy spent so far: ε = {{ round.training.epsilon | figure }}{% if round.training.delta is not none %} at δ = {{ "%.1e" | format(round.training.delta) }}{% endif %}.{% endif %}{% if round.training.client_auc is not none %} With the clients themselves its AUC is {{ round.training.client_auc | figure(3) }} on average.{% endif %}{% if round.training.lr is not none %} They trained with a learning rate of {{ round.training.lr | figure }}.{% endif %}{% if round.training.clients is not none %} {{ round.training.clients }} clients replied{% if round.training.clients_failed %}, {{ round.training.clients_failed }} failed{% endif %}.{% endif %}{% if round.training.seconds is not none %} It took {{ round.training.seconds | figure(1) }} s.{% endif %}</p>{% endif %}
{% if round.verdicts %}
<h3>Verdict for each client</h3>
<div class="scroll" tabindex="0" role="region" aria-label="Verdicts of round {{ round.number }}"><table class="stack">
<thead><tr><th scope="col">Client</th><th scope="col">Verdict</th><th scope="col">What it means</th></tr></thead>
<tbody>{% for verdict in round.verdicts %}<tr><th scope="row">{{ verdict.client }}</th><td>{{ badge(verdict.level) }}</td><td>{{ verdict.level.meaning }}{% if verdict.best.psnr is not none %} Best picture: {{ verdict.best.psnr | figure(1) }} dB by {{ verdict.best.attack }}{% if verdict.best.rank is not none %}; the true patient comes {{ "first" if verdict.best.rank == 1 else "as number %d" | format(verdict.best.rank) }} among {{ summary.candidates or "the" }} candidates{% endif %}.{% elif verdict.best.status != "ok" %} Every attack failed.{% endif %}</td></tr>
{% endfor %}</tbody></table></div>
{% endif %}
{% if round.grids %}
<h3>Pictures, worst first</h3>
<div class="grids">
{% for grid in round.grids %}
<figure class="grid">
<figcaption><strong>{{ grid.client }} · {{ grid.attack }}</strong>{% if summary.has_truth %}{{ badge(grid.level) }}{% endif %}</figcaption>
{% for panel in grid.panels %}
{% set who = (panel.row.truth or "image %d" | format(panel.row.image)) %}
<div class="row{% if not panel.truth %} alone{% endif %}">
{% if panel.truth %}{{ thumb(panel.truth, "truth", "True X-ray " ~ who) }}{% endif %}
{{ thumb(panel.reconstruction, "reconstruction", "Reconstruction of " ~ who ~ " from the update of " ~ grid.client ~ " by " ~ grid.attack) }}
{% if panel.truth %}{{ thumb(panel.error, "error", "Absolute error of the reconstruction of " ~ who) }}{% endif %}
{% if panel.bound %}{{ thumb(panel.bound, "least error of any attacker", "Least standard deviation by pixel of any reconstruction of " ~ who ~ ", brightest where it is largest") }}{% endif %}
</div>
<p class="small">{{ who }}: {% if panel.row.psnr is not none %}{{ panel.row.psnr | figure(1) }} dB{% if panel.row.bound_psnr is not none %} (bound {{ panel.row.bound_psnr | figure(1) }} dB){% endif %}, SSIM {{ panel.row.ssim | figure }}, RDLV {{ panel.row.rdlv | figure }}{% if panel.row.rank is not none %}, rank {{ panel.row.rank }}{% if summary.candidates %} of {{ summary.candidates }}{% endif %}{% endif %}{% else %}attacker’s own score {{ panel.row.score | figure(4) }}{% if panel.row.label_recovered is not none %}, label read from the update: {{ panel.row.label_recovered }}{% endif %}{% endif %}</p>
{% endfor %}
{% if grid.best.note %}<p class="small">The attacker notes: {{ grid.best.note }}.</p>{% endif %}
{% if grid.process %}<p class="small">How each picture came about, trial by trial: <a href="{{ grid.process }}/">{{ grid.process }}/</a></p>{% endif %}
{% if grid.panels | length < grid.images %}<p class="small">{{ grid.panels | length }} of {{ grid.images }} images shown, worst first. All of them: {{ grid.file | replace("grid.png", "") }}</p>{% endif %}
</figure>
{% endfor %}
</div>
{% if summary.has_truth %}<p class="small">Absolute error: 0 <img class="bar" src="{{ colour_bar }}" alt="from black over purple and orange to yellow"> {{ error_scale }} or more (of a range from 0 to 1); the same scale everywhere.</p>{% endif %}
{% endif %}
{% if round.rows %}
<h3>Figures</h3>
<div class="scroll" tabindex="0" role="region" aria-label="Figures of round {{ round.number }}"><table class="dense">
<thead><tr><th scope="col">Client</th><th scope="col">Attack</th>{% if summary.has_truth %}<th scope="col">True image</th><th scope="col" class="n">MSE</th><th scope="col" class="n">PSNR</th><th scope="col" class="n">Bound</th><th scope="col" class="n">SSIM</th><th scope="col" class="n">LPIPS</th><th scope="col" class="n">FFT-2D</th><th scope="col" class="n">RDLV</th><th scope="col" class="n">Rank</th>{% endif %}<th scope="col">{{ "Label, true / read" if summary.has_truth else "Label read" }}</th><th scope="col" class="n">Own score</th><th scope="col" class="n">Evaluations</th><th scope="col" class="n">Seconds</th></tr></thead>
<tbody>{% for row in round.rows %}<tr><th scope="row">{{ row.client }}</th><td>{{ row.attack }}</td>
{%- if row.status != "ok" %}<td colspan="{{ 13 if summary.has_truth else 4 }}">failed, see <a href="#failures">failures</a></td>
{%- else %}{% if summary.has_truth %}<td>{{ row.truth }}</td><td class="n">{{ row.mse | figure(5) }}</td><td class="n">{{ row.psnr | figure(1) }}</td><td class="n">{{ row.bound_psnr | figure(1) }}</td><td class="n">{{ row.ssim | figure(3) }}</td><td class="n">{{ row.lpips | figure(3) }}</td><td class="n">{{ row.fft2d | figure(3) }}</td><td class="n">{{ row.rdlv | figure }}</td><td class="n">{{ "–" if row.rank is none else row.rank }}</td>{% endif %}<td>{% if summary.has_truth %}{{ row.label_true or "–" }} / {% endif %}{{ row.label_recovered or "–" }}</td><td class="n">{{ row.score | figure(4) }}</td><td class="n">{{ "–" if row.evaluations is none else row.evaluations }}</td><td class="n">{{ row.seconds | figure(1) }}</td>{% endif %}</tr>
{% endfor %}</tbody></table></div>
{% endif %}
</section>
{% endfor %}

{% if accounts %}
<section id="privacy" aria-labelledby="h-privacy">
<h2 id="h-privacy">Privacy accounts</h2>
<p>What each client’s updates can tell, at most, about any one of the units named, whatever the attack: its probability of any outcome changes by a factor of at most e<sup>ε</sup> with one unit more or less, but for a chance of δ. The accounts add up over the rounds in which a client took part.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Privacy accounts"><table>
<thead><tr><th scope="col">Client</th><th scope="col" class="n">Rounds</th><th scope="col" class="n">ε</th><th scope="col" class="n">δ</th><th scope="col">Neighbours</th><th scope="col">Unit</th><th scope="col">Accountant</th><th scope="col">Protects against</th></tr></thead>
<tbody>{% for account in accounts %}<tr><th scope="row">{{ account.client }}</th><td class="n">{{ account.rounds }}</td><td class="n">{{ account.epsilon | figure }}</td><td class="n">{{ "%.1e" | format(account.delta) }}</td><td>{{ account.neighbours }}</td><td>{{ account.unit }}</td><td>{{ account.accountant }}</td><td>{{ account.against }}</td></tr>
{% endfor %}</tbody></table></div>
</section>
{% endif %}

<section id="threat" aria-labelledby="h-threat">
<h2 id="h-threat">Threat model: what the attacker knows</h2>
{% if info.get("audit") %}<p>The attacker has the model before and after training, {% if aggregate %}the mean of what {{ info.get("clients") | length }} clients made of it{% else %}as one client returned it{% endif %}, and was told how it was trained: architecture, loss, learning rate and batches. It has public X-rays, none of them of the patients here.</p>
{% else %}<p>The attacker is the server itself: it follows the protocol, and looks at what it receives. It knows the model, what it sent, {% if aggregate %}the mean of what the clients returned{% else %}what each client returned{% endif %}, and the local training that it prescribed. {% if aggregate %}Of one client alone it has a masked update, its number of images and its loss: by secure aggregation the masks cancel in the mean only. To show what that gives away, one masked update a round is attacked too, under the client’s name with “-masked”; the verdict above leaves it out. {% endif %}It has public X-rays, none of them of the patients here.</p>
{% endif %}<p>{% if oracles %}<strong>Beyond that it was told (oracle):</strong></p>
<ul>{% for oracle in oracles %}<li><span class="badge l3">oracle</span> {{ oracle }}</li>{% endfor %}</ul>
<p>With these grants the figures are an upper bound on what this attack reaches in the field.{% else %}<strong>It was told nothing beyond that.</strong>{% endif %}</p>
{% if threat %}{{ pairs(threat) }}{% endif %}
</section>

<section id="failures" aria-labelledby="h-failures">
<h2 id="h-failures">Failures and missing values</h2>
{% if failures %}
<div class="scroll" tabindex="0" role="region" aria-label="Failures"><table>
<thead><tr><th scope="col">Round</th><th scope="col">Client</th><th scope="col">Attack</th><th scope="col">Reason</th></tr></thead>
<tbody>{% for failure in failures %}<tr><td>{{ failure.get("round", "–") }}</td><td>{{ failure.get("client", "–") }}</td><td>{{ failure.get("attack", "–") }}</td><td class="wrap">{{ failure.get("reason", "–") }}</td></tr>{% endfor %}</tbody></table></div>
<p>An attack that failed says nothing about what a working one would see.</p>
{% else %}<p>No attack failed.</p>{% endif %}
{% if without_images %}<p>No image went into the update of {% for one in without_images %}{{ one.get("client", "–") }} in round {{ one.get("round", "–") }}{{ ", " if not loop.last }}{% endfor %}: its random batches were empty, so there was nothing to reconstruct.</p>{% endif %}
{% if missing %}
<div class="scroll" tabindex="0" role="region" aria-label="Missing values"><table>
<thead><tr><th scope="col">Missing value</th><th scope="col">Rows</th><th scope="col">Why</th></tr></thead>
<tbody>{% for name, count, reason in missing %}<tr><th scope="row">{{ name }}</th><td>{{ count }}</td><td class="wrap">{{ reason }}</td></tr>{% endfor %}</tbody></table></div>
{% else %}<p>No value is missing.</p>{% endif %}
</section>

<section id="reading" aria-labelledby="h-reading">
<h2 id="h-reading">How to read it</h2>
<h3>Verdicts</h3>
<table><thead><tr><th scope="col">Verdict</th><th scope="col">Given for</th></tr></thead>
<tbody>{% for level in levels %}<tr><td>{{ badge(level) }}</td><td>{{ level.rule }}</td></tr>{% endfor %}</tbody></table>
<p>The highest that applies. A client’s verdict is that of its most revealing picture.</p>
<h3>Figures</h3>
<dl class="words">
<dt>PSNR</dt><dd>Peak signal-to-noise ratio in decibels, higher is closer. 10 dB more is a tenth of the squared error (MSE). All chest X-rays look alike: the mean of a few reaches about 19 dB.</dd>
<dt>Bound</dt><dd>The PSNR that no attacker is expected to exceed: {% if bound.get("kind") == "Cramer-Rao" %}the Cramér-Rao bound of an unbiased attacker at the true image{% else %}the variance that the noise of the update leaves at the true image to an attacker whose prior is a normal distribution learned from public X-rays (the Bayesian Cramér-Rao bound, taken at this image: it is one on the average over images, a single one may come back better by luck, and under strong noise a better prior sees more){% endif %}. It is found from the model and the noise, with labels and batches given, without running an attack. Where rounding is the only noise it is a good guide and no theorem.{% if bound.get("method") == "stochastic" %} Here it is estimated, with a standard error of at most {{ bound.get("error") | figure }} dB{% if not bound.get("converged", True) %}; the estimate was cut short, so that the true bound is lower{% endif %}.{% endif %}</dd>
<dt>SSIM</dt><dd>Structural similarity, 1 for identical images.</dd>
<dt>RDLV</dt><dd>Relative data leakage value: how much the SSIM exceeds that of the mean public X-ray, as a fraction of it. 0 means that the attack shows nothing but a chest X-ray; negative means less.</dd>
<dt>Rank, re-identified</dt><dd>The place of the true patient when all candidates are ordered by correlation with the reconstruction; re-identified means first. Compare it with chance.</dd>
<dt>LPIPS</dt><dd>Perceptual distance by a neural network (SqueezeNet), 0 for identical images.</dd>
<dt>FFT-2D</dt><dd>Similarity of the Fourier spectra, 1 for identical images; about 0.5 for unrelated images of like brightness.</dd>
<dt>Own score</dt><dd>The attack’s own objective, lower is a better fit to the update. It is all that a real attacker has to choose by.</dd>
</dl>
<h3>Limits</h3>
<ul>
<li>These figures are what the attacks named here reached. They are no upper bound on what a better attack could see; where there is a figure for it, the bound says what no attacker with such a prior is expected to exceed.</li>
<li>Matching with the true images uses the least squared error, which favours the attacker; the choice among an attack’s restarts does not use the truth.</li>
<li>Re-identification is among the candidates of this run. Among more patients it is harder, and with other knowledge about a patient easier.</li>
<li>The report can support a data-protection impact assessment (GDPR, Article 35). EDPB Opinion 28/2024 asks whether personal data can be obtained from a model by means reasonably likely to be used. This page is evidence for that judgement, not the judgement.</li>
</ul>
</section>

<section id="run" aria-labelledby="h-run">
<h2 id="h-run">The run</h2>
{{ pairs([
  ("status", info.get("status", "–")), ("started", info.get("started", "–")), ("ended", info.get("ended", "–")),
  ("wall time", "%.1f s" | format(info.seconds) if info.get("seconds") is number else "–"),
  ("seed", info.get("seed", "–")), ("device", info.get("device", "–")), ("revision", info.get("revision", "–")),
  ("data", data.get("name", "–")), ("attribution", data.get("attribution", "–")), ("synthetic images", "yes" if data.get("synthetic") else "no"),
]) }}
{% if settings %}<h3>Settings</h3>{{ pairs(settings) }}{% endif %}
{% if versions %}<h3>Versions</h3>{{ pairs(versions) }}{% endif %}
</section>
<footer>This page holds images of patients where the data are real: keep it as you keep the X-rays. It loads nothing from a network.</footer>
</main>
</body>
</html>
"""
)
