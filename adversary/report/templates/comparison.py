"""The page of a comparison."""

COMPARISON_PAGE = r"""{% from "macros" import badge %}
{% macro spread(value, std, digits) %}{{ value | figure(digits) }}{% if std is not none %} ± {{ std | figure(digits) }}{% endif %}{% endmacro %}
{% macro span(row) %}{% if row.psnr_worst is none %}{{ row.status if row.status != "completed" else "not attacked" }}{% else %}{{ row.psnr_worst | figure(1) }} dB, {% if row.bound_psnr_worst is none %}no bound{% else %}bound {{ row.bound_psnr_worst | figure(1) }} dB{% endif %}{% endif %}{% endmacro %}
{% macro cell(value, text) %}<td class="n" data-value="{{ "" if value is none else value }}">{{ text }}</td>{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy(script) }}">
<title>Defences compared: {{ title }}</title>
<style>
{% include "style" %}
.sortable button { font: inherit; color: inherit; background: none; border: 0; padding: 0; text-align: inherit; cursor: pointer; }
.sortable button::after { content: " \2195"; color: var(--soft); } .sortable [aria-sort=ascending] button::after { content: " \2191"; } .sortable [aria-sort=descending] button::after { content: " \2193"; }
.sortable button:focus-visible { outline: 3px solid var(--link); }
.frontier svg { width: 100%; min-width: 30rem; max-width: 52rem; height: auto; display: block; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .9rem; align-items: start; padding: 0; margin: 0; list-style: none; }
.strip .thumb img { image-rendering: pixelated; } .strip strong { color: var(--ink); display: block; overflow-wrap: anywhere; }
.strip .badge { white-space: normal; } .verdict-of .badge { white-space: normal; } td.verdict-of { min-width: 9.3rem; } .sortable tbody th { white-space: normal; min-width: 7rem; }
.badge.l5 { background: #a31621; color: #fff; } .badge.l4 { background: #fbdcd5; color: #7c1210; } .badge.l3 { background: #fdeccb; color: #6b4000; }
.badge.l2 { background: #fff; color: #39424d; outline: 2px dashed #5c6670; outline-offset: -2px; } .badge.l1 { background: #d9efe0; color: #124c2a; }
.standings { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); gap: 1rem; margin: 1.5rem 0; }
.standing { border: 1px solid var(--line); border-top: .4rem solid #5c6670; border-radius: .4rem; padding: .75rem 1rem 1rem; }
.standing.leaks { border-top-color: #a31621; } .standing.partly { border-top-color: #b3431e; } .standing.open { border: 2px dashed #5c6670; } .standing.protects { border-top-color: #1d6b3c; }
.standing h3 { margin: 0; } .standing .many { font-size: 1.8rem; font-weight: 650; line-height: 1.2; margin: 0; } .standing p { margin: .2rem 0; font-size: .87rem; }
.standing ul { list-style: none; padding: 0; margin: .5rem 0 0; font-size: .92rem; } .standing .span { color: var(--soft); white-space: nowrap; }
.said { display: block; color: var(--soft); font-size: .78rem; margin-top: .15rem; }
td.wrap { min-width: 10rem; }
tr.starts td, tr.starts th { border-top: 2px solid #5c6670; }
@media (max-width: 30rem) { .strip { grid-template-columns: 1fr 1fr; } }
</style>
</head>
<body>
<header><div>
<h1>What protects, and what it costs</h1>
<p>Defences compared in “{{ title }}”: {{ rows | length }} settings, {{ runs_done }} of {{ runs_all }} runs completed</p>
</div></header>
<nav aria-label="Sections"><div><ul>
<li><a href="#summary">Summary</a></li>{% if chart %}<li><a href="#frontier">Leakage and AUC</a></li>{% endif %}{% if strip %}<li><a href="#patient">One patient</a></li>{% endif %}<li><a href="#table">Table</a></li><li><a href="#defences">The defences</a></li><li><a href="#reading">How to read it</a></li>
</ul></div></nav>
<main>
<section id="summary" aria-labelledby="h-summary">
<h2 id="h-summary">What is settled, and what is open</h2>
<div class="standings">
{% for group in groups %}
<div class="standing {{ group.standing.kind }}"><h3>{{ group.standing.title }}</h3><p class="many">{{ group.members | length }}</p><p>{{ group.standing.meaning }}</p>
{% if group.members %}<ul>{% for number, row in group.members %}<li><a href="#setting-{{ number }}">{{ number }}. {{ row.label }}</a> <span class="span">{{ span(row) }}</span></li>
{% endfor %}</ul>{% endif %}</div>
{% endfor %}
</div>
<h3>In plain words</h3>
<ul>{% for sentence in summary %}<li>{{ sentence }}</li>
{% endfor %}</ul>
{% for note in examined %}<p class="small">{{ note }}</p>
{% endfor %}
{% for note in cautions %}<p class="note">{{ note }}</p>
{% endfor %}
</section>

{% if chart %}
<section id="frontier" aria-labelledby="h-frontier">
<h2 id="h-frontier">Leakage against AUC</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Chart of leakage against AUC"><figure class="frontier" role="img" aria-label="{{ chart_text }}">{{ chart }}</figure></div>
<p class="small">A bar a setting, numbered as in the table: from what the strongest attack reached in the worst image, a lower limit of the leak, up to the bound, an upper one. Dotted with an arrow: no bound is known. Hollow: open, so the truth may lie anywhere along the bar. Settings of nearly the same AUC stand side by side; above 40 dB, where pictures are copies, and below 10 dB the axis is compressed.{% if front %} The line joins the upper limits that no other setting beats without a lower AUC (Pareto front).{% else %} There is no Pareto front: it takes upper limits, and models that have learnt something.{% endif %}</p>
</section>
{% endif %}

{% if strip %}
<section id="patient" aria-labelledby="h-patient">
<h2 id="h-patient">One and the same patient</h2>
<p>{{ strip.truth }}, as reconstructed from one update of round {{ strip.round }} (seed {{ strip.seed }}) by each setting’s strongest attack.</p>
<ul class="strip">
<li><div class="thumb">{% if strip.picture %}<img src="{{ strip.picture }}" alt="True X-ray {{ strip.truth }}">{% else %}<span class="none">no picture</span>{% endif %}<span><strong>truth</strong></span></div></li>
{% for one in strip.panels %}
<li><div class="thumb">{% if one.picture %}<img src="{{ one.picture }}" alt="Reconstruction of {{ strip.truth }} under {{ one.label }} by {{ one.attack }}: {{ one.psnr | figure(1) }} dB">{% else %}<span class="none">{{ one.why }}</span>{% endif %}<span><strong>{{ one.number }}. {{ one.label }}</strong>{% if one.picture %}{{ one.psnr | figure(1) }} dB by {{ one.attack }}{% endif %} {{ badge(one.level) }}</span></div></li>
{% endfor %}
</ul>
</section>
{% endif %}

<section id="table" aria-labelledby="h-table">
<h2 id="h-table">All settings</h2>
<p>Worst first; open settings stand between those that leak and those that protect. Figures are those of the strongest attack run on each setting, the one whose worst image gives away most; {{ "comparison_attacks.csv has a row for every attack." if same_conditions else "their reports have all others." }}</p>
<form class="filters" hidden aria-label="Show settings of"><label>Defence<select name="defence"><option value="">all</option>{% for name in defences %}<option value="{{ name }}">{{ name }}</option>{% endfor %}</select></label><button type="reset">Show all</button><output aria-live="polite"></output></form>
<div class="scroll" tabindex="0" role="region" aria-label="All settings"><table class="dense sortable">
<thead><tr><th scope="col" class="n">No.</th><th scope="col">Setting</th><th scope="col">Verdict</th><th scope="col" class="n">Worst PSNR, dB</th><th scope="col" class="n">Bound, dB</th><th scope="col" class="n">Proved</th><th scope="col" class="n">Mean PSNR</th><th scope="col" class="n">Mean X-ray</th><th scope="col" class="n">Null</th><th scope="col" class="n">Re-identified</th><th scope="col" class="n">AUC</th><th scope="col" class="n">ε</th><th scope="col">Attack</th><th scope="col">Flags, notes</th></tr></thead>
<tbody>{% for row in rows %}<tr{% if not loop.first and loop.previtem.level != row.level %} class="starts"{% endif %} data-filtered="settings" data-defence="{{ row.setting.defence }}"><td class="n" data-value="{{ loop.index }}">{{ loop.index }}</td><th scope="row" data-value="{{ row.label }}"><a href="#setting-{{ loop.index }}">{{ row.label }}</a></th><td class="verdict-of" data-value="{{ row.level.value }}">{{ badge(row.level) }}<span class="said">{{ standings[row.level].said }}</span></td>
{{ cell(row.psnr_worst, row.psnr_worst | figure(1)) }}{{ cell(row.bound_psnr_worst, row.bound_psnr_worst | figure(1)) }}{{ cell(row.proved, row.proved | percent) }}{{ cell(row.psnr, spread(row.psnr, row.psnr_std, 1)) }}{{ cell(row.prior_psnr, row.prior_psnr | figure(1)) }}{{ cell(row.null_psnr, row.null_psnr | figure(1)) }}{{ cell(row.reidentified, row.reidentified | percent) }}{{ cell(row.auc, row.auc | figure(3)) }}{{ cell(row.epsilon, row.epsilon | epsilon) }}<td data-value="{{ row.attack or "" }}">{{ row.attack or "–" }}</td><td class="wrap" data-value="{{ row.flags | length }}">{% for name in row.flags %}{{ titles.get(name, name) }}{{ "; " if not loop.last }}{% endfor %}{% if row.flags and (row.note or row.status != "completed") %}<br>{% endif %}{% if row.status != "completed" %}{{ row.status }}{{ ": " if row.note }}{% endif %}{{ row.note }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="small">± is the standard deviation over seeds. A dash is a value that cannot be had.</p>
<h3>Further figures</h3>
<div class="scroll" tabindex="0" role="region" aria-label="Further figures"><table class="dense">
<thead><tr><th scope="col" class="n">No.</th><th scope="col">Setting</th><th scope="col" class="n">Bound, mean</th><th scope="col" class="n">Expected</th><th scope="col" class="n">SSIM</th><th scope="col" class="n">LPIPS</th><th scope="col" class="n">RDLV</th><th scope="col" class="n">Labels read</th><th scope="col" class="n">AUC</th><th scope="col" class="n">Loss</th><th scope="col" class="n">δ</th><th scope="col" class="n">Images</th><th scope="col" class="n">Runs</th><th scope="col" class="n">Seconds</th></tr></thead>
<tbody>{% for row in rows %}<tr><td class="n">{{ loop.index }}</td><td>{{ row.label }}</td><td class="n">{{ row.bound_psnr | figure(1) }}</td><td class="n">{{ row.expected_psnr | figure(1) }}</td><td class="n">{{ row.ssim | figure(3) }}</td><td class="n">{{ row.lpips | figure(3) }}</td><td class="n">{{ row.rdlv | figure }}</td><td class="n">{{ row.label_accuracy | percent }}</td><td class="n">{{ spread(row.auc, row.auc_std, 3) }}</td><td class="n">{{ row.loss | figure(3) }}</td><td class="n">{{ "–" if row.delta is none else "%.1e" | format(row.delta) }}</td><td class="n">{{ row.images }}</td><td class="n">{{ row.runs }}</td><td class="n">{{ row.seconds | figure(1) }}</td></tr>
{% endfor %}</tbody></table></div>
</section>

<section id="defences" aria-labelledby="h-defences">
<h2 id="h-defences">The defences</h2>
<dl class="words">
{% for row in rows %}
<dt id="setting-{{ loop.index }}">{{ loop.index }}. {{ row.label }}</dt>
<dd>{{ badge(row.level) }} {{ row.setting.defence }}{% if row.setting.parameters %} ({{ row.setting.parameters }}){% endif %}. {{ "Claims nothing: without noise the mechanism earns no ε." if row.unearned else row.protects }}{% if row.images %} Examined: {{ row.examined }}.{% endif %} {% for run in links[row.label] %}{% if loop.first %}Reports: {% endif %}<a href="{{ run.href }}">seed {{ run.seed }}</a>{{ ", " if not loop.last else "." }}{% endfor %}</dd>
{% endfor %}
</dl>
</section>

{% if flags %}
<section id="flags" aria-labelledby="h-flags">
<h2 id="h-flags">Flags raised</h2>
<dl class="words">
{% for flag in flags %}<dt>{{ flag.title }}</dt><dd>{{ flag.meaning }} {{ flag.action }}</dd>
{% endfor %}
</dl>
</section>
{% endif %}

<section id="reading" aria-labelledby="h-reading">
<h2 id="h-reading">How to read it</h2>
<dl class="words">
{% if not same_conditions %}<dt>Different runs</dt><dd>These runs were made one by one. What they differ in is named with each under “The defences”; a difference in their figures may come from any of it. Runs that differ by their seed alone are one row.</dd>{% else %}
<dt>Same conditions</dt><dd>Every setting trains on the same images, dealt to the same clients, and is attacked in the same rounds, seed by seed. The attacker knows the defence unless a setting says otherwise.</dd>{% endif %}
<dt>AUC, loss</dt><dd>Of the global model after the last round, on images that no client has. AUC: 0.5 is guessing, 1 is perfect.</dd>
<dt>Verdict</dt><dd>Of the worst image examined. An attack is a lower limit of what leaks, a bound an upper one, so only a bound or the attacker’s posterior says “protected”, and only where it does so of every image.</dd>
{% for level in standings %}<dt>{{ badge(level) }}</dt><dd>{{ level.meaning }} Given when {{ level.rule }}.</dd>
{% endfor %}
<dt>PSNR</dt><dd>Likeness of the reconstruction in decibels; higher gives away more. All chest X-rays look alike, so beside it stand the mean public X-ray (“mean X-ray”), and what the same reconstruction scores beside patients whom it did not come from (“null”). RDLV counts from the mean X-ray: 0 is no more.</dd>
<dt>Bound</dt><dd>The PSNR that no attack is expected to exceed, given the noise and a prior of public X-rays: here of the image with the most to see. It is an average: a single picture may lie a few dB above it.</dd>
<dt>Proved, expected</dt><dd>Share of the images of which the attacker can prove, without the truth, that they are right, and the PSNR that it expects of them.</dd>
<dt>Re-identified</dt><dd>Share of the images for which the right patient comes first among all candidates.</dd>
<dt>ε and δ</dt><dd>Privacy loss over all rounds, only where the mechanism earns it; whom it protects from is said with the defence. A smaller ε promises more. A mechanism without noise earns none.</dd>
</dl>
<h3>Limits</h3>
<ul>
<li>A low PSNR of an attack is no evidence of safety. A bound is one as far as its prior and its noise are right.</li>
<li>What was not examined, other hospitals, rounds and images, is not judged.</li>
<li>An attack that failed counts for nothing, neither for nor against a defence; the note tells of it.</li>
<li>Differences within the standard deviations are no differences.</li>
</ul>
</section>
<footer>{% if sensitive %}This page holds no picture of a patient and no name of a file.{% else %}This page holds images of patients where the data are real: keep it as you keep the X-rays.{% endif %} It loads nothing from a network.</footer>
</main>
<script>{{ script }}</script>
</body>
</html>
"""
