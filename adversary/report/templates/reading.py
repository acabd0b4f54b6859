"""How to read the figures."""

SECTION = r"""
{% from "macros" import badge, glossary, ruler_of, term %}
<section id="reading" aria-labelledby="h-reading">
<h2 id="h-reading">How to read it</h2>
<h3>Verdicts</h3>
<table><thead><tr><th scope="col">{{ term("verdict", "Verdict") }}</th><th scope="col">Given for</th></tr></thead>
<tbody>{% for level in levels %}<tr><td>{{ badge(level) }}</td><td>{{ level.rule }}</td></tr>{% endfor %}</tbody></table>
<p>An attack is a lower limit of what leaks, a bound an upper one. A patient whom a picture shows is visible, whatever a bound says; only a bound, a posterior that is the prior or a privacy guarantee says protected; an attack that got little says no more than that. Of the others the highest that applies is given, and a client’s verdict is that of its most revealing picture. What was not examined has no verdict.</p>
{% if ruler %}{{ ruler_of(ruler) }}{% endif %}
<h3>Words</h3>
{{ glossary(terms) }}
{% if summary.bound is not none %}<p>The bound of this run is {% if bound.get("kind") == "Cramer-Rao" %}the Cramér-Rao bound of an unbiased attacker at the true image{% else %}the variance that the noise of the update leaves at the true image to an attacker whose prior is a normal distribution learned from public X-rays (the Bayesian Cramér-Rao bound, taken at this image: it is one on the average over images, a single one may come back better by luck, and under strong noise a better prior sees more){% endif %}. It is found from the model and the noise, with labels and batches given, without running an attack. Where rounding is the only noise it is a good guide and no theorem.{% if bound.get("method") == "stochastic" %} Here it is estimated, with a standard error of at most {{ bound.get("error") | figure }} dB{% if not bound.get("converged", True) %}; where the estimate was cut short the true bound is lower{% endif %}.{% endif %}{% if "others known" in bound.get("scopes", []) %} {{ "For some updates" if bound.scopes | length > 1 else "Here" }} it is the bound of an attacker who knows all other images of the update and their labels, and seeks one: no one who has to find them all sees more.{% endif %}{% if bound.get("subject") == "blends" %} The client trained on blends of patients: it is the bound of the blend, for a patient in several that of the least uncertain one.{% endif %}</p>{% endif %}
{% if summary.chance %}<p>By chance a reconstruction is re-identified with probability {{ summary.chance | percent }} here.</p>{% endif %}
</section>
"""
