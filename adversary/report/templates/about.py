"""Method, limits and references, and all that it takes to repeat the run."""

SECTION = r"""
{% from "macros" import pairs %}
<section id="method" aria-labelledby="h-method">
<h2 id="h-method">Method, limits and references</h2>
<h3>Method</h3>
<ol>
<li>Each round clients train the model that they are sent on X-rays of their own, and return an update.</li>
<li>A copy of what returns goes to the attacker; the federation goes on with the original, so that the attack changes nothing.</li>
<li>An attack seeks images that, trained on in the same way, would give the same update. Of several starts it keeps the one with the best score of its own.</li>
<li>Only then are truth and reconstruction put side by side: matched one to one, measured, ranked among all candidates, and held against patients that they did not come from.</li>
</ol>
{% if methods %}<p>Attacks of this run:</p>
<ul>{% for method in methods %}<li><strong>{{ method.name }}</strong>{% if method.title %}: {{ method.title }} ({{ method.reference }}){% endif %}</li>{% endfor %}</ul>{% endif %}
<h3>Limits</h3>
<ul>
<li>These figures are what the attacks named here reached. They are no upper bound on what a better attack could see; where there is a figure for it, the bound says what no attacker with such a prior is expected to exceed.</li>
<li>Matching with the true images uses the least squared error, which favours the attacker; the choice among an attack’s restarts does not use the truth.</li>
<li>Re-identification is among the candidates of this run. Among more patients it is harder, and with other knowledge about a patient easier.</li>
<li>The report can support a data-protection impact assessment (GDPR, Article 35). EDPB Opinion 28/2024 asks whether personal data can be obtained from a model by means reasonably likely to be used. This page is evidence for that judgement, not the judgement.</li>
</ul>
<h3>References</h3>
<ul>{% for source in sources %}<li>{{ source }}</li>
{% endfor %}</ul>
</section>

<section id="run" aria-labelledby="h-run">
<h2 id="h-run">The run</h2>
{{ pairs([
  ("status", info.get("status", "–")), ("started", info.get("started", "–")), ("ended", info.get("ended", "–")),
  ("wall time", "%.1f s" | format(info.seconds) if info.get("seconds") is number else "–"),
  ("seed", info.get("seed", "–")), ("device", info.get("device", "–")), ("revision", info.get("revision", "–")),
  ("data", data.get("name", "–")), ("attribution", data.get("attribution", "–")), ("synthetic images", "yes" if data.get("synthetic") else "no"),
]) }}
{% if settings %}<details><summary>All settings</summary>{{ pairs(settings) }}</details>{% endif %}
{% if versions %}<details><summary>Versions of the software</summary>{{ pairs(versions) }}</details>{% endif %}
</section>
"""
