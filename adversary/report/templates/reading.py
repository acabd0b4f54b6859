"""How to read the figures."""

SECTION = r"""
{% from "macros" import badge %}
<section id="reading" aria-labelledby="h-reading">
<h2 id="h-reading">How to read it</h2>
<h3>Verdicts</h3>
<table><thead><tr><th scope="col">Verdict</th><th scope="col">Given for</th></tr></thead>
<tbody>{% for level in levels %}<tr><td>{{ badge(level) }}</td><td>{{ level.rule }}</td></tr>{% endfor %}</tbody></table>
<p>An attack is a lower limit of what leaks, a bound an upper one. A patient whom a picture shows is visible, whatever a bound says; only a bound or a posterior that is the prior says protected; an attack that got little says no more than that. Of the others the highest that applies is given, and a client’s verdict is that of its most revealing picture. What was not examined has no verdict.</p>
<h3>Figures</h3>
<dl class="words">
<dt>PSNR</dt><dd>Peak signal-to-noise ratio in decibels, higher is closer. 10 dB more is a tenth of the squared error (MSE). All chest X-rays look alike: the mean of a few reaches about 19 dB.</dd>
<dt>Expected PSNR</dt><dd>What the attacker itself expects of its picture, from its posterior and without the truth. Beside the actual PSNR it shows how far its certificates hold.</dd>
<dt>Certificate</dt><dd>What the attacker states without the truth. Proved: the picture explains the update to its noise, nothing else that was found does, and it tells clearly more than the prior. Nothing: the posterior is the prior. Open: anything less, and any attack that a limit cut off.</dd>
<dt>Mean X-ray, null</dt><dd>PSNR of the mean public X-ray beside the patient, and of the reconstruction beside patients that it did not come from, the mean over them: what any chest X-ray scores. A picture counts for the patient where it is at least {{ null_margin | figure(0) }} dB above the null.</dd>
<dt>Bound</dt><dd>The PSNR that no attacker is expected to exceed on average; a single picture may lie a few dB above it: {% if bound.get("kind") == "Cramer-Rao" %}the Cramér-Rao bound of an unbiased attacker at the true image{% else %}the variance that the noise of the update leaves at the true image to an attacker whose prior is a normal distribution learned from public X-rays (the Bayesian Cramér-Rao bound, taken at this image: it is one on the average over images, a single one may come back better by luck, and under strong noise a better prior sees more){% endif %}. It is found from the model and the noise, with labels and batches given, without running an attack. Where rounding is the only noise it is a good guide and no theorem.{% if bound.get("method") == "stochastic" %} Here it is estimated, with a standard error of at most {{ bound.get("error") | figure }} dB{% if not bound.get("converged", True) %}; where the estimate was cut short the true bound is lower{% endif %}.{% endif %}{% if "others known" in bound.get("scopes", []) %} {{ "For some updates" if bound.scopes | length > 1 else "Here" }} it is the bound of an attacker who knows all other images of the update and their labels, and seeks one: no one who has to find them all sees more.{% endif %}{% if bound.get("subject") == "blends" %} The client trained on blends of patients: it is the bound of the blend, for a patient in several that of the least uncertain one.{% endif %}</dd>
<dt>SSIM</dt><dd>Structural similarity, 1 for identical images.</dd>
<dt>RDLV</dt><dd>Relative data leakage value: how much the SSIM exceeds that of the mean public X-ray, as a fraction of it. 0 means that the attack shows nothing but a chest X-ray; negative means less.</dd>
<dt>Rank, re-identified</dt><dd>The place of the true patient when all candidates are ordered by correlation with the reconstruction; re-identified means first. Compare it with chance{% if summary.chance %}, here {{ summary.chance | percent }}{% endif %}. A picture with black and white exchanged that is first once inverted counts too: the label was read wrongly.</dd>
<dt>LPIPS</dt><dd>Perceptual distance by a neural network (SqueezeNet), 0 for identical images.</dd>
<dt>FFT-2D</dt><dd>Similarity of the Fourier spectra, 1 for identical images; about 0.5 for unrelated images of like brightness.</dd>
<dt>Own score</dt><dd>The attack’s own objective, lower is a better fit to the update. It is all that a real attacker has to choose by.</dd>
</dl>
</section>
"""
