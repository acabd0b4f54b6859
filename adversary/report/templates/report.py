"""The report of a run: its frame."""

PAGE = r"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy(script) }}">
<title>Leakage report: {{ title }}</title>
<style>{% include "style" %}</style>
</head>
<body>
<a class="skip" href="#summary">To the summary</a>
<header><div>
<h1>What the server could see of the patients</h1>
<p>Leakage report of the run “{{ title }}”{% if info.get("started") %}, {{ info.started[:16] | replace("T", " ") }} UTC{% endif %}, status: {{ info.get("status", "unknown") }}</p>
</div></header>
<nav aria-label="Sections"><div><ul>
<li><a href="#summary">Summary</a></li>{% if named %}<li><a href="#named">Who can be named</a></li>{% endif %}{% if worst %}<li><a href="#leakage">Rounds and clients</a></li>{% endif %}{% if cards %}<li><a href="#gallery">Pictures</a></li>{% endif %}{% if worst %}<li><a href="#figures">Figures</a></li>{% endif %}{% if summary.flags %}<li><a href="#flags">Flags</a></li>{% endif %}{% if accounts %}<li><a href="#privacy">Privacy accounts</a></li>{% endif %}<li><a href="#threat">Threat model</a></li><li><a href="#reading">How to read it</a></li><li><a href="#method">Method and limits</a></li><li><a href="#run">The run</a></li>
</ul></div></nav>
<main>
{% include "summary" %}
{% include "named" %}
{% include "leakage" %}
{% include "gallery" %}
{% include "figures" %}
{% include "threat" %}
{% include "reading" %}
{% include "about" %}
<footer>{% if sensitive %}This page holds no picture of a patient and no name of a file. The folder it was made from does.{% else %}This page holds images of patients where the data are real: keep it as you keep the X-rays.{% endif %} It loads nothing from a network.</footer>
</main>
<script>{{ script }}</script>
</body>
</html>
"""
