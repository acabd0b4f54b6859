"""What to do now, each step with its reason; and what goes into an impact assessment."""

SECTION = r"""
{% if steps %}
<section id="next" aria-labelledby="h-next">
<h2 id="h-next">What to do now</h2>
<p>Each step follows by a rule from the verdict, the bound, what was examined and the settings of this run.</p>
<ol class="steps">
{% for step in steps %}<li><strong>{{ step.what | linked }}</strong> {{ step.why | linked }}{% if step.command %} <code>{{ step.command }}</code>{% endif %}</li>
{% endfor %}
</ol>
</section>
{% endif %}
{% if dpia %}
<section id="dpia" aria-labelledby="h-dpia">
<h2 id="h-dpia">For an impact assessment</h2>
<p>A paragraph and a row for a <a class="term" href="#term-dpia">DPIA</a>, to copy: a click selects the paragraph. Likelihood, severity and approval are the officer’s.</p>
<p class="copy">{{ dpia.paragraph }}</p>
<div class="scroll" tabindex="0" role="region" aria-label="Table: row for an impact assessment"><table class="pairs">
<tbody>{% for name, value in dpia.row.items() %}<tr><th scope="row">{{ name }}</th><td>{% if value %}{{ value }}{% else %}<span class="blank">{{ officer }}</span>{% endif %}</td></tr>
{% endfor %}</tbody></table></div>
</section>
{% endif %}
"""
