"""The threat model in plain words."""

SECTION = r"""
{% from "macros" import term %}
<section id="threat" aria-labelledby="h-threat">
<h2 id="h-threat">Threat model: what the attacker knows</h2>
{% if info.get("audit") %}<p>The attacker has a model before and after training, and was told how it was trained.</p>
{% else %}<p>The attacker is the server itself. It is {{ term("server", "honest but curious") }}: it follows the protocol, changes nothing, and looks at what it receives.</p>{% endif %}
<div class="scroll" tabindex="0" role="region" aria-label="Table: what the attacker knows"><table class="stack">
<thead><tr><th scope="col">What</th><th scope="col">From where</th><th scope="col">In this run</th></tr></thead>
<tbody>{% for one in knowledge %}<tr><th scope="row">{{ one.thing }}</th><td class="source">{% if one.source == "oracle" %}<span class="badge l4">oracle</span>{% else %}{{ one.source }}{% endif %}</td><td>{{ one.meaning }}</td></tr>
{% endfor %}</tbody></table></div>
<p>{% if oracles %}<strong>Beyond what a server has it was told ({{ term("oracle", "oracle") }}): {{ oracles | join(", ") }}.</strong> With these grants the figures are an upper bound on what this attack reaches in the field.{% else %}<strong>It was told nothing beyond what a server has.</strong>{% endif %}</p>
{% if defence.get("protects") %}<p>The {{ term("defence", "defence") }} “{{ defence.get("name", "–") }}”: {{ defence.protects }}</p>{% endif %}
</section>
"""
