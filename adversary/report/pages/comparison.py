"""The page of a comparison."""

COMPARISON_PAGE = r"""{% from "macros" import badge %}
{% macro spread(value, std, digits) %}{{ value | figure(digits) }}{% if std is not none %} ± {{ std | figure(digits) }}{% endif %}{% endmacro %}
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
.front { color: #1d6b3c; font-weight: 600; white-space: nowrap; }
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
<h2 id="h-summary">In plain words</h2>
<ul>{% for sentence in summary %}<li>{{ sentence }}</li>
{% endfor %}</ul>
{% for note in cautions %}<p class="note">{{ note }}</p>
{% endfor %}
</section>

{% if chart %}
<section id="frontier" aria-labelledby="h-frontier">
<h2 id="h-frontier">Leakage against AUC</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Chart of leakage against AUC"><figure class="frontier" role="img" aria-label="{{ chart_text }}">{{ chart }}</figure></div>
<p class="small">A dot a setting, numbered as in the table; bars are standard deviations over seeds. The best place is below on the right. Filled and joined (Pareto front): no other setting has both less leakage and a higher AUC. The figures are in the table below.</p>
</section>
{% endif %}

{% if strip %}
<section id="patient" aria-labelledby="h-patient">
<h2 id="h-patient">One and the same patient</h2>
<p>{{ strip.truth }}, as reconstructed from one update of round {{ strip.round }} (seed {{ strip.seed }}) by each setting’s strongest attack.</p>
<ul class="strip">
<li><div class="thumb">{% if strip.picture %}<img src="{{ strip.picture }}" alt="True X-ray {{ strip.truth }}">{% else %}<span class="none">no picture</span>{% endif %}<span><strong>truth</strong></span></div></li>
{% for one in strip.panels %}
<li><div class="thumb">{% if one.picture %}<img src="{{ one.picture }}" alt="Reconstruction of {{ strip.truth }} under {{ one.label }} by {{ one.attack }}: {{ one.psnr | figure(1) }} dB">{% else %}<span class="none">{{ one.why }}</span>{% endif %}<span><strong>{{ one.number }}. {{ one.label }}</strong>{% if one.picture %}{{ one.psnr | figure(1) }} dB by {{ one.attack }}{% endif %}</span></div></li>
{% endfor %}
</ul>
</section>
{% endif %}

<section id="table" aria-labelledby="h-table">
<h2 id="h-table">All settings</h2>
<p>Leakage is that of the strongest attack run on each setting, the one with the highest mean PSNR; {{ "comparison_attacks.csv has a row for every attack." if same_conditions else "their reports have all others." }}</p>
<form class="filters" hidden aria-label="Show settings of"><label>Defence<select name="defence"><option value="">all</option>{% for name in defences %}<option value="{{ name }}">{{ name }}</option>{% endfor %}</select></label><button type="reset">Show all</button><output aria-live="polite"></output></form>
<div class="scroll" tabindex="0" role="region" aria-label="All settings"><table class="dense sortable">
<thead><tr><th scope="col" class="n">No.</th><th scope="col">Setting</th><th scope="col">Worst verdict</th><th scope="col">Attack</th><th scope="col" class="n">AUC</th><th scope="col" class="n">Loss</th><th scope="col" class="n">PSNR, dB</th><th scope="col" class="n">Worst PSNR</th><th scope="col" class="n">SSIM</th><th scope="col" class="n">LPIPS</th><th scope="col" class="n">RDLV</th><th scope="col" class="n">Re-identified</th><th scope="col" class="n">Bound, dB</th><th scope="col" class="n">Labels read</th><th scope="col" class="n">ε</th><th scope="col" class="n">δ</th><th scope="col" class="n">Seconds</th><th scope="col" class="n">Runs</th><th scope="col">Note</th></tr></thead>
<tbody>{% for row in rows %}<tr data-filtered="settings" data-defence="{{ row.setting.defence }}"><td class="n" data-value="{{ loop.index }}">{{ loop.index }}</td><th scope="row" data-value="{{ row.label }}"><a href="#setting-{{ loop.index }}">{{ row.label }}</a>{% if row.label in front %} <span class="front">on the front</span>{% endif %}</th><td data-value="{{ row.level.value }}">{{ badge(row.level) }}</td><td data-value="{{ row.attack or "" }}">{{ row.attack or "–" }}</td>
{{ cell(row.auc, spread(row.auc, row.auc_std, 3)) }}{{ cell(row.loss, row.loss | figure(3)) }}{{ cell(row.psnr, spread(row.psnr, row.psnr_std, 1)) }}{{ cell(row.psnr_worst, row.psnr_worst | figure(1)) }}{{ cell(row.ssim, row.ssim | figure(3)) }}{{ cell(row.lpips, row.lpips | figure(3)) }}{{ cell(row.rdlv, row.rdlv | figure) }}{{ cell(row.reidentified, row.reidentified | percent) }}{{ cell(row.bound_psnr, row.bound_psnr | figure(1)) }}{{ cell(row.label_accuracy, row.label_accuracy | percent) }}{{ cell(row.epsilon, row.epsilon | epsilon) }}{{ cell(row.delta, "–" if row.delta is none else "%.1e" | format(row.delta)) }}{{ cell(row.seconds, row.seconds | figure(1)) }}{{ cell(row.runs, row.runs) }}<td class="wrap" data-value="{{ row.note }}">{% if row.status != "completed" %}{{ row.status }}{{ ": " if row.note }}{% endif %}{{ row.note }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="small">± is the standard deviation over seeds. A dash is a value that cannot be had.</p>
</section>

<section id="defences" aria-labelledby="h-defences">
<h2 id="h-defences">The defences</h2>
<dl class="words">
{% for row in rows %}
<dt id="setting-{{ loop.index }}">{{ loop.index }}. {{ row.label }}</dt>
<dd>{{ row.setting.defence }}{% if row.setting.parameters %} ({{ row.setting.parameters }}){% endif %}. {{ row.protects }} {% for run in links[row.label] %}{% if loop.first %}Reports: {% endif %}<a href="{{ run.href }}">seed {{ run.seed }}</a>{{ ", " if not loop.last else "." }}{% endfor %}</dd>
{% endfor %}
</dl>
</section>

<section id="reading" aria-labelledby="h-reading">
<h2 id="h-reading">How to read it</h2>
<dl class="words">
{% if not same_conditions %}<dt>Different runs</dt><dd>These runs were made one by one. What they differ in is named with each under “The defences”; a difference in their figures may come from any of it. Runs that differ by their seed alone are one row.</dd>{% else %}
<dt>Same conditions</dt><dd>Every setting trains on the same images, dealt to the same clients, and is attacked in the same rounds, seed by seed. The attacker knows the defence unless a setting says otherwise.</dd>{% endif %}
<dt>AUC, loss</dt><dd>Of the global model after the last round, on images that no client has. AUC: 0.5 is guessing, 1 is perfect.</dd>
<dt>PSNR</dt><dd>Likeness of the reconstruction in decibels, the mean over all attacked images; higher gives away more. All chest X-rays look alike: the mean of a few reaches about 19 dB, so a difference below that says little. RDLV counts from there: 0 is no more than the mean public X-ray.</dd>
<dt>Re-identified</dt><dd>Share of the images for which the right patient comes first among all candidates.</dd>
<dt>Bound</dt><dd>The PSNR that no attack is expected to exceed on average, given the noise and a prior of public X-rays, where it was worked out; the reports of the runs say more.</dd>
<dt>ε and δ</dt><dd>Privacy loss over all rounds, only where the mechanism earns it; whom it protects from is said with the defence. A smaller ε promises more. ∞ is a mechanism without noise.</dd>
</dl>
<h3>Limits</h3>
<ul>
<li>A low figure says that the attacks run here saw little. It is no bound on what a better attack sees. ε is one, and so is the bound as far as its prior and its noise are right.</li>
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
