"""The index of runs."""

HISTORY_PAGE = r"""{% from "macros" import badge %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy(script) }}">
<title>Runs in {{ title }}</title>
<style>{% include "style" %}{% include "print" %}
@page { size: A4 landscape; }
.runs tbody th { white-space: normal; overflow-wrap: anywhere; } .runs .badge { white-space: normal; }
</style>
</head>
<body>
<aside class="notice" aria-label="Confidentiality">{{ notice }}</aside>
<header><div>
<h1>What was run, and what it found</h1>
<p>{{ runs | length }} run{{ "s" if runs | length != 1 }} in “{{ title }}”, the latest first</p>
</div></header>
<main>
<table class="stack runs">
<thead><tr><th scope="col">Run</th><th scope="col">Begun, UTC</th><th scope="col">Data</th><th scope="col">Defence</th><th scope="col">Verdict</th><th scope="col" class="n">Worst, dB</th><th scope="col" class="n">Limit, dB</th><th scope="col" class="n">ε</th><th scope="col">Named</th><th scope="col">Since the last of these settings</th></tr></thead>
<tbody>{% for run in runs %}<tr><th scope="row">{% if run.href %}<a href="{{ run.href }}">{{ run.name }}</a>{% else %}{{ run.name }}{% endif %}</th><td>{{ run.started or "–" }}</td><td>{{ run.about.data or "–" }}</td><td>{{ run.about.protection }}</td><td>{{ badge(run.summary.level) }}{% if run.status != "completed" %} {{ run.status }}{% endif %}</td><td class="n"><span class="on-phone">worst, dB </span>{{ run.summary.worst.get("psnr") | figure(1) }}</td><td class="n"><span class="on-phone">limit, dB </span>{{ run.summary.bound | figure(1) }}</td><td class="n"><span class="on-phone">ε </span>{{ "–" if run.guarantee is none else run.guarantee.epsilon | epsilon }}</td><td>{{ run.summary.named.words if run.summary.named else "–" }}</td><td>{{ run.changed }}</td></tr>
{% endfor %}</tbody></table>
<p class="small">The limit is the bound of the X-ray with the most to see; the worst is the PSNR of the X-ray that gave away the most. An ε stands only where it is earned. A dash is a value that cannot be had. Each report says what was examined.</p>
<footer>Made by <code>fl-sim report</code>, from the runs’ folders alone. It loads nothing from a network.</footer>
</main>
</body>
</html>
"""
