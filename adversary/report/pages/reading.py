"""How to read the figures."""

SECTION = r"""
{% from "macros" import badge %}
<section id="reading" aria-labelledby="h-reading">
<h2 id="h-reading">How to read it</h2>
<h3>Verdicts</h3>
<table><thead><tr><th scope="col">Verdict</th><th scope="col">Given for</th></tr></thead>
<tbody>{% for level in levels %}<tr><td>{{ badge(level) }}</td><td>{{ level.rule }}</td></tr>{% endfor %}</tbody></table>
<p>The highest that applies. A client’s verdict is that of its most revealing picture.</p>
<h3>Figures</h3>
<dl class="words">
<dt>PSNR</dt><dd>Peak signal-to-noise ratio in decibels, higher is closer. 10 dB more is a tenth of the squared error (MSE). All chest X-rays look alike: the mean of a few reaches about 19 dB.</dd>
<dt>Bound</dt><dd>The PSNR that no attacker is expected to exceed: {% if bound.get("kind") == "Cramer-Rao" %}the Cramér-Rao bound of an unbiased attacker at the true image{% else %}the variance that the noise of the update leaves at the true image to an attacker whose prior is a normal distribution learned from public X-rays (the Bayesian Cramér-Rao bound, taken at this image: it is one on the average over images, a single one may come back better by luck, and under strong noise a better prior sees more){% endif %}. It is found from the model and the noise, with labels and batches given, without running an attack. Where rounding is the only noise it is a good guide and no theorem.{% if bound.get("method") == "stochastic" %} Here it is estimated, with a standard error of at most {{ bound.get("error") | figure }} dB{% if not bound.get("converged", True) %}; where the estimate was cut short the true bound is lower{% endif %}.{% endif %}{% if "others known" in bound.get("scopes", []) %} {{ "For some updates" if bound.scopes | length > 1 else "Here" }} it is the bound of an attacker who knows all other images of the update and their labels, and seeks one: no one who has to find them all sees more.{% endif %}{% if bound.get("subject") == "blends" %} The client trained on blends of patients: it is the bound of the blend, for a patient in several that of the least uncertain one.{% endif %}</dd>
<dt>SSIM</dt><dd>Structural similarity, 1 for identical images.</dd>
<dt>RDLV</dt><dd>Relative data leakage value: how much the SSIM exceeds that of the mean public X-ray, as a fraction of it. 0 means that the attack shows nothing but a chest X-ray; negative means less.</dd>
<dt>Rank, re-identified</dt><dd>The place of the true patient when all candidates are ordered by correlation with the reconstruction; re-identified means first. Compare it with chance.</dd>
<dt>LPIPS</dt><dd>Perceptual distance by a neural network (SqueezeNet), 0 for identical images.</dd>
<dt>FFT-2D</dt><dd>Similarity of the Fourier spectra, 1 for identical images; about 0.5 for unrelated images of like brightness.</dd>
<dt>Own score</dt><dd>The attack’s own objective, lower is a better fit to the update. It is all that a real attacker has to choose by.</dd>
</dl>
</section>
"""
