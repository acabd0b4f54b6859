"""The page of a comparison."""

COMPARISON_PAGE = r"""{% from "macros" import badge, glossary, ruler_of, term %}
{% macro spread(value, std, digits) %}{{ value | figure(digits) }}{% if std is not none %} ± {{ std | figure(digits) }}{% endif %}{% endmacro %}
{% macro span(row) %}{% if row.psnr_worst is none %}{{ row.status if row.status != "completed" else "not attacked" }}{% else %}{{ row.psnr_worst | figure(1) }} dB, {% if row.bound_psnr_worst is none %}no bound{% else %}bound {{ row.bound_psnr_worst | figure(1) }} dB{% if row.limit is none %}, of some images none{% endif %}{% endif %}{% endif %}{% endmacro %}
{% macro bar(row) %}{% set one = bars[row.label] %}{% if one %}<div class="bar-of {{ standings[row.level].kind }}" aria-hidden="true">{% for tick, at in ticks %}<i style="left: {{ "%.1f" | format(at) }}%"{% if loop.last %} class="copies"{% endif %}></i>{% endfor %}<b{% if one.open_ended %} class="endless"{% endif %} style="left: {{ "%.1f" | format(one.start) }}%; width: {{ "%.1f" | format(one.length) }}%"></b></div><span class="axis" aria-hidden="true">{% for tick, at in ticks %}<span style="left: {{ "%.1f" | format(at) }}%">{{ tick }}</span>{% endfor %}</span>{% endif %}{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy(script) }}">
<title>Defences compared: {{ title }}</title>
<style>
{% include "style" %}{% include "print" %}
@page { size: A4 landscape; }
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
.standing ul { list-style: none; padding: 0; margin: .5rem 0 0; font-size: .92rem; } .standing .span { color: var(--soft); }
.said { display: block; color: var(--soft); font-size: .78rem; margin-top: .15rem; }
.axis, .bar-of { position: relative; min-width: 15rem; } .bar-of { height: 1.15rem; background: linear-gradient(90deg, #fff, #fff); border: 1px solid var(--line); }
.bar-of i { position: absolute; top: 0; bottom: 0; border-left: 1px solid var(--line); } .bar-of i.copies { right: 0; background: repeating-linear-gradient(135deg, #f3dede 0 5px, #fff 5px 10px); }
.bar-of b { position: absolute; top: .2rem; bottom: .2rem; min-width: 3px; background: #a31621; } .bar-of.partly b { background: #b3431e; } .bar-of.open b { background: #fff; border: 2px dashed #4a5563; } .bar-of.protects b { background: #1d6b3c; } .bar-of.unknown b { background: #5c6670; } .bar-of b.endless { border-right: 0; border-top-right-radius: 0; }
.axis span { position: absolute; transform: translateX(-50%); font-size: .72rem; font-weight: 400; color: var(--soft); } .axis { height: 1rem; display: block; }
.promise th { background: #e8ecf2; white-space: normal; } .promise span { font-weight: 400; display: block; font-size: .87rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .3rem; } .pairs-of { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: 1rem; padding: 0; margin: 0; list-style: none; } .pairs-of li { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem; } .pairs-of strong { display: block; overflow-wrap: anywhere; }
#summary h2 { margin-top: .5rem; border-top: 0; } .pairs-of .badge { margin-top: .25rem; }
@media print { #table { break-before: page; } #table h2 { margin-top: 0; border-top: 0; } .standings { grid-template-columns: repeat(4, 1fr); } .pairs-of { grid-template-columns: repeat(6, minmax(0, 1fr)); gap: .4rem; padding-right: 1px; } .pairs-of li, .standing { break-inside: avoid; } .frontier svg { max-width: 17cm; } .bar-of, .bar-of b, .bar-of i { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
@media (max-width: 40rem) { .axis { display: none; } .bar-of { min-width: 0; } .frontier svg { min-width: 0; } }
td.wrap { min-width: 10rem; }
tr.starts td, tr.starts th { border-top: 2px solid #5c6670; }
@media (max-width: 30rem) { .strip { grid-template-columns: 1fr 1fr; } }
</style>
</head>
<body>
<aside class="notice" aria-label="Confidentiality">{{ notice }}</aside>
<header><div>
<h1>What protects, and what it costs</h1>
<p>Defences compared in “{{ title }}”: {{ rows | length }} settings, {{ runs_done }} of {{ runs_all }} runs completed</p>
</div></header>
<nav aria-label="Sections"><div><ul>
<li><a href="#summary">Summary</a></li>{% if chart %}<li><a href="#frontier">Leakage and AUC</a></li>{% endif %}{% if naming_chart %}<li><a href="#naming">Who can be named</a></li>{% endif %}{% if strip %}<li><a href="#patient">One patient</a></li>{% endif %}{% if worst %}<li><a href="#worst">Worst X-rays</a></li>{% endif %}<li><a href="#table">All settings</a></li><li><a href="#defences">The defences</a></li><li><a href="#reading">How to read it</a></li>
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

<section id="table" aria-labelledby="h-table">
<h2 id="h-table">All settings</h2>
<p>By what a setting claims against the server{% if same_data %}, worst first{% endif %}. Figures are those of the strongest attack run on each setting, in its worst X-ray; {{ "comparison_attacks.csv has a row for every attack." if same_conditions else "their reports have all others." }}</p>
<form class="filters" hidden aria-label="Show settings of"><label>Defence<select name="defence"><option value="">all</option>{% for name in defences %}<option value="{{ name }}">{{ name }}</option>{% endfor %}</select></label><button type="reset">Show all</button><output aria-live="polite"></output></form>
<table class="stack sortable">
<thead><tr><th scope="col">Setting</th><th scope="col">Verdict</th><th scope="col">From attack to limit, dB</th><th scope="col" class="n">Named</th><th scope="col" class="n">ε</th><th scope="col" class="n">AUC</th></tr></thead>
{% for group in promises %}
<tbody><tr class="promise"><th scope="rowgroup" colspan="6">{{ group.promise.title }}<span>{{ group.promise.meaning }}</span></th></tr>
{% for number, row in group.members %}<tr data-filtered="settings" data-defence="{{ row.setting.defence }}"><th scope="row" data-value="{{ row.label }}"><a href="#setting-{{ number }}">{{ row.label }}</a></th><td class="verdict-of" data-value="{{ row.level.value }}">{{ badge(row.level) }}<span class="said">{{ standings[row.level].said }}{% if row.unfinished %}; an attack was cut off{% endif %}</span></td>
<td data-value="{{ "" if row.psnr_worst is none else row.psnr_worst }}">{{ bar(row) }}<span class="said">{{ span(row) }}</span></td><td class="n" data-value="{{ "" if row.tpr_1 is none else row.tpr_1 }}"><span class="on-phone">Named </span>{{ row.tpr_1 | percent }}</td><td class="n" data-value="{{ "" if row.epsilon is none else row.epsilon }}"><span class="on-phone">ε </span>{{ row.epsilon | epsilon }}{% if row.guarantee and row.guarantee.too_large %}<span class="said">too large to promise much</span>{% endif %}</td><td class="n" data-value="{{ "" if row.auc is none else row.auc }}"><span class="on-phone">AUC </span>{{ spread(row.auc, row.auc_std, 3) }}{% if row.auc is not none %}<span class="said">{{ row.runs }} seed{{ "s" if row.runs != 1 }}{% if row.evaluated %}, {{ row.evaluated }} images{% endif %}</span>{% endif %}</td></tr>
{% endfor %}</tbody>
{% endfor %}
</table>
<p class="small">{{ term("named", "Named") }} are patients at one false alarm in a hundred, over all updates that were attacked. A bar goes from what the attack reached, a lower limit of the leak, to the upper limit; hollow and dashed: not settled; without an end: no limit is known. Above 40 dB pictures are copies and the axis is broken. ± is the standard deviation over seeds; an AUC of fewer than {{ fewest }} images is not told. A dash is a value that cannot be had.</p>
<details><summary>All figures</summary>
<div class="scroll" tabindex="0" role="region" aria-label="Table: all figures"><table class="dense">
<thead><tr><th scope="col" class="n">No.</th><th scope="col">Setting</th><th scope="col">Attack</th><th scope="col" class="n">{{ term("psnr", "Worst PSNR") }}</th><th scope="col" class="n">{{ term("bound", "Bound, worst") }}</th><th scope="col" class="n">Bound, mean</th><th scope="col" class="n">{{ term("certificate", "Proved") }}</th><th scope="col" class="n">Mean PSNR</th><th scope="col" class="n">{{ term("expected", "Expected") }}</th><th scope="col" class="n">{{ term("null", "Mean X-ray") }}</th><th scope="col" class="n">Null</th><th scope="col" class="n">{{ term("rank", "Re-identified") }}</th><th scope="col">{{ term("flag", "Flags") }}, notes</th></tr></thead>
<tbody>{% for row in rows %}<tr><td class="n">{{ loop.index }}</td><th scope="row">{{ row.label }}</th><td>{{ row.attack or "–" }}</td><td class="n">{{ row.psnr_worst | figure(1) }}</td><td class="n">{{ row.bound_psnr_worst | figure(1) }}</td><td class="n">{{ row.bound_psnr | figure(1) }}</td><td class="n">{{ row.proved | percent }}</td><td class="n">{{ spread(row.psnr, row.psnr_std, 1) }}</td><td class="n">{{ row.expected_psnr | figure(1) }}</td><td class="n">{{ row.prior_psnr | figure(1) }}</td><td class="n">{{ row.null_psnr | figure(1) }}</td><td class="n">{{ row.reidentified | percent }}</td><td class="wrap">{% for name in row.flags %}{{ titles.get(name, name) }}{{ "; " if not loop.last }}{% endfor %}{% if row.flags and (row.note or row.status != "completed") %}<br>{% endif %}{% if row.status != "completed" %}{{ row.status }}{{ ": " if row.note }}{% endif %}{{ row.note }}</td></tr>
{% endfor %}</tbody></table></div>
<div class="scroll" tabindex="0" role="region" aria-label="Table: further figures"><table class="dense">
<thead><tr><th scope="col" class="n">No.</th><th scope="col">Setting</th><th scope="col" class="n">{{ term("ssim", "SSIM") }}</th><th scope="col" class="n">{{ term("lpips", "LPIPS") }}</th><th scope="col" class="n">{{ term("rdlv", "RDLV") }}</th><th scope="col" class="n">Named at 1 %</th><th scope="col" class="n">Named, FDR 5 %</th><th scope="col" class="n">Identification AUC</th><th scope="col" class="n">Labels read</th><th scope="col" class="n">Loss</th><th scope="col" class="n">{{ term("epsilon", "δ") }}</th><th scope="col" class="n">Images</th><th scope="col" class="n">Runs</th><th scope="col" class="n">Seconds</th></tr></thead>
<tbody>{% for row in rows %}<tr><td class="n">{{ loop.index }}</td><th scope="row">{{ row.label }}</th><td class="n">{{ row.ssim | figure(3) }}</td><td class="n">{{ row.lpips | figure(3) }}</td><td class="n">{{ row.rdlv | figure }}</td><td class="n">{{ row.tpr_1 | percent }}</td><td class="n">{{ row.named | percent }}</td><td class="n">{{ row.identification_auc | figure(3) }}</td><td class="n">{{ row.label_accuracy | percent }}</td><td class="n">{{ row.loss | figure(3) }}</td><td class="n">{{ "–" if row.delta is none else "%.1e" | format(row.delta) }}</td><td class="n">{{ row.images }}</td><td class="n">{{ row.runs }}</td><td class="n">{{ row.seconds | figure(1) }}</td></tr>
{% endfor %}</tbody></table></div>
</details>
</section>

{% if chart %}
<section id="frontier" aria-labelledby="h-frontier">
<h2 id="h-frontier">Leakage against AUC</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Chart of leakage against AUC"><figure class="frontier"><div role="img" aria-label="{{ chart_text }}">{{ chart }}</div></figure></div>
<p class="small">A bar a setting: from what the strongest attack reached in the worst image, a lower limit of the leak, up to the bound, an upper one. Dotted with an arrow: no bound is known. Hollow: open, so the truth may lie anywhere along the bar. Settings of nearly the same AUC stand side by side; above 40 dB, where pictures are copies, and below 10 dB the axis is compressed.{% if front %} The line joins the upper limits that no other setting beats without a lower AUC (Pareto front).{% else %} There is no Pareto front: it takes upper limits, and models that have learnt something.{% endif %}</p>
</section>
{% endif %}

{% if naming_chart %}
<section id="naming" aria-labelledby="h-naming">
<h2 id="h-naming">Who can be named, against AUC</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Chart of naming against AUC"><figure class="frontier"><div role="img" aria-label="{{ naming_text }}">{{ naming_chart }}</div></figure></div>
<p class="small">A mark a setting: the share of those who trained whom the server names among candidates at one false alarm in a hundred, over all updates examined. It is what this attacker got, a lower limit; a low mark is no evidence of safety.</p>
</section>
{% endif %}

{% if worst %}
<section id="worst" aria-labelledby="h-worst">
<h2 id="h-worst">The worst X-ray of each setting</h2>
<p>Left the truth, right what the server made of the update: of each setting its own worst, so patients differ.</p>
<ul class="pairs-of">
{% for one in worst %}<li><strong>{{ one.number }}. {{ one.row.label }}</strong><div class="pair"><div class="thumb">{% if one.truth %}<img src="{{ one.truth }}" alt="The true X-ray that gave away the most under {{ one.row.label }}">{% else %}<span class="none">no picture</span>{% endif %}</div><div class="thumb">{% if one.picture %}<img src="{{ one.picture }}" alt="What {{ one.row.attack }} made of it under {{ one.row.label }}: {{ one.row.psnr_worst | figure(1) }} dB">{% else %}<span class="none">no picture</span>{% endif %}</div></div>{{ badge(one.row.level) }}<span class="said">{{ one.row.psnr_worst | figure(1) }} dB; {{ one.where }}</span></li>
{% endfor %}
</ul>
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
<dt>Named, identification AUC</dt><dd>Share of those who trained whom the server names among candidates, at one false alarm in a hundred and at a false discovery rate of 5 %; and how well they are told from others at all (0.5 is guessing). Not to be taken for the model’s AUC.</dd>
<dt>Verdict</dt><dd>Of the worst image examined. An attack is a lower limit of what leaks, a bound an upper one, so only a bound, the attacker’s posterior or a privacy guarantee says “protected”, and only where it does so of every image.</dd>
{% for level in standings %}<dt>{{ badge(level) }}</dt><dd>{{ level.meaning }} Given when {{ level.rule }}.</dd>
{% endfor %}
</dl>
{% if ruler %}{{ ruler_of(ruler) }}{% endif %}
<h3>Words</h3>
{{ glossary(terms) }}
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
