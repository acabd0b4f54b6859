"""The report of a run: its frame."""

PAGE = r"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy(script) }}">
<title>{{ headline }} – leakage report of {{ about.title }}, defence {{ about.protection }}</title>
<style>{% include "style" %}{% include "print" %}</style>
</head>
<body>
<a class="skip" href="#summary">To the summary</a>
<aside class="notice" aria-label="Confidentiality">{{ notice }}</aside>
<header><div>
<h1>What the server could see of the patients</h1>
<p><strong>{{ about.title }}</strong> · {{ about.line }} · status: {{ info.get("status", "unknown") }}{% if comparison %} · <a href="{{ comparison }}">back to the comparison</a>{% endif %}</p>
</div></header>
<nav aria-label="Sections"><div><ul>
<li><a href="#summary">Summary</a></li>{% if steps %}<li><a href="#next">What to do</a></li>{% endif %}{% if dpia %}<li><a href="#dpia">Impact assessment</a></li>{% endif %}{% if named %}<li><a href="#named">Names</a></li>{% endif %}{% if worst %}<li><a href="#leakage">Rounds</a></li>{% endif %}{% if cards %}<li><a href="#gallery">Pictures</a></li>{% endif %}{% if worst %}<li><a href="#figures">Figures</a></li>{% endif %}{% if summary.flags %}<li><a href="#flags">Flags</a></li>{% endif %}{% if accounts %}<li><a href="#privacy">Accounts</a></li>{% endif %}<li><a href="#threat">Threat model</a></li><li><a href="#reading">How to read</a></li><li><a href="#method">Method</a></li><li><a href="#run">The run</a></li>
</ul></div></nav>
<main>
{% include "first page" %}
{% include "summary" %}
{% include "sign" %}
{% include "next steps" %}
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
